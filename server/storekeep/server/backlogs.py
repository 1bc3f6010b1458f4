"""How much may wait: a bound on the number, for when nothing moves, and one on the time, for when too much comes in.

A queue that is long for a moment empties by itself. One in which everybody waits too long, and goes on to, never does
while the load lasts: then it is better for all to refuse what comes, at once, than to answer everything late. It is the
idea of CoDel (RFC 8289), with refusals in place of dropped packets.
"""

from __future__ import annotations

import time

OVERLOAD_AFTER_S = 0.2
"""How long all have to wait too long before it is overload, and none before it is over: more than a hiccup of the disk
or of the machine lasts."""


class Backlog:
    """Decides whether a queue takes more.

    Args:
        length_max: beyond it nothing is taken, however fast the queue moves.
        wait_max_s: what is too long to wait, in seconds.
    """

    __slots__ = ("_length_max", "_overloaded", "_since_s", "_wait_max_s", "_waits_long")

    def __init__(self, *, length_max: int, wait_max_s: float) -> None:
        self._length_max = length_max
        self._wait_max_s = wait_max_s
        self._waits_long = False
        self._since_s = 0.0
        self._overloaded = False

    def note(self, queued_s: float) -> None:
        """Something is taken out that was put in at this `time.monotonic()`."""
        now_s = time.monotonic()
        waits_long = now_s - queued_s > self._wait_max_s
        if waits_long != self._waits_long:
            self._waits_long = waits_long
            self._since_s = now_s
        if waits_long != self._overloaded and now_s - self._since_s > OVERLOAD_AFTER_S:
            self._overloaded = waits_long

    def is_full(self, length: int) -> bool:
        """Whether a queue of this length takes no more. An empty one always does."""
        return length >= self._length_max or (self._overloaded and self._waits_long and length > 0)
