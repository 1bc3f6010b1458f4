"""Signals of the supervisor: taken one by one in a thread of their own, and given out in the order in which they came.

`sigtimedwait` would need no thread, but CPython 3.11 gives an uninitialised number where its time is over while the
process is stopped, as after Ctrl-Z and `fg`. `sigwait` has no time-out, and gives the numbers that it was asked for.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Collection


class SignalQueue:
    """The signals that came.

    Args:
        numbers: which ones; every thread of the process has to block them.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        self._numbers = frozenset(numbers)
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._take, name="signals", daemon=True).start()

    def _take(self) -> None:
        while True:
            self._came.put(signal.sigwait(self._numbers))

    def next(self, *, timeout_s: float) -> int | None:
        """Return the next signal's number, or None where none comes in time."""
        try:
            return self._came.get(timeout=timeout_s)
        except queue.Empty:
            return None
