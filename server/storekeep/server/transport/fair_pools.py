"""A thread pool with fair queueing: flows, such as the calls of one address, are served in round-robin order.

A single call waits for at most one call of each other flow, however many those have queued. When the queue is full, the
longest flow loses its newest call. The bounded length bounds the waits, so they are not measured.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

from storekeep.server.runtime.tasks import Task, get_flow, give_up
from storekeep.server.transport.executors import CallExecutor, run_in_new_thread


class FairQueue:
    """A thread-safe queue of tasks that serves flows in round-robin order.

    Args:
        length_max: the most queued tasks.
    """

    def __init__(self, length_max: int) -> None:
        self._length_max = length_max
        self._flows: OrderedDict[str, deque[Task]] = OrderedDict()
        self._length = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, task: Task) -> Task | None:
        """Queue a task.

        Returns: the task to reject if the queue is full: this one, or the newest of the longest flow. Otherwise None.
        """
        flow = get_flow(task)
        with self._changed:
            evicted = None
            if self._length >= self._length_max:
                largest = max(self._flows, key=lambda name: len(self._flows[name]))
                if len(self._flows.get(flow, ())) + 1 >= len(self._flows[largest]):
                    return task
                evicted = self._take(largest, newest=True)
            self._flows.setdefault(flow, deque()).append(task)
            self._length += 1
            self._changed.notify()
        return evicted

    def get(self) -> Task | None:
        """Wait for the next task and return it; None once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._length > 0 or self._is_closed)
            return self._take(next(iter(self._flows))) if self._length else None

    def close(self, *, drop_queued: bool) -> None:
        """Close the queue.

        Args:
            drop_queued: whether queued tasks are dropped; otherwise they can still be taken.
        """
        with self._changed:
            if drop_queued:
                self._flows.clear()
                self._length = 0
            self._is_closed = True
            self._changed.notify_all()

    def _take(self, flow: str, *, newest: bool = False) -> Task:
        """Remove and return the oldest task of a flow, and move the flow to the end of the round; or the newest one."""
        tasks = self._flows[flow]
        task = tasks.pop() if newest else tasks.popleft()
        self._length -= 1
        if not tasks:
            del self._flows[flow]
        elif not newest:
            self._flows.move_to_end(flow)
        return task


class FairPool(CallExecutor):
    """Runs calls in its own threads, with fair queueing.

    Args:
        threads: the number of threads. They are started immediately.
        name: the prefix of the threads' names.
        length_max: the most queued calls.
    """

    def __init__(self, threads: int, *, name: str, length_max: int) -> None:
        self._queue = FairQueue(length_max)
        super().__init__(self.put, admits=lambda: True)  # `put` rejects calls once their flow is known
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._workers:
            thread.start()

    def put(self, task: Task) -> bool:
        """Queue a task. Return False if it is rejected, because the queue is full and its flow is the longest."""
        evicted = self._queue.put(task)
        if evicted is None:
            return True
        if evicted is task:
            return False
        if not give_up(evicted):
            run_in_new_thread(evicted)
        return True

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
            del task  # an idle thread must not keep objects alive

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the threads after the queued tasks, or with `cancel_futures` after the running ones."""
        self._queue.close(drop_queued=cancel_futures)
        if wait:
            for thread in self._workers:
                thread.join()
