"""Atomic file writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from storekeep.server.runtime.files import create_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_halfway(path: Path) -> None:
    with create_file(path, replaces=True) as new:
        new.write_text("half")
        raise LookupError


def test_new_file_has_its_name_only_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "key"
    with create_file(path, replaces=False) as new:
        new.write_text("half")
        assert not path.exists()
        new.write_text("whole")
    assert path.read_text() == "whole"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["key"]


def test_new_file_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path):
    path = tmp_path / "key"
    path.write_text("old")
    with pytest.raises(LookupError):
        fail_halfway(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["key"]


@pytest.mark.parametrize("replaces", [True, False])
def test_new_file_where_one_exists_replaces_it_or_is_refused(tmp_path: Path, replaces: bool):
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    try:
        with create_file(path, replaces=replaces) as new:
            new.write_text("new")
    except FileExistsError:
        assert not replaces
    assert path.read_text() == ("new" if replaces else "old")
    assert stat.S_IMODE(path.stat().st_mode) == (0o600 if replaces else 0o644)
    assert names(tmp_path) == ["key"]


def test_new_file_beside_one_that_a_killed_process_left_is_written(tmp_path: Path):
    path = tmp_path / "key"
    path.with_name(f".key.{os.getpid()}").write_text("half")
    with create_file(path, replaces=False) as new:
        new.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["key"]
