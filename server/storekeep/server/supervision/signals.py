"""The signals of the supervisor, received by a dedicated thread and queued in order.

`sigtimedwait` would need no thread, but in CPython 3.11 it returns an uninitialised number if it times out while the
process is suspended (Ctrl-Z and `fg`). `sigwait` has no timeout and returns only the requested signals.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Collection


class SignalQueue:
    """A queue of received signals.

    Args:
        numbers: the signals to receive. Every thread of the process must block them.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        self._numbers = frozenset(numbers)
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._receive, name="signals", daemon=True).start()

    def _receive(self) -> None:
        while True:
            self._queue.put(signal.sigwait(self._numbers))

    def next(self, *, timeout_s: float) -> int | None:
        """Return the number of the next signal, or None after `timeout_s`."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
