"""systemd accepts the unit of docs/operations, and it and the image start commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storekeep.server.command import COMMANDS
from tests.support.checkout import ROOT

FOLDER = ROOT / "docs" / "operations"
UNIT = FOLDER / "storekeep.service"
EXPOSURE_MAX = 20
"""Highest exposure in tenths, as `systemd-analyze security` computes it. The unit has 14."""
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="not installed: systemd-analyze")


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/storekeep/bin", str(Path(sys.executable).parent))
    here.write_text(re.sub(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE))
    verified = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_systemd
def test_unit_leaves_the_server_few_rights() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", str(UNIT)]
    analyzed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert analyzed.returncode == 0, analyzed.stdout


@pytest.mark.parametrize("name", [UNIT.name, "Containerfile"])
def test_commands_of_the_file_exist(name: str) -> None:
    commands = re.findall(r"storekeep-server[\", ]+(\w+)", (FOLDER / name).read_text())
    assert {"migrate", "serve"} <= set(commands) <= set(COMMANDS)
