"""Fixtures: the command line with its own config directory, with and without administrator access to the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess


@pytest.fixture
def bare_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A command line without settings or a stored login."""
    for name in ("STOREKEEP_ADDRESS", "STOREKEEP_API_KEY", "STOREKEEP_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def cli(bare_cli: CommandLine, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("STOREKEEP_ADDRESS", server.address)
    monkeypatch.setenv("STOREKEEP_API_KEY", server.admin_key)
    return bare_cli
