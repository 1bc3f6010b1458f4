"""Waiting for a socket without holding up a thread: tasks that run by turns in one thread, and a loop that wakes them.

A task runs until it waits in `await_socket`, and then others do. What it is written as stays what it would be in a
thread of its own, but it costs no switch between threads, which is most of what a small query over a network costs.
A task must not hold a lock while it waits: another one in its thread would wait for it for ever.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable

from greenlet import getcurrent, greenlet

from storekeep.server.runtime.admission import AdmissionController

Task = Callable[[], None]
"""Runs to its end; never raises. One that has a method `give_up` can also be refused, at less cost; one with a method
`check` can be checked before it is run, elsewhere than it is run."""

_local = threading.local()


def await_socket(number: int, event: int, deadline: float) -> bool:
    """Wait until a socket can be read or written; False where the deadline passes first.

    Args:
        number: its file descriptor.
        event: `select.POLLIN`, `select.POLLOUT` or both.
        deadline: as a `time.monotonic()`.
    """
    loop: Loop | None = getattr(_local, "loop", None)
    if loop is not None:
        return loop.await_socket(number, event, deadline)
    poll = select.poll()
    poll.register(number, event)
    wait_s = _left(deadline)
    return bool(poll.poll(None if wait_s is None else wait_s * 1000))


def give_up(task: Task) -> bool:
    """Refuse a task where it can be."""
    refuse: Task | None = getattr(task, "give_up", None)
    if refuse is not None:
        refuse()
    return refuse is not None


def flow_of(task: Task) -> str:
    """Return to whose share of a queue a task counts; empty where it does not say."""
    flow: str = getattr(task, "flow", "")
    return flow


def check(task: Task) -> bool:
    """Check a task where it can be; False where that has ended it."""
    passes: Callable[[], bool] | None = getattr(task, "check", None)
    return passes is None or passes()


def _left(deadline: float) -> float | None:
    """Seconds until a deadline; None for an infinite one."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


class Loop:
    """One thread that runs tasks by turns.

    Args:
        name: what the thread is called.
        tasks_max: how many have begun and not ended at a time; further ones wait.
        admission: which tasks may wait to begin.
    """

    def __init__(self, *, name: str, tasks_max: int, admission: AdmissionController) -> None:
        self._tasks_max = tasks_max
        self._admission = admission
        self._queue: collections.deque[tuple[float, Task]] = collections.deque()
        self._idle: list[greenlet] = []
        self._running = 0
        self._waiting: dict[int, tuple[greenlet, float]] = {}
        self._epoll = select.epoll()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, select.EPOLLIN)
        self._sleeps = False
        self._ends = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # -- for other threads

    def put(self, task: Task) -> None:
        """Have a task run soon."""
        self._queue.append((time.monotonic(), task))
        if self._sleeps:
            os.eventfd_write(self._alarm, 1)

    def is_full(self) -> bool:
        """Return whether no further task is admitted."""
        return not self._admission.admits(len(self._queue))

    def end(self, *, wait: bool, drop_queued: bool) -> None:
        """End when all that has begun is done, and all that is queued unless it is dropped."""
        if drop_queued:
            self._queue.clear()
        self._ends = True
        with contextlib.suppress(OSError):  # it may have ended already
            os.eventfd_write(self._alarm, 1)
        if wait:
            self._thread.join()

    # -- for its tasks

    def await_socket(self, number: int, event: int, deadline: float) -> bool:
        """Let others run until a socket can be read or written; False where the deadline passes first."""
        once = event | select.EPOLLONESHOT
        try:
            self._epoll.modify(number, once)
        except FileNotFoundError:
            self._epoll.register(number, once)
        me = getcurrent()
        self._waiting[number] = (me, deadline)
        came: bool = me.parent.switch()  # type: ignore[union-attr]  # the loop's own greenlet made it
        return came

    # -- the loop

    def _run(self) -> None:
        _local.loop = self
        while not self._ends or self._queue or self._running:
            self._begin_tasks()
            for number, _ in self._sleep():
                self._wake(number)
            now = time.monotonic()
            for number in [number for number, (_, deadline) in self._waiting.items() if deadline <= now]:
                self._waiting.pop(number)[0].switch(False)
        for idle in self._idle:  # none may outlive its thread: it could never be freed, nor could the loop
            idle.throw()
        self._idle.clear()
        self._epoll.close()
        os.close(self._alarm)

    def _begin_tasks(self) -> None:
        while self._queue and self._running < self._tasks_max:
            queued_s, task = self._queue.popleft()
            if self._admission.record_wait(queued_s) and give_up(task):
                continue
            self._running += 1
            (self._idle.pop() if self._idle else greenlet(self._run_tasks)).switch(task)

    def _run_tasks(self, task: Task) -> None:
        """One of the greenlets that run tasks: each runs one at a time, and is kept for the next."""
        me = getcurrent()
        while True:
            task()
            self._running -= 1
            self._idle.append(me)
            task = me.parent.switch()  # type: ignore[union-attr]  # the loop's own greenlet made it

    def _sleep(self) -> list[tuple[int, int]]:
        """Wait for any socket that a task waits for, or for a task to begin."""
        self._sleeps = True  # whoever puts a task from here on sounds the alarm
        if self._queue and self._running < self._tasks_max:
            wait_s: float | None = 0.0
        elif self._waiting:
            wait_s = _left(min(deadline for _, deadline in self._waiting.values()))
        else:
            wait_s = 0.0 if self._ends else None
        found = self._epoll.poll(wait_s)
        if not found and wait_s:  # where the process was stopped meanwhile, Python has not looked again
            found = self._epoll.poll(0)
        self._sleeps = False
        return found

    def _wake(self, number: int) -> None:
        if number == self._alarm:
            os.eventfd_read(self._alarm)
        elif number in self._waiting:  # or its task has given up meanwhile
            self._waiting.pop(number)[0].switch(True)
