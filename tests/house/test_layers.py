"""The import rules of pyproject.toml hold, and cover every package."""

from __future__ import annotations

import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def rooms() -> list[str]:
    """Return the packages of the server and of the clients, as module names."""
    folders = [*(ROOT / "server/storekeep/server").iterdir(), *(ROOT / "clients/storekeep").iterdir()]
    packages = [folder for folder in folders if folder.is_dir() and any(folder.glob("*.py"))]
    return sorted(".".join(folder.relative_to(ROOT).parts[1:]) for folder in packages)


def test_layers_hold() -> None:
    linter = Path(sysconfig.get_path("scripts"), "lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("room", rooms())
def test_room_states_what_it_may_not_import(room: str) -> None:
    sources = {source for rule in RULES for source in rule.get("source_modules", [])}
    assert room in sources, f"{room} needs a contract of type `forbidden` in pyproject.toml"


@pytest.mark.parametrize("container", ["storekeep", "storekeep.server"])
def test_layers_are_exhaustive(container: str) -> None:
    assert [rule for rule in RULES if rule.get("containers") == [container] and rule.get("exhaustive")]
