"""Runs the command line as its entry point does, and captures the result."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from storekeep.cli.app import main


@dataclass(frozen=True)
class Run:
    """The result of one run."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """The command line, logged in to a server through the environment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Run:
        self._monkeypatch.setattr(sys, "argv", ["storekeep", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self._capsys.readouterr()
        code = ended.value.code
        assert "Traceback" not in captured.err
        return Run(int(code or 0), captured.out, captured.err)

    def json(self, *arguments: str) -> Any:
        """Run with --json; expect success."""
        run = self(*arguments, "--json")
        assert run.code == 0, run.err
        return run.document
