"""Thread pools for gRPC: all threads from the start, and a completion that costs less than a `Future`.

gRPC asks of a pool only that it runs what it is given and tells when that is over. The standard library's pool makes
a `Future` with a condition for each call and counts its idle threads: 6 % of a GetProduct.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("storekeep.server")


class Completion(Future[Any]):
    """Tells who asks when a task is over. It keeps no result: gRPC never asks for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False
        self._callbacks: list[Callable[[Future[Any]], object]] = []

    def done(self) -> bool:
        """Whether the task is over."""
        return self._over

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Have `fn` called when the task is over, at once if it is."""
        with self._lock:
            if not self._over:
                self._callbacks.append(fn)
                return
        fn(self)

    def finish(self) -> None:
        """The task is over."""
        with self._lock:
            self._over = True
        for callback in self._callbacks:
            callback(self)


Task = tuple[Completion, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class CallPool(ThreadPoolExecutor):
    """Runs gRPC's calls.

    Args:
        threads: how many calls run at once; they are started here.
        name: what the threads are called.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a task for the next idle thread."""
        completion = Completion()
        self._tasks.put((completion, fn, args, kwargs))
        return completion

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            completion, fn, args, kwargs = task
            try:
                fn(*args, **kwargs)
            except Exception:
                log.exception("a task of the pool failed")
            completion.finish()
            del task, completion, fn, args, kwargs  # an idle thread holds on to nothing

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
