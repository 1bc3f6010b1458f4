"""How much may wait: a bound on the number, for when nothing moves, and one on the time, for when too much comes in.

A queue that is long for a moment empties by itself. One in which everybody waits too long, and goes on to, never does
while the load lasts: then it is better to refuse most of what comes, at once, than to answer everything late. It is
the idea of CoDel (RFC 8289), with refusals in place of dropped packets.
"""

from __future__ import annotations

import time
from collections.abc import Callable

OVERLOAD_AFTER_S = 0.2
"""How long all have to wait too long before it is overload, and how long no more must come in than can be done before
it is over: more than a hiccup of the disk or of the machine lasts."""
OVER_AT = 1.1
"""Overload is over when no more than this times what can be done comes in."""
RATE_OVER_S = 0.05
"""Over how long it is measured how fast a queue moves."""
BEST_FADES = 0.995
"""How much of the fastest that a queue has moved counts after that time: half of it after seven seconds."""
HEADROOM = 0.8
"""Under overload, as much of the time is used as this, so that who is let in is answered about as fast as ever."""
REFUSED_IN_A_ROW = 256
"""After so many one is let in that need not wait, however little time the refusals leave."""
REFUSED_IN_A_ROW_MAX = 4_096
"""After so many one is let in though the waits are long, so that whatever comes in, something is done."""


class Backlog:
    """Decides whether a queue takes more.

    Args:
        length_max: beyond it nothing is taken, however fast the queue moves.
        wait_max_s: what is too long to wait, in seconds.
        overloaded_wait_s: the same under overload, when there is always something to do; it keeps the server busy, and
            no more.
        lag_s: how long calls wait before they get to the queue, in seconds.
        refusal_cost: what it costs to refuse something, as a share of what it costs to do it.

    Attributes:
        length_max: as given.
    """

    __slots__ = (
        "_asked",
        "_asked_since_s",
        "_best_per_s",
        "_capacity_per_s",
        "_credit",
        "_in_a_row",
        "_lag_s",
        "_long_since_s",
        "_noted_s",
        "_overloaded",
        "_overloaded_wait_s",
        "_per_s",
        "_refusal_cost",
        "_share",
        "_taken",
        "_taken_since_s",
        "_wait_max_s",
        "length_max",
    )

    def __init__(
        self,
        *,
        length_max: int,
        wait_max_s: float,
        overloaded_wait_s: float,
        lag_s: Callable[[], float] = lambda: 0.0,
        refusal_cost: float = 0.0,
    ) -> None:
        self.length_max = length_max
        self._wait_max_s = wait_max_s
        self._overloaded_wait_s = overloaded_wait_s
        self._lag_s = lag_s
        self._refusal_cost = refusal_cost
        self._share = 0.0
        self._credit = 0.0
        self._overloaded = False
        self._long_since_s: float | None = None
        self._noted_s = 0.0
        self._in_a_row = 0
        self._capacity_per_s = 0.0
        self._asked = 0
        self._asked_since_s = 0.0
        self._taken = 0
        self._taken_since_s = 0.0
        self._per_s = self._best_per_s = 0.0

    def note(self, queued_s: float) -> bool:
        """Something is taken out that was put in at this `time.monotonic()`.

        Returns: whether it came too late: under overload what has waited too long is better refused than done, as those
            behind it would wait for it too.
        """
        now_s = time.monotonic()
        self._taken += 1
        if now_s - self._noted_s > OVERLOAD_AFTER_S:  # what was long before is no sign of anything now
            self._long_since_s = None
        self._noted_s = now_s
        if now_s - self._taken_since_s > RATE_OVER_S:
            self._per_s = self._taken / (now_s - self._taken_since_s)
            self._best_per_s = max(self._per_s, BEST_FADES * self._best_per_s)
            self._taken, self._taken_since_s = 0, now_s
        waits_long = now_s - queued_s + self._lag_s() > self._wait_max_s
        if not waits_long:
            self._long_since_s = None
        elif self._long_since_s is None:
            self._long_since_s = now_s
        elif not self._overloaded and now_s - self._long_since_s > OVERLOAD_AFTER_S:
            self._overloaded = True
            self._capacity_per_s = self._best_per_s
            self._share = self._credit = 0.0  # until it is known how much comes in
            self._asked, self._asked_since_s = 0, now_s
        return waits_long and self._overloaded

    def is_full(self, length: int) -> bool:
        """Whether a queue of this length takes no more."""
        if length >= self.length_max:
            return True
        return self._overloaded and self._refuses(length)

    def _refuses(self, length: int) -> bool:
        if self._is_over():
            self._overloaded = False
            self._long_since_s = None
            return False
        self._credit = min(2.0, self._credit + self._share)
        waits_long = self._lag_s() > self._overloaded_wait_s or length > self._overloaded_wait_s * self._per_s
        its_turn = self._credit >= 1.0 or self._in_a_row >= REFUSED_IN_A_ROW
        if (waits_long or not its_turn) and self._in_a_row < REFUSED_IN_A_ROW_MAX:
            self._in_a_row += 1
            return True
        self._in_a_row = 0
        self._credit = max(0.0, self._credit - 1.0)
        return False

    def _is_over(self) -> bool:
        """Whether no more comes in than could be done; counts what does, and finds which share of it may be let in."""
        self._asked += 1
        for_s = time.monotonic() - self._asked_since_s
        if for_s <= OVERLOAD_AFTER_S:
            return False
        times = self._asked / for_s / self._capacity_per_s
        self._asked, self._asked_since_s = 0, self._asked_since_s + for_s
        left = HEADROOM - self._refusal_cost * times  # of the time, once all are refused
        self._share = max(0.0, left / (1.0 - self._refusal_cost) / times)
        return times < OVER_AT
