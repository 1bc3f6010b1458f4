"""A cooperative scheduler: tasks in one thread that wait for sockets without blocking it.

A task runs until it waits in `await_socket`; then other tasks run. Its code is the same as in a thread of its own, but
without thread switches, which are most of the cost of a small query over a network. A task must not hold a lock while
it waits: another task of its thread that needs the lock would block indefinitely.
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
"""A callable that never raises. It may have a method `give_up`, which rejects it at less cost than running it, and a
method `check`, which checks it before it runs, possibly in another thread. With an attribute `has_priority` that is
true, it is not rejected for waiting."""

_local = threading.local()


def await_socket(number: int, event: int, deadline: float) -> bool:
    """Wait until a socket is readable or writable.

    Args:
        number: the file descriptor of the socket.
        event: `select.POLLIN`, `select.POLLOUT` or both.
        deadline: a `time.monotonic()`; `math.inf` for none.

    Returns: False if the deadline passes first.
    """
    scheduler: TaskScheduler | None = getattr(_local, "scheduler", None)
    if scheduler is not None:
        return scheduler.await_socket(number, event, deadline)
    poll = select.poll()
    poll.register(number, event)
    wait_s = _compute_remaining_s(deadline)
    return bool(poll.poll(None if wait_s is None else wait_s * 1000))


def give_up(task: Task) -> bool:
    """Reject a task. Return False, and do nothing, if it cannot be rejected."""
    reject: Task | None = getattr(task, "give_up", None)
    if reject is not None:
        reject()
    return reject is not None


def give_up_late(task: Task) -> bool:
    """Reject a task that has waited too long. Return False, and do nothing, if it has priority."""
    return not getattr(task, "has_priority", False) and give_up(task)


def get_flow(task: Task) -> str:
    """Return the flow of a task, such as its client's address, for fair queues; empty if it has none."""
    flow: str = getattr(task, "flow", "")
    return flow


def check(task: Task) -> bool:
    """Check a task, if it can be checked. Return False if the check has ended it."""
    passes: Callable[[], bool] | None = getattr(task, "check", None)
    return passes is None or passes()


def _compute_remaining_s(deadline: float) -> float | None:
    """Return the seconds until a deadline; None if it is infinite."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


class TaskGreenlets:
    """The greenlets in which one thread runs tasks. One that has ended its task is used again.

    Attributes:
        running: Number of tasks in progress.
    """

    def __init__(self) -> None:
        self.running = 0
        self._idle: list[greenlet] = []

    def start(self, task: Task) -> None:
        """Run a task until it ends or switches to its parent, the current greenlet."""
        self.running += 1
        (self._idle.pop() if self._idle else greenlet(self._run)).switch(task)

    def end(self) -> None:
        """End the idle greenlets, before their thread ends.

        One that outlives its thread is never freed. Worse: greenlet's own cleanup after a thread frees the main
        greenlet of the thread if it finds no reference to it, and during a garbage collection it finds too few. A
        later collection then crashes the process.
        """
        for idle in self._idle:
            idle.throw()
        self._idle.clear()

    def _run(self, task: Task) -> None:
        """Run tasks one after another, as the body of a greenlet."""
        me = getcurrent()
        while True:
            task()
            self.running -= 1
            self._idle.append(me)
            task = me.parent.switch()  # type: ignore[union-attr]  # its parent is the greenlet that calls `start`


class TaskScheduler:
    """Runs tasks cooperatively in one thread.

    Args:
        name: the name of the thread.
        tasks_max: the most tasks in progress at a time; further ones are queued.
        admission: decides which tasks may be queued.
    """

    def __init__(self, *, name: str, tasks_max: int, admission: AdmissionController) -> None:
        self._tasks_max = tasks_max
        self._admission = admission
        self._queue: collections.deque[tuple[float, Task]] = collections.deque()
        self._greenlets = TaskGreenlets()
        self._waiting: dict[int, tuple[greenlet, float]] = {}
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._is_sleeping = False
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # -- for other threads

    def put(self, task: Task) -> None:
        """Queue a task to run soon."""
        self._queue.append((time.monotonic(), task))
        if self._is_sleeping:
            os.eventfd_write(self._wakeup, 1)

    def admits(self) -> bool:
        """Return whether admission control admits another task."""
        return self._admission.admits(len(self._queue))

    def end(self, *, wait: bool, drop_queued: bool) -> None:
        """Stop the thread when the tasks in progress, and the queued ones, are done.

        Args:
            wait: whether to wait for that.
            drop_queued: whether queued tasks are dropped instead.
        """
        if drop_queued:
            self._queue.clear()
        self._is_ending = True
        with contextlib.suppress(OSError):  # the thread may have ended already
            os.eventfd_write(self._wakeup, 1)
        if wait:
            self._thread.join()

    # -- for the tasks it runs

    def await_socket(self, number: int, event: int, deadline: float) -> bool:
        """Run other tasks until a socket is readable or writable. Return False if the deadline passes first."""
        once = event | select.EPOLLONESHOT
        try:
            self._epoll.modify(number, once)
        except FileNotFoundError:
            self._epoll.register(number, once)
        me = getcurrent()
        self._waiting[number] = (me, deadline)
        is_ready: bool = me.parent.switch()  # type: ignore[union-attr]  # its parent is the scheduler's greenlet
        return is_ready

    # -- the thread

    def _run(self) -> None:
        _local.scheduler = self
        while not self._is_ending or self._queue or self._greenlets.running:
            self._start_tasks()
            for number, _ in self._sleep():
                self._wake(number)
            now = time.monotonic()
            for number in [number for number, (_, deadline) in self._waiting.items() if deadline <= now]:
                self._waiting.pop(number)[0].switch(False)
        self._greenlets.end()
        self._epoll.close()
        os.close(self._wakeup)

    def _start_tasks(self) -> None:
        while self._queue and self._greenlets.running < self._tasks_max:
            queued_s, task = self._queue.popleft()
            if self._admission.record_wait(queued_s) and give_up_late(task):
                continue
            self._greenlets.start(task)

    def _sleep(self) -> list[tuple[int, int]]:
        """Wait until a socket is ready, a task is queued, or a deadline passes. Return the epoll events."""
        self._is_sleeping = True  # from here on, `put` wakes this thread
        if self._queue and self._greenlets.running < self._tasks_max:
            wait_s: float | None = 0.0
        elif self._waiting:
            wait_s = _compute_remaining_s(min(deadline for _, deadline in self._waiting.values()))
        else:
            wait_s = 0.0 if self._is_ending else None
        events = self._epoll.poll(wait_s)
        if not events and wait_s:  # after a suspension of the process, Python reports a timeout without polling again
            events = self._epoll.poll(0)
        self._is_sleeping = False
        return events

    def _wake(self, number: int) -> None:
        if number == self._wakeup:
            os.eventfd_read(self._wakeup)
        elif number in self._waiting:  # its task may have timed out meanwhile
            self._waiting.pop(number)[0].switch(True)
