"""Executors: thread pools and a cooperative scheduler that run calls under admission control.

A call is a task. Tasks are submitted by `unary`, and by gRPC itself for the methods that it serves in its own way.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeAlias, TypeVar

from storekeep.server.runtime.admission import AdmissionController
from storekeep.server.runtime.tasks import Task, TaskScheduler, check, give_up, give_up_late
from storekeep.server.transport.unary import UnaryCall

P = ParamSpec("P")
T = TypeVar("T")

HEAVY_REPLY_MEAN_BYTES = 128 * 1024
"""Mean reply size from which the calls of a method run in a separate pool. Such a reply takes about 15 ms, as long as
150 small reads."""
SMALL_REPLY_MAX_BYTES = 4 * 1024
"""Replies up to this size are not averaged while the mean is no larger. This skips the work for most calls."""
NEWEST_REPLY_WEIGHT = 0.125
"""Weight of the newest reply in the mean. One reply of 1 MB makes a method heavy; ten small ones undo it."""
CHECK_BATCH_MAX = 32
"""Most calls that are checked before they are forwarded together. One by one they would wake the serving thread each
time, and share fewer commits. A batch takes about 1 ms."""

TaskQueue: TypeAlias = "queue.SimpleQueue[tuple[float, Task] | None]"
"""Tasks and the `time.monotonic()` at which each was queued; None ends the thread that takes it."""

log = logging.getLogger("storekeep.server")


class CallExecutor(ThreadPoolExecutor):
    """Runs calls. gRPC requires a `ThreadPoolExecutor`, but uses only its `submit`.

    Args:
        submit_task: queues a task and returns True, or returns False to reject it; must not block.
        admits: returns whether admission control admits another call.

    Attributes:
        submit_task, admits: as given.
    """

    def __init__(self, submit_task: Callable[[Task], bool], *, admits: Callable[[], bool]) -> None:
        super().__init__(1)
        self.submit_task = submit_task
        self.admits = admits

    def make_lane(self, *, lists: bool) -> MethodLane | None:
        """Return a new lane for the calls of one method; None if the executor has no lanes.

        Args:
            lists: whether the method lists resources, so that a call may take seconds.
        """
        return None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run gRPC's own part of a call. If it is rejected, it gets its own thread: gRPC cannot take it back."""
        future: Future[T] = Future()

        def task() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                log.exception("a task of the pool failed")
                future.set_exception(error)

        if not self.submit_task(task):
            run_in_new_thread(task)
        return future


def _drop_queued(tasks: TaskQueue) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            tasks.get_nowait()


def run_in_new_thread(task: Task) -> None:
    """Run a task in a new thread. This is for tasks of gRPC itself, which cannot be rejected."""
    threading.Thread(target=task, name="call", daemon=True).start()


class CallPool(CallExecutor):
    """Runs calls in its own threads.

    Args:
        threads: the number of threads. They are started immediately.
        name: the prefix of the threads' names.
        admission: decides which calls may be queued.
    """

    def __init__(self, threads: int, *, name: str, admission: AdmissionController) -> None:
        self._tasks: TaskQueue = queue.SimpleQueue()
        self._admission = admission
        super().__init__(self.put, admits=lambda: admission.admits(self._tasks.qsize()))
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    def put(self, task: Task) -> bool:
        """Queue a task for the next idle thread. Always returns True."""
        self._tasks.put((time.monotonic(), task))
        return True

    def _work(self) -> None:
        while (queued := self._tasks.get()) is not None:
            queued_s, task = queued
            if not (self._admission.record_wait(queued_s) and give_up_late(task)):
                task()
            del queued, task  # an idle thread must not keep objects alive

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the threads after the queued tasks, or with `cancel_futures` after the running ones."""
        if cancel_futures:
            _drop_queued(self._tasks)
        for _ in self._workers:
            self._tasks.put(None)
        if wait:
            for worker in self._workers:
                worker.join()


class CheckPool(CallExecutor):
    """Checks calls in its own thread, and submits those that pass to another queue.

    It has one thread: more would only contend for the GIL. The wait for the check counts as wait for the service.

    Args:
        serve: queues a checked task, given the time at which it was queued here. Returns False to reject it.
        queued: returns the number of checked tasks that are queued.
        name: the name of the thread.
        admission: decides which calls may be queued. The owner of the other queue must record waits in it as well.
    """

    def __init__(
        self,
        serve: Callable[[Task, float], bool],
        *,
        queued: Callable[[], int],
        name: str,
        admission: AdmissionController,
    ) -> None:
        self._tasks: TaskQueue = queue.SimpleQueue()
        self._serve = serve
        self._queued = queued
        self._admission = admission
        super().__init__(self.put, admits=lambda: admission.admits(self._count_queued()))
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _count_queued(self) -> int:
        return self._tasks.qsize() + self._queued()

    def put(self, task: Task) -> bool:
        """Queue a task. Return False, and do nothing, if the queue is full."""
        if self._count_queued() >= self._admission.length_max:
            return False
        self._tasks.put((time.monotonic(), task))
        return True

    def _work(self) -> None:
        while (queued := self._tasks.get()) is not None:
            passed = [queued] if self._passes(*queued) else []
            for _ in range(min(self._tasks.qsize(), CHECK_BATCH_MAX)):
                queued = self._tasks.get()
                if queued is None:
                    self._tasks.put(None)
                    break
                if self._passes(*queued):
                    passed.append(queued)
            for queued_s, task in passed:
                if not (self._serve(task, queued_s) or give_up(task)):
                    run_in_new_thread(task)
            queued = task = None  # type: ignore[assignment]  # an idle thread must not keep objects alive
            passed.clear()

    def _passes(self, queued_s: float, task: Task) -> bool:
        passes = check(task)
        if not passes:
            self._admission.record_wait(queued_s)
        return passes

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the thread after the queued tasks, or with `cancel_futures` after the running one."""
        if cancel_futures:
            _drop_queued(self._tasks)
        self._tasks.put(None)
        if wait:
            self._thread.join()


