"""The command `storekeep-gateway`: a signal before it serves ends it in one line, and its help imports little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.forks import run_fork
from tests.support.gateways import COMMAND

TIMEOUT_S = 600
ENDS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
LISTING = """
import sys
from storekeep.gateway.__main__ import main
sys.argv = ["storekeep-gateway", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write("\\n" + "\\n".join(sys.modules))
"""


def make_environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")}
    return {**inherited, "STOREKEEP_HTTP_LISTEN": "127.0.0.1:0", **variables}


@pytest.mark.parametrize("module", ["typing", "argparse", "granian"])
@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_signal_during_the_imports_ends_in_one_line(
    tmp_path: Path, number: int, code: int, word: str, module: str
) -> None:
    # Shadows the real module, from one of the first that are imported to one of the last.
    (tmp_path / f"{module}.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\nraise AssertionError")
    ended = subprocess.run(
        [COMMAND, "serve"],
        env=make_environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", f"storekeep-gateway: {word}\n")


def test_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    (tmp_path / "granian.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGINT)})\nos._exit(7)")
    ended = subprocess.run(
        ["sh", "-c", f"trap '' INT; exec {COMMAND} serve"],
        env=make_environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (ended.returncode, ended.stderr) == (7, "")


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["healthcheck", "-h"], ["srve"]])
def test_help_imports_neither_the_gateway_nor_its_libraries(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LISTING, *arguments],
        env=make_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    modules = set(run.stderr.splitlines())
    assert "storekeep.gateway.command" in modules
    heavy = {"asyncio", "granian", "grpc", "pydantic", "rich", "starlette", "storekeep.client", "storekeep.console"}
    assert modules & heavy == set()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["srve"], "no such command: srve; did you mean serve? (see storekeep-gateway --help)"),
        ([], "the following arguments are required: COMMAND (see storekeep-gateway --help)"),
        (
            ["serve", "--end-with", "x"],
            "argument --end-with: 'x' is not the id of a process (see storekeep-gateway serve --help)",
        ),
    ],
)
def test_usage_error_is_one_line(arguments: list[str], problem: str) -> None:
    done = run_fork([COMMAND, *arguments], environment=make_environment(), timeout_s=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"storekeep-gateway: {problem}")


@pytest.mark.parametrize("argument", ["9" * 4_000, "9" * 5_000, "9 " * 5_000])
def test_error_repeats_only_the_ends_of_long_words_and_lines(argument: str) -> None:
    for arguments in ([argument], ["serve", "--end-with", argument]):
        done = run_fork([COMMAND, *arguments], environment=make_environment(), timeout_s=TIMEOUT_S)
        assert (done.returncode, done.stdout) == (2, "")
        assert " ..." in done.stderr or "9..." in done.stderr
        assert len(done.stderr) < 5_000
