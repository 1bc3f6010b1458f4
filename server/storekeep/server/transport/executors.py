"""Where calls run: thread pools that know how much waits for them, and whether that is too much.

A call is a task. `unary` hands it over; so does gRPC itself, with what it serves in its own way.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from storekeep.server.runtime.admission import AdmissionController
from storekeep.server.runtime.tasks import Loop, Task, check, give_up
from storekeep.server.transport.unary import UnaryCall

P = ParamSpec("P")
T = TypeVar("T")

HEAVY_BYTES = 128 * 1024
"""How large the replies of a method are, on average, whose calls run apart: some 15 ms of work, as long as 150 small
reads take."""
SMALL_BYTES = 4 * 1024
"""A reply is not weighed that is no larger, where the average is no larger either: most calls' are not."""
NEWEST_SHARE = 0.125
"""How much the newest reply counts in the average: one of 1 MB is enough, and ten small ones after it."""
TOGETHER_MAX = 32
"""Calls that are checked before any of them goes on: one by one they would wake the thread that serves them each
time, and share fewer commits. It takes about 1 ms."""

log = logging.getLogger("storekeep.server")


class CallExecutor(ThreadPoolExecutor):
    """Has calls run; gRPC asks for a `ThreadPoolExecutor`, of which it only uses `submit`.

    Args:
        hand_over: has a task run soon, and says whether it will; must not block.
        is_full: whether further calls are to be refused.

    Attributes:
        hand_over, is_full: as given.
    """

    def __init__(self, hand_over: Callable[[Task], bool], *, is_full: Callable[[], bool]) -> None:
        super().__init__(1)
        self.hand_over = hand_over
        self.is_full = is_full

    def lane(self) -> MethodLane | None:
        """Return a lane for the calls of one method; None where all run alike."""
        return None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have gRPC's own part of a call run. What is not taken gets a thread of its own: gRPC cannot take it back."""
        future: Future[T] = Future()

        def task() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                log.exception("a task of the pool failed")
                future.set_exception(error)

        if not self.hand_over(task):
            run_apart(task)
        return future


def run_apart(task: Task) -> None:
    """Run a task in a thread of its own: one of gRPC's own, which cannot be refused otherwise."""
    threading.Thread(target=task, name="call", daemon=True).start()


class CallPool(CallExecutor):
    """Runs calls in threads of its own.

    Args:
        threads: how many calls run at once; they are started here.
        name: what the threads are called.
        admission: which calls may wait for a thread.
    """

    def __init__(self, threads: int, *, name: str, admission: AdmissionController) -> None:
        self._tasks: queue.SimpleQueue[tuple[float, Task] | None] = queue.SimpleQueue()
        self._admission = admission
        super().__init__(self.put, is_full=lambda: not admission.admits(self._tasks.qsize()))
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    def put(self, task: Task) -> bool:
        """Queue a task for the next idle thread."""
        self._tasks.put((time.monotonic(), task))
        return True

    def _work(self) -> None:
        while (queued := self._tasks.get()) is not None:
            queued_s, task = queued
            if not (self._admission.record_wait(queued_s) and give_up(task)):
                task()
            del queued, task  # an idle thread holds on to nothing

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once they have done what is queued, or with `cancel_futures` what they are at."""
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while True:
                    self._tasks.get_nowait()
        for _ in self._workers:
            self._tasks.put(None)
        if wait:
            for worker in self._workers:
                worker.join()


class CheckPool(CallExecutor):
    """Checks calls in a thread of its own, and has those that pass served elsewhere.

    One thread, as more would only take turns. The time that a call waits for it counts as waiting to be served.

    Args:
        serve: given a checked task and when it was queued, has it run soon, and says whether it will.
        queued: how many wait to be served.
        name: what the thread is called.
        admission: which calls may wait; whoever takes those that are served records their waits, too.
    """

    def __init__(
        self,
        serve: Callable[[Task, float], bool],
        *,
        queued: Callable[[], int],
        name: str,
        admission: AdmissionController,
    ) -> None:
        self._tasks: queue.SimpleQueue[tuple[float, Task] | None] = queue.SimpleQueue()
        self._serve = serve
        self._queued = queued
        self._admission = admission
        super().__init__(self.put, is_full=lambda: not admission.admits(self._waiting()))
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _waiting(self) -> int:
        return self._tasks.qsize() + self._queued()

    def put(self, task: Task) -> bool:
        """Queue a task; False, and nothing is done, where as many wait as may."""
        if self._waiting() >= self._admission.length_max:
            return False
        self._tasks.put((time.monotonic(), task))
        return True

    def _work(self) -> None:
        while (queued := self._tasks.get()) is not None:
            passed = [queued] if self._passes(*queued) else []
            for _ in range(min(self._tasks.qsize(), TOGETHER_MAX)):
                queued = self._tasks.get()
                if queued is None:
                    self._tasks.put(None)
                    break
                if self._passes(*queued):
                    passed.append(queued)
            for queued_s, task in passed:
                if not (self._serve(task, queued_s) or give_up(task)):
                    run_apart(task)
            queued = task = None  # type: ignore[assignment]  # an idle thread holds on to nothing
            passed.clear()

    def _passes(self, queued_s: float, task: Task) -> bool:
        passes = check(task)
        if not passes:
            self._admission.record_wait(queued_s)
        return passes

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread once it has checked what is queued, or with `cancel_futures` what it is at."""
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while True:
                    self._tasks.get_nowait()
        self._tasks.put(None)
        if wait:
            self._thread.join()


