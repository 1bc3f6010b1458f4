"""Installation recovers from a Python without pip, from Ctrl-C, and from an environment without its Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

SCRIPT = ROOT / "supply" / "install.sh"
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "nothing"
version = "1"
"""
# A build backend that needs no package from a registry.
BACKEND = """
import pathlib, zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(pathlib.Path(folder, "nothing-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("nothing-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: nothing\\nVersion: 1\\n")
        wheel.writestr("nothing-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("nothing-1.dist-info/RECORD", "")
    return "nothing-1-py3-none-any.whl"
"""
# Debian's python3 without python3-venv and without python3-pip.
WITHOUT_PIP = """#!/bin/sh
case "$*" in
  "-m venv --clear --without-pip "*) exec {python} "$@" ;;
  "-m venv "*) {python} -m venv --without-pip "$3"; exit 1 ;;
  "-m pip "*) exit 1 ;;
esac
exec {python} "$@"
"""


# As containers have it.
BYTECODE_OFF = {"PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a project that needs no package."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "some.lock").write_text("# nothing\n")
    (tmp_path / "unknown.lock").write_text(f"there-is-no-such-package==1 --hash=sha256:{'0' * 64}\n")
    python = tmp_path / "python-without-pip"
    python.write_text(WITHOUT_PIP.format(python=sys.executable))
    python.chmod(0o755)
    return tmp_path


def install(
    project: Path, *, python: Path | str = sys.executable, lock: str = "some.lock", environment: str = ".venv"
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [SCRIPT, python, environment, lock, "what is needed"],
        cwd=project,
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull, **BYTECODE_OFF},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode == 0:
        (project / environment / ".installed").touch()  # as make does
    return done


def installed(project: Path) -> bool:
    return any((project / ".venv").glob("lib/python*/site-packages/nothing-1.dist-info"))


def test_install_without_pip_says_what_helps_and_leaves_nothing(project: Path) -> None:
    refused = install(project, python=project / "python-without-pip")
    assert refused.returncode == 1
    assert "apt-get install python3-venv" in refused.stderr
    assert not (project / ".venv").exists()


# One test, because creating an environment takes seconds.
def test_install_keeps_what_is_finished_and_makes_anew_what_is_not(project: Path) -> None:
    half_made, kept = project / ".venv/half-made", project / ".venv/kept"
    half_made.mkdir(parents=True)
    (project / "clients").mkdir()
    (project / "clients" / "part.py").write_text("NOTHING = None\n")
    done = install(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(project)
    assert not half_made.exists()
    assert list((project / "clients").glob("__pycache__/part.*.pyc")), "each command would compile it anew"
    kept.touch()
    assert install(project).returncode == 0
    assert kept.exists(), "what is finished is brought up to date and not made anew"
    failed = install(project, lock="unknown.lock")
    assert failed.returncode == 1
    assert "there-is-no-such-package" in failed.stderr
    assert not (project / ".venv/.installed").exists()


def test_install_removes_no_folder_that_is_no_environment(project: Path) -> None:
    (project / "photographs").mkdir()
    refused = install(project, environment="photographs")
    assert refused.returncode == 1
    assert "is not a virtual environment" in refused.stderr
    assert (project / "photographs").is_dir()


@pytest.mark.parametrize("lost", ["python", "packages"])
def test_environment_that_has_lost_something_is_installed_again(tmp_path: Path, lost: str) -> None:
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    if lost == "packages":
        (environment / "bin/python").symlink_to(shutil.which("false") or "/bin/false")
    for stamp in (".installed", ".runtime"):
        (environment / stamp).touch()
    planned = subprocess.run(
        ["make", "--dry-run", f"VENV={environment}", "run"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "supply/install.sh" in planned.stdout
