"""The signals of the supervisor, received by a dedicated thread and queued in order.

`sigtimedwait` would need no thread, but in CPython 3.11 it returns an uninitialised number if it times out while the
process is suspended (Ctrl-Z and `fg`). `sigwait` has no timeout and returns only the requested signals.
"""

from __future__ import annotations

import queue
from collections.abc import Collection

from storekeep.server.process.signals import receive_signals


class SignalQueue:
    """A queue of received signals.

    Args:
        numbers: the signals to receive. Every thread of the process must block them.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        receive_signals(dict.fromkeys(numbers, self._queue.put))

    def next(self, *, timeout_s: float) -> int | None:
        """Return the number of the next signal, or None after `timeout_s`."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
