"""A signal before the server serves ends it with one line and the exit code 128 + n, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import COMMAND, server_environment

ENDS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_signal_during_the_imports_ends_in_one_line(tmp_path: Path, number: int, code: int, word: str) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    # Shadows the real module, and is imported in the middle of the imports.
    (shadow / "apsw.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\nraise AssertionError")
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
