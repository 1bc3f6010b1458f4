"""The cooperative scheduler, with tasks on real sockets."""

from __future__ import annotations

import gc
import math
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.runtime.tasks import TaskScheduler, await_socket
from tests.support.clusters import suspend
from tests.support.greenlets import count_living_greenlets

TIMEOUT_S = 60.0
TRIES = 20


@pytest.fixture
def scheduler() -> Iterator[TaskScheduler]:
    made = TaskScheduler(
        name="test-scheduler", tasks_max=4, admission=AdmissionController(WRITES, length_max=3, wait_max_s=TIMEOUT_S)
    )
    yield made
    made.end(wait=True, drop_queued=True)


class Asked:
    """A task that waits for an answer on a socket, and the other end of that socket."""

    def __init__(self, scheduler: TaskScheduler, *, timeout_s: float = math.inf) -> None:
        self._answering, self.waiting = socket.socketpair()
        self.begun, self.done = threading.Event(), threading.Event()
        self.came: list[bool] = []
        self.thread = ""
        self._deadline = time.monotonic() + timeout_s
        scheduler.put(self._run)

    def _run(self) -> None:
        self.thread = threading.current_thread().name
        self.begun.set()
        for _ in range(2):  # the same socket is used twice
            self.came.append(await_socket(self.waiting.fileno(), select.POLLIN, self._deadline))
            if self.came[-1]:
                self.waiting.recv(100)
        self.done.set()

    def answer(self) -> None:
        """Send the answer and wait until the task has it, unless the task has stopped waiting."""
        before = len(self.came)
        self._answering.send(b"answer")
        give_up = time.monotonic() + TIMEOUT_S
        while len(self.came) == before and not self.done.is_set():
            assert time.monotonic() < give_up, "the answer did not come"
            time.sleep(0.001)

    def close(self) -> None:
        self._answering.close()
        self.waiting.close()


def test_tasks_wait_at_the_same_time_in_one_thread(scheduler):
    tasks = [Asked(scheduler) for _ in range(4)]
    assert all(task.begun.wait(TIMEOUT_S) for task in tasks)
    for _ in range(2):
        for task in reversed(tasks):
            task.answer()
    assert all(task.done.wait(TIMEOUT_S) for task in tasks)
    assert {(task.thread, *task.came) for task in tasks} == {("test-scheduler", True, True)}
    for task in tasks:
        task.close()


def test_no_more_tasks_begin_than_may_and_the_next_one_does_when_one_ends(scheduler):
    tasks = [Asked(scheduler) for _ in range(5)]
    assert all(task.begun.wait(TIMEOUT_S) for task in tasks[:4])
    assert not tasks[4].begun.wait(0.1)
    tasks[1].answer()
    tasks[1].answer()
    assert tasks[4].begun.wait(TIMEOUT_S)
    for _ in range(2):
        for task in tasks:
            task.answer()
    assert all(task.done.wait(TIMEOUT_S) for task in tasks)


def test_deadline_that_passes_wakes_the_task_alone(scheduler):
    patient, hasty = Asked(scheduler), Asked(scheduler, timeout_s=0.1)
    begun_s = time.monotonic()
    assert hasty.done.wait(TIMEOUT_S)
    assert hasty.came == [False, False]
    assert time.monotonic() - begun_s < TIMEOUT_S / 2
    assert not patient.done.is_set()
    patient.answer()
    patient.answer()
    assert patient.done.wait(TIMEOUT_S)
    assert patient.came == [True, True]


def test_scheduler_admits_no_task_once_its_queue_is_full(scheduler):
    tasks = [Asked(scheduler) for _ in range(4)]
    assert all(task.begun.wait(TIMEOUT_S) for task in tasks)
    assert scheduler.admits()
    for _ in range(3):
        scheduler.put(lambda: None)
    assert not scheduler.admits()
    for _ in range(2):
        for task in tasks:
            task.answer()
    assert all(task.done.wait(TIMEOUT_S) for task in tasks)


def test_end_waits_for_what_has_begun_and_what_is_queued():
    scheduler = TaskScheduler(
        name="test-scheduler", tasks_max=1, admission=AdmissionController(WRITES, length_max=10, wait_max_s=TIMEOUT_S)
    )
    asked, after = Asked(scheduler), threading.Event()
    scheduler.put(after.set)
    assert asked.begun.wait(TIMEOUT_S)
    ending = threading.Thread(target=lambda: scheduler.end(wait=True, drop_queued=False))
    ending.start()
    time.sleep(0.05)
    assert ending.is_alive()
    asked.answer()
    asked.answer()
    ending.join(TIMEOUT_S)
    assert not ending.is_alive()
    assert asked.done.is_set()
    assert after.is_set()


def test_thread_without_a_loop_waits_by_itself():
    answering, waiting = socket.socketpair()
    assert not await_socket(waiting.fileno(), select.POLLIN, time.monotonic() + 0.05)
    answering.send(b"answer")
    assert await_socket(waiting.fileno(), select.POLLIN, math.inf)


STOPPED = """
import os, select, socket, sys, threading, time
from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.runtime.tasks import TaskScheduler, await_socket

answered = threading.Event()

def wait():
    print("waits", flush=True)
    came = await_socket(0, select.POLLIN, time.monotonic() + 1.0)
    print(came, flush=True)
    answered.set()

if sys.argv[1] == "scheduler":
    TaskScheduler(name="test", tasks_max=1, admission=AdmissionController(WRITES, length_max=1, wait_max_s=9)).put(wait)
else:
    wait()
answered.wait(20)
"""


@pytest.mark.parametrize("where", ["thread", "scheduler"])
def test_answer_that_came_while_the_process_was_stopped_counts_though_the_time_is_over(where: str):
    for _ in range(TRIES):
        if (came := came_while_stopped(where)) is not None:
            break
    assert came


def came_while_stopped(where: str) -> bool | None:
    """Return whether a process saw an answer that arrived while it was stopped; None if the deadline passed before."""
    command = [sys.executable, "-c", STOPPED, where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.2)  # time to enter the wait; if it has not yet, the test still passes
        suspend(process.pid)
        was_in_time = not select.select([process.stdout], [], [], 0)[0]
        process.stdin.write("answer")
        process.stdin.flush()
        time.sleep(1.2)  # longer than its deadline
        process.send_signal(signal.SIGCONT)
        came = process.stdout.readline() == "True\n"
        return came if was_in_time else None


def test_loop_that_has_ended_leaves_nothing_behind():
    before = count_living_greenlets()
    for tasks_max in (1, 4):
        scheduler = TaskScheduler(
            name="test-scheduler",
            tasks_max=tasks_max,
            admission=AdmissionController(WRITES, length_max=10, wait_max_s=TIMEOUT_S),
        )
        tasks = [Asked(scheduler) for _ in range(4)]
        for task in tasks:
            assert task.begun.wait(TIMEOUT_S)
            for _ in range(2):
                task.answer()
        scheduler.end(wait=True, drop_queued=False)
        for task in tasks:
            task.close()
    gone = weakref.ref(scheduler)
    del scheduler, tasks, task
    gc.collect()
    assert gone() is None
    assert count_living_greenlets() <= before
