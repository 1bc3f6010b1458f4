"""The commands in the README run against a server with the sample catalogue and print what the README shows.

Those of the page about pricing run there in their order.
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.processes import ServerProcess

BLOCK = re.compile(r"<!-- run by the tests -->\n```console\n(.*?)```", re.DOTALL)
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")
PAGE_BLOCK = re.compile(r"<!-- run by the tests -->\n```\n(.*?)```", re.DOTALL)
CHANGING = [
    (TIME, "TIME"),
    (re.compile(r"[ ─]+"), " "),
]
"""Patterns of text that differs between runs, with the replacement for the comparison."""
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{64}\b")
"""An id or a hash. Each is replaced with the number of its first occurrence in the run."""
RUN_MAX = timedelta(minutes=5)


def transcript() -> list[tuple[str, str]]:
    """Return (command, output) of every command, in order. Lines that end in a backslash continue a command."""
    text = "".join(BLOCK.findall((ROOT / "README.md").read_text())).replace("\\\n", "")
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in text.split("$ ")[1:]]


def normalised(output: str, ids: dict[str, str]) -> list[str]:
    """Return the non-empty lines with changing parts replaced.

    Args:
        ids: the ids of the run so far and their replacements; new ones are added.
    """
    output = ID.sub(lambda found: ids.setdefault(found[0], f"ID-{len(ids) + 1}"), output)
    for pattern, instead in CHANGING:
        output = pattern.sub(instead, output)
    return [line.strip() for line in output.splitlines() if line.strip()]


def login_command(server: ServerProcess) -> str:
    """Return the first command that `make run` prints according to the README, for a server of the tests."""
    shown = re.search(r"^  \.venv/bin/(storekeep login .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert shown is not None
    return shown[1].replace("127.0.0.1:50051", server.address).replace("var/", f"{server.data_dir}/")


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment of a shell that is logged in as the README says, to a server with the sample catalogue."""
    folder = tmp_path_factory.mktemp("readme")
    server = ServerProcess(folder / "server", arguments=("--sample",))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")}
    environment |= {
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(folder),
        "COLUMNS": "160",
    }
    subprocess.run(["bash", "-c", login_command(server)], env=environment, check=True, timeout=60)
    yield environment
    server.kill()


def run_command_line(command: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell. Its two outputs are one."""
    return subprocess.run(
        ["bash", "-c", command],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def test_readme_commands_run_as_written_print_what_the_readme_shows(shop: dict[str, str], tmp_path: Path) -> None:
    commands = transcript()
    assert len(commands) >= 4
    ids: dict[str, str] = {}
    ids_shown: dict[str, str] = {}
    for command, shown in commands:
        done = run_command_line(command, shop, tmp_path)
        assert normalised(done.stdout, ids) == normalised(shown, ids_shown), command


def test_readme_shows_one_run() -> None:
    shown = "".join(output for _, output in transcript())
    times = [datetime.strptime(time, "%Y-%m-%d %H:%M:%S%z") for time in TIME.findall(re.sub("expires .*", "", shown))]
    assert len(times) >= 4
    assert max(times) - min(times) < RUN_MAX


def test_commands_of_the_page_about_pricing_run_in_their_order(shop: dict[str, str], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "pricing.md").read_text()
    lines = [line for block in PAGE_BLOCK.findall(page) for line in block.splitlines()]
    assert len(lines) >= 20
    assert page.count("```\n") == 2 * page.count("<!-- run by the tests -->")
    next_week = f"{datetime.now() + timedelta(days=7):%Y-%m-%d}"
    for line in lines:
        done = run_command_line(re.sub(r"(?<=--until )\S+", next_week, line), shop, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}"
