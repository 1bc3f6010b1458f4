"""docs/cli.md is correct: its transcript runs and its tables match the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from storekeep.cli.exits import MEANINGS
from storekeep.cli.imports import orders
from storekeep.imports.columns import Target
from storekeep.imports.kinds import KINDS
from tests.cli.test_commands import COMMANDS
from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def rows(text: str) -> set[tuple[str, ...]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {tuple(cell.strip(" `") for cell in line.strip("|").split("|")) for line in lines}


def test_transcript_runs(
    bare_cli: CommandLine, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("var").mkdir()
    Path("var/admin.key").write_text(server.admin_key)
    Path("tea.csv").write_text("code,title,net\nTEA-1,Tea,2.50\n")
    lines = re.findall(r"^\$ storekeep (.*)$", PAGE, flags=re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        run = bare_cli(*shlex.split(line.replace("127.0.0.1:50051", server.address)))
        assert run.code == 0, run.err


def test_exit_codes_are_the_programs() -> None:
    section = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    assert rows(section) == {("code", "meaning"), *((str(code.value), text) for code, text in MEANINGS.items())}


@pytest.mark.parametrize(
    ("noun", "targets"), [*((kind.noun, kind.targets) for kind in KINDS), ("orders", orders.TARGETS)]
)
def test_targets_are_the_programs(noun: str, targets: tuple[Target, ...]) -> None:
    section = PAGE.partition(f"### `storekeep import {noun}`")[2].partition("\n##")[0]
    expected = {(target.name, "yes" if target.required else "", target.help) for target in targets}
    assert rows(section) == {("target", "required", "what it is"), *expected}


def test_every_group_is_named() -> None:
    assert {path[0] for path, _ in COMMANDS} - set(re.findall(r"`([a-z]+)`", PAGE)) == set()
