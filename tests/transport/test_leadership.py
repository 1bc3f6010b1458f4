"""Writership: exactly one worker has it, and it passes on when that one lets go of it or dies."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from storekeep.server.transport.leadership import Worker, WorkerFolder, Writership
from tests.support.clusters import await_that


@pytest.fixture
def folder(tmp_path: Path) -> WorkerFolder:
    made = WorkerFolder(tmp_path / "workers")
    made.make()
    return made


def start(folder: WorkerFolder, number: int) -> Writership:
    writership = Writership(folder.path / "s.db", worker=Worker(number, folder, f"{number}.1"))
    writership.start(lambda: None)
    return writership


def test_one_of_several_writes_and_the_next_when_it_lets_go(folder: WorkerFolder):
    first = start(folder, 0)
    await_that(lambda: first.writes, lambda: "nobody writes")
    second = start(folder, 1)
    assert first.admit()
    assert not second.admit()
    assert second.address() == folder.address("0.1")
    letting_go = threading.Thread(target=first.release, kwargs={"timeout_s": 10})
    letting_go.start()
    await_that(lambda: not first.admit(), lambda: "it still admits changes")
    assert not second.writes, "a change is still under way"
    first.leave()
    await_that(lambda: second.writes, lambda: "it does not pass on")
    letting_go.join(timeout=60)
    assert first.address() == folder.address("1.1")
    second.release(timeout_s=1)


def test_worker_that_ends_before_its_turn_never_writes(folder: WorkerFolder):
    first = start(folder, 0)
    await_that(lambda: first.writes, lambda: "nobody writes")
    second, third = start(folder, 1), start(folder, 2)
    second.release(timeout_s=1)
    first.release(timeout_s=1)
    await_that(lambda: third.writes, lambda: "it does not pass on")
    assert not second.writes
    third.release(timeout_s=1)
    assert third.address() == ""


def test_folder_with_a_long_path_can_be_listened_in(tmp_path: Path):
    import socket

    deep = WorkerFolder(tmp_path / ("d" * 120))
    deep.make()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(deep.address("0.1").removeprefix("unix:"))
        listener.listen()
        deep.link("0", to="0.1")
        caller.connect(deep.address("0").removeprefix("unix:"))
    assert deep.workers() == ["0"]
    deep.make()
    assert deep.workers() == []
