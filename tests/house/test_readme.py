"""The README's transcripts are run: each command against a server with the sample catalogue, its output compared."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from tests.support.processes import ServerProcess

BLOCK = re.compile(r"<!-- run by the tests -->\n```console\n(.*?)```", re.DOTALL)
CHANGING = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "HASH"),
    (re.compile(r"entries checked\s+\d+"), "entries checked N"),
    (re.compile(r"[ ─]+"), " "),
]
"""What differs from run to run, and what is written for it in both transcripts before they are compared."""


def transcript() -> list[tuple[str, str]]:
    """(command, output) of every command, in order; a command may go on over lines that end in a backslash."""
    text = "".join(BLOCK.findall((ROOT / "README.md").read_text())).replace("\\\n", "")
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in text.split("$ ")[1:]]


def normalised(output: str) -> list[str]:
    """The lines that say something, without what changes."""
    for pattern, instead in CHANGING:
        output = pattern.sub(instead, output)
    return [line.strip() for line in output.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a shell that is logged in to a server with the sample catalogue."""
    folder = tmp_path_factory.mktemp("readme")
    server = ServerProcess(folder / "server", arguments=("--sample",))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")}
    environment |= {
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(folder),
        "COLUMNS": "160",
        "STOREKEEP_ADDRESS": server.address,
        "STOREKEEP_API_KEY": server.admin_key,
    }
    yield environment
    server.kill()


def test_readme_commands_run_as_written_print_what_the_readme_shows(shop: dict[str, str], tmp_path: Path) -> None:
    commands = transcript()
    assert len(commands) >= 4
    for command, shown in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            env=shop,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert normalised(done.stdout) == normalised(shown), command
