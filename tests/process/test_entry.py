"""A signal before the server serves ends it with one line and the exit code 128 + n, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, run_command, server_environment

ENDS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.mark.parametrize("module", ["signal", "apsw"])
@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_signal_during_the_imports_ends_in_one_line(
    tmp_path: Path, number: int, code: int, word: str, module: str
) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    # Shadows the real module: `signal` is among the first that are imported, `apsw` in the middle.
    (shadow / f"{module}.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\nraise AssertionError")
    environment = server_environment(tmp_path) | {"PYTHONPATH": str(shadow)}
    ended = subprocess.run([COMMAND, "serve"], env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", f"storekeep-server: {word}\n")


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_signal_during_a_command_ends_in_one_line(tmp_path: Path, number: int, code: int, word: str) -> None:
    settings_file = tmp_path / "settings"
    os.mkfifo(settings_file)
    environment = server_environment(tmp_path, config_file=str(settings_file))
    process = subprocess.Popen(
        [COMMAND, "migrate"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with settings_file.open("w"):  # opens when the command reads its settings, and keeps it waiting
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (code, "", f"storekeep-server: {word}\n")


def test_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "apsw.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGINT)})\nos._exit(7)")
    environment = server_environment(tmp_path) | {"PYTHONPATH": str(shadow)}
    ended = subprocess.run(
        ["sh", "-c", f"trap '' INT; exec {COMMAND} migrate"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (7, "")


LISTING = """
import sys
from storekeep.server.__main__ import main
sys.argv = ["storekeep-server", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write("\\n".join(sys.modules))
"""
STORE = {"apsw", "peewee", "psycopg", "storekeep.server.domain.orders", "storekeep.server.store.engine"}
SERVER = {"storekeep.server.app", "storekeep.server.servicers", "storekeep.server.jobs", "protovalidate", "httpx"}

SERVING = {"httpx", "jwt", "storekeep.server.app", "storekeep.server.servicers", "storekeep.server.domain.webhooks"}


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], STORE | SERVER | {"pydantic", "grpc"}),
        (["serve", "--help"], STORE | SERVER | {"pydantic", "grpc"}),
        (["--version"], STORE | SERVER | {"pydantic", "grpc"}),
        (["config", "print"], STORE | SERVER | {"grpc"}),
        (["healthcheck", "--address", "127.0.0.1:1"], STORE | SERVER),
        (["backup", "nowhere/copy.db"], SERVING),
        (["migrate"], SERVING | {"grpc", "storekeep.server.domain.orders"}),
        (["config", "check"], SERVING | {"storekeep.server.domain.orders"}),
        (["doctor"], {"httpx", "storekeep.server.app", "storekeep.server.servicers"}),
    ],
)
def test_command_does_not_import_what_it_does_not_need(
    tmp_path: Path, arguments: list[str], forbidden: set[str]
) -> None:
    environment = server_environment(tmp_path)
    command = [sys.executable, "-c", LISTING, *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    modules = set(ended.stderr.splitlines())
    assert "storekeep.server.command" in modules
    assert modules & forbidden == set()


@pytest.mark.parametrize("argument", ["9" * 5_000, "9 " * 5_000])
def test_error_repeats_only_the_ends_of_long_words_and_lines(tmp_path: Path, argument: str) -> None:
    for arguments in ([argument], ["restore", argument, argument]):
        ran = run_command(*arguments, data_dir=tmp_path)
        assert ran.returncode == 2
        assert ran.stderr.startswith("storekeep-server: ")
        assert " ..." in ran.stderr or "9..." in ran.stderr
        assert len(ran.stderr) < 5_000