class CallLoop(CallExecutor):
    """Runs calls in a loop, where they take turns while the database answers.

    Args:
        calls_max: how many have begun and not ended at a time.
        name, admission: as for `CallPool`.
    """

    def __init__(self, calls_max: int, *, name: str, admission: AdmissionController) -> None:
        self._loop = Loop(name=name, tasks_max=calls_max, admission=admission)
        super().__init__(self.put, is_full=self._loop.is_full)

    def put(self, task: Task) -> bool:
        """Queue a task."""
        self._loop.put(task)
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the loop once it has done what is queued, or with `cancel_futures` what it is at."""
        self._loop.end(wait=wait, drop_queued=cancel_futures)


class MethodLane:
    """Where the calls of one method run: among all others, or apart where their replies are large.

    They are all handed to the others' executor, and diverted when it is their turn: by then it may be known that they
    are heavy.

    Args:
        quick: where they run unless their replies are large.
        heavy: where they run then.

    Attributes:
        is_heavy: whether their replies are large.
    """

    __slots__ = ("_heavy", "_quick", "_reply_bytes", "is_heavy")

    def __init__(self, quick: CallExecutor, heavy: CallPool) -> None:
        self._quick = quick
        self._heavy = heavy
        self._reply_bytes = 0.0
        self.is_heavy = False

    def is_full(self) -> bool:
        """Whether further calls are to be refused."""
        return self._heavy.is_full() if self.is_heavy else self._quick.is_full()

    def divert(self, call: UnaryCall) -> None:
        """Have a call run apart, or refuse it where too many do."""
        if self._heavy.is_full():
            call.give_up()
        else:
            self._heavy.put(_Diverted(call))

    def weigh(self, serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        """Return a serializer of replies that tells the lane how large they are."""

        def serialized(reply: Any) -> bytes:
            raw = serialize(reply)
            if len(raw) > SMALL_BYTES or self._reply_bytes > SMALL_BYTES:
                self._reply_bytes += (len(raw) - self._reply_bytes) * NEWEST_SHARE
                self.is_heavy = self._reply_bytes > HEAVY_BYTES
            return raw

        return serialized


class _Diverted:
    """A call that runs apart."""

    __slots__ = ("_call",)

    def __init__(self, call: UnaryCall) -> None:
        self._call = call

    def __call__(self) -> None:
        self._call.serve()

    def give_up(self) -> None:
        self._call.give_up()


class ReadLanes(CallExecutor):
    """Runs calls in one of two executors, so that those whose replies are large do not hold up all others.

    A reply of 6.7 MB takes a thousand times as long to make as a small one.

    Args:
        quick: of most calls.
        heavy: of those whose replies are large; of few threads, as they take turns with all others for one core.
    """

    def __init__(self, quick: CallExecutor, heavy: CallPool) -> None:
        super().__init__(quick.hand_over, is_full=quick.is_full)
        self._quick = quick
        self._heavy = heavy

    def lane(self) -> MethodLane:
        """Return a lane for the calls of one method."""
        return MethodLane(self._quick, self._heavy)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End both."""
        for executor in (self._quick, self._heavy):
            executor.shutdown(wait, cancel_futures=cancel_futures)