class CooperativeExecutor(CallExecutor):
    """Runs calls as cooperative tasks in one thread, so that others run while one waits for the database.

    Args:
        calls_max: the most calls in progress at a time.
        name: the name of the thread.
        admission: decides which calls may be queued.
    """

    def __init__(self, calls_max: int, *, name: str, admission: AdmissionController) -> None:
        self._scheduler = TaskScheduler(name=name, tasks_max=calls_max, admission=admission)
        super().__init__(self.put, admits=self._scheduler.admits)

    def put(self, task: Task) -> bool:
        """Queue a task. Always returns True."""
        self._scheduler.put(task)
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the scheduler after the queued tasks, or with `cancel_futures` after those in progress."""
        self._scheduler.end(wait=wait, drop_queued=cancel_futures)


class MethodLane:
    """Chooses the executor for the calls of one method: the quick one, or the heavy one if its replies are large.

    All calls are submitted to the quick executor, and diverted at their turn: by then the method may be known as heavy.

    Args:
        quick: runs calls with small replies.
        heavy: runs calls with large replies.
        slots: one for each call that the quick executor may run, of this method and others together; None if there is
            no limit. The heavy executor runs the calls beyond it.

    Attributes:
        is_heavy: whether the replies of the method are large on average.
    """

    __slots__ = ("_heavy", "_quick", "_reply_bytes", "_slots", "is_heavy")

    def __init__(self, quick: CallExecutor, heavy: CallPool, *, slots: threading.Semaphore | None = None) -> None:
        self._quick = quick
        self._heavy = heavy
        self._slots = slots
        self._reply_bytes = 0.0
        self.is_heavy = False

    def admits(self) -> bool:
        """Return whether admission control admits another call of the method."""
        return self._heavy.admits() if self.is_heavy else self._quick.admits()

    def serve(self, call: UnaryCall) -> None:
        """Serve a call in the quick executor, or divert it if the method is heavy or no slot is free."""
        if self.is_heavy:
            self.divert(call)
        elif self._slots is None:
            call.serve()
        elif self._slots.acquire(blocking=False):
            try:
                call.serve()
            finally:
                self._slots.release()
        else:
            self.divert(call)

    def divert(self, call: UnaryCall) -> None:
        """Submit a call to the heavy executor, or reject it if that is full."""
        if self._heavy.admits():
            self._heavy.put(_Diverted(call))
        else:
            call.give_up()

    def track_reply_sizes(self, serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        """Return a serializer that also records the sizes of replies in this lane."""

        def serialize_and_track(reply: Any) -> bytes:
            raw = serialize(reply)
            if len(raw) > SMALL_REPLY_MAX_BYTES or self._reply_bytes > SMALL_REPLY_MAX_BYTES:
                self._reply_bytes += (len(raw) - self._reply_bytes) * NEWEST_REPLY_WEIGHT
                self.is_heavy = self._reply_bytes > HEAVY_REPLY_MEAN_BYTES
            return raw

        return serialize_and_track


class _Diverted:
    """A call that runs in the heavy executor."""

    __slots__ = ("_call",)

    def __init__(self, call: UnaryCall) -> None:
        self._call = call

    def __call__(self) -> None:
        self._call.serve()

    def give_up(self) -> None:
        self._call.give_up()


class ReadLanes(CallExecutor):
    """Runs calls in one of two executors, so that lists and calls with large replies do not delay all others.

    A reply of 6.7 MB takes a thousand times as long as a small one, and so does a filter that reads every row.

    Args:
        quick: runs most calls.
        heavy: runs calls with large replies, and lists beyond `lists_max`. It needs few threads, because all threads
            share one core.
        lists_max: the most lists that `quick` runs at a time. It must be able to run one more call.
    """

    def __init__(self, quick: CallExecutor, heavy: CallPool, *, lists_max: int) -> None:
        super().__init__(quick.submit_task, admits=quick.admits)
        self._quick = quick
        self._heavy = heavy
        self._list_slots = threading.Semaphore(lists_max)

    def make_lane(self, *, lists: bool) -> MethodLane:
        """Return a new lane for the calls of one method; see `CallExecutor.make_lane`."""
        return MethodLane(self._quick, self._heavy, slots=self._list_slots if lists else None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop both executors; see `CallPool.shutdown`."""
        for executor in (self._quick, self._heavy):
            executor.shutdown(wait, cancel_futures=cancel_futures)
