"""Leader election: there is exactly one leader, and a new one when it steps down or dies."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from storekeep.server.transport.leadership import LeaderElection, Worker, WorkerFolder
from tests.support.clusters import await_condition


@pytest.fixture
def folder(tmp_path: Path) -> WorkerFolder:
    made = WorkerFolder(tmp_path / "workers")
    made.make()
    return made


def start(folder: WorkerFolder, number: int) -> LeaderElection:
    election = LeaderElection(folder.path / "s.db", worker=Worker(number, folder, f"{number}.1"))
    election.start(lambda: None)
    return election


def test_one_of_several_writes_and_the_next_when_it_lets_go(folder: WorkerFolder):
    first = start(folder, 0)
    await_condition(lambda: first.is_leader, lambda: "no leader")
    second = start(folder, 1)
    assert first.admit()
    assert not second.admit()
    assert second.address() == folder.address("0.1")
    stepping_down = threading.Thread(target=first.release, kwargs={"timeout_s": 10})
    stepping_down.start()
    await_condition(lambda: not first.admit(), lambda: "it still admits writes")
    assert not second.is_leader, "a write is still in progress"
    first.leave()
    await_condition(lambda: second.is_leader, lambda: "no new leader")
    stepping_down.join(timeout=60)
    assert first.address() == folder.address("1.1")
    second.release(timeout_s=1)


def test_worker_that_ends_before_its_turn_never_writes(folder: WorkerFolder):
    first = start(folder, 0)
    await_condition(lambda: first.is_leader, lambda: "no leader")
    second, third = start(folder, 1), start(folder, 2)
    second.release(timeout_s=1)
    first.release(timeout_s=1)
    await_condition(lambda: third.is_leader, lambda: "no new leader")
    assert not second.is_leader
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
