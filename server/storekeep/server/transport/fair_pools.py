"""A pool of threads whose queue is shared fairly: each flow, such as the calls of one address, has its turn.

Whoever has one call waits for one call of each other flow, however many those have queued. Where the queue is full, the
flow with the most loses its newest. The number is bounded, so waits are: there is no need to measure them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

from storekeep.server.runtime.tasks import Task, flow_of, give_up
from storekeep.server.transport.executors import CallExecutor, run_apart


class FairQueue:
    """A queue of tasks in which flows take turns; safe in any thread.

    Args:
        length_max: how many tasks may wait.
    """

    def __init__(self, length_max: int) -> None:
        self._length_max = length_max
        self._flows: OrderedDict[str, deque[Task]] = OrderedDict()
        self._length = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, task: Task) -> Task | None:
        """Queue a task.

        Returns: the task that has to go where there are too many: this one, or the newest of the flow with the most.
        """
        flow = flow_of(task)
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
        """Wait for the next task; None once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._length > 0 or self._is_closed)
            return self._take(next(iter(self._flows))) if self._length else None

    def close(self, *, drop_queued: bool) -> None:
        """End once all that is queued is taken, or at once."""
        with self._changed:
            if drop_queued:
                self._flows.clear()
                self._length = 0
            self._is_closed = True
            self._changed.notify_all()

    def _take(self, flow: str, *, newest: bool = False) -> Task:
        """Take a task of a flow, which is the last to have its turn again."""
        tasks = self._flows[flow]
        task = tasks.pop() if newest else tasks.popleft()
        self._length -= 1
        if not tasks:
            del self._flows[flow]
        elif not newest:
            self._flows.move_to_end(flow)
        return task


class FairPool(CallExecutor):
    """Runs calls in threads of its own, of which each flow has its turn.

    Args:
        threads: how many calls run at once; they are started here.
        name: what the threads are called.
        length_max: how many calls may wait for a thread.
    """

    def __init__(self, threads: int, *, name: str, length_max: int) -> None:
        self._queue = FairQueue(length_max)
        super().__init__(self.put, is_full=lambda: False)  # who is refused is known with the request's flow
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._workers:
            thread.start()

    def put(self, task: Task) -> bool:
        """Queue a task; False where its flow has more than its share already."""
        evicted = self._queue.put(task)
        if evicted is None:
            return True
        if evicted is task:
            return False
        if not give_up(evicted):
            run_apart(evicted)
        return True

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
            del task  # an idle thread holds on to nothing

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once they have done what is queued, or with `cancel_futures` what they are at."""
        self._queue.close(drop_queued=cancel_futures)
        if wait:
            for thread in self._workers:
                thread.join()
