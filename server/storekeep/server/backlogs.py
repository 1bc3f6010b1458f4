"""How much may wait: a bound on the number, for when nothing moves, and one on the time, for when too much comes in.

A queue that is merely long empties; one in which everybody waits long never does, while the load lasts: then it is
better for all to refuse what comes, at once, than to answer everything late.
"""

from __future__ import annotations

import time


class Backlog:
    """Decides whether a queue takes more.

    Args:
        length_max: beyond it nothing is taken, however fast the queue moves.
        wait_max_s: while the last that was taken out had waited longer than this, nothing is taken.
    """

    __slots__ = ("_length_max", "_wait_max_s", "_waited_s")

    def __init__(self, *, length_max: int, wait_max_s: float) -> None:
        self._length_max = length_max
        self._wait_max_s = wait_max_s
        self._waited_s = 0.0

    def note(self, queued_s: float) -> None:
        """Something is taken out that was put in at this `time.monotonic()`."""
        self._waited_s = time.monotonic() - queued_s

    def is_full(self, length: int) -> bool:
        """Whether a queue of this length takes no more. An empty one always does."""
        return length >= self._length_max or (length > 0 and self._waited_s > self._wait_max_s)
