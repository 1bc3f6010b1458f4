"""How much may wait: a bound on the number, for when nothing moves, and one on the time, for when too much comes in.

A queue that is long for a moment empties by itself. One in which everybody waits too long, and goes on to, never does
while the load lasts: then it is better to refuse most of what comes, at once, than to answer everything late. It is
the idea of CoDel (RFC 8289), with refusals in place of dropped packets.
"""

from __future__ import annotations

import time
from collections.abc import Callable

HICCUP_S = 0.2
"""How long all have to wait too long before it is overload: more than a hiccup of the disk lasts, or of the machine."""
GAP_SHARE = 0.25
"""How much of that one gap counts for, in which nothing is taken: the process may have stood still, and a queue that a
stop has filled is emptied soon. Where each call takes long, it is overload after some five of them."""
TRUST = 20.0
"""How many times as fast a queue may move, once most is refused, as it did while all waited too long. What is refused
later takes most of the time by then; but what comes in now may take a thousand times as long as what came before."""
COUNT_OVER_S = 0.2
"""Over how long it is counted what comes in. Overload is over when twice in a row it is no more than can be done: once
it may be that the machine stood still."""
PAUSE_S = 0.5
"""Overload is over as well where nothing comes in for so long: the machine hardly stands still for that."""
RATE_OVER_S = 0.1
"""Over how long it is measured how fast a queue moves."""
BEST_FADES = 0.99
"""How much of the fastest that a queue has moved counts after that time: half of it after seven seconds."""
ROOM, MORE = 0.1, 1.05
"""Where those who are let in wait no longer than this share of what they may, more can be done than was thought: it is
known from what came in then, which may take longer than what comes in now. It is raised by this factor at a time."""
TRIAL_AFTER_S, TRIAL_AFTER_MAX_S = 10.0, 80.0
"""After so long under overload all are let in, to see whether it is still too much: callers that try again at once ask
the more often the more of them are refused. After a trial that fails it takes twice as long until the next."""
TRIAL_S, TRIAL_WAIT_S, TRIAL_TIMES_MAX = 1.0, 0.05, 2.0
"""How long a trial takes; how long those may have to wait who are let in by it, so that one that fails lets in no more
than is soon done; and beyond how many times what can be done there is none, as then refusing leaves no time to make up
for it. Those who ask at once are hardly more, as refusals are held for a moment."""
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
        hiccup_s: how long all may wait too long until it is overload, in seconds.
        trial_wait_s: how much work, in seconds, may wait in a trial.
        trust: how many times as fast the queue may move as it did last, when all waited too long; see `TRUST`.
        refusal_cost: what it costs to refuse something, as a share of what it costs to do it.

    Attributes:
        length_max: as given.
    """

    __slots__ = (
        "_asked",
        "_asked_at_s",
        "_asked_since_s",
        "_best_per_s",
        "_capacity_per_s",
        "_credit",
        "_hiccup_s",
        "_in_a_row",
        "_is_calm",
        "_lag_s",
        "_late",
        "_late_since_s",
        "_long_since_s",
        "_noted_s",
        "_overloaded",
        "_overloaded_wait_s",
        "_refusal_cost",
        "_served",
        "_served_wait_s",
        "_share",
        "_taken",
        "_taken_since_s",
        "_trial_after_s",
        "_trial_at_s",
        "_trial_until_s",
        "_trial_wait_s",
        "_trust",
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
        hiccup_s: float = HICCUP_S,
        trial_wait_s: float = TRIAL_WAIT_S,
        trust: float = TRUST,
        refusal_cost: float = 0.0,
    ) -> None:
        self.length_max = length_max
        self._wait_max_s = wait_max_s
        self._overloaded_wait_s = overloaded_wait_s
        self._lag_s = lag_s
        self._hiccup_s = hiccup_s
        self._trial_wait_s = trial_wait_s
        self._trust = trust
        self._refusal_cost = refusal_cost
        self._share = 0.0
        self._credit = 0.0
        self._overloaded = False
        self._long_since_s: float | None = None
        self._noted_s = 0.0
        self._late = 0
        self._late_since_s = 0.0
        self._in_a_row = 0
        self._is_calm = False
        self._capacity_per_s = 0.0
        self._asked = self._served = 0
        self._served_wait_s = 0.0
        self._asked_at_s = self._asked_since_s = 0.0
        self._taken = 0
        self._taken_since_s = 0.0
        self._best_per_s = 0.0
        self._trial_after_s = TRIAL_AFTER_S
        self._trial_at_s = 0.0
        self._trial_until_s = 0.0  # while there is none

    def note(self, queued_s: float) -> bool:
        """Something is taken out that was put in at this `time.monotonic()`.

        Returns: whether it came too late: under overload what has waited too long is better refused than done, as those
            behind it would wait for it too.
        """
        now_s = time.monotonic()
        waits_s = now_s - queued_s
        begun_s = queued_s - self._lag_s()
        waits_long = now_s - begun_s > self._wait_max_s
        if self._overloaded:
            if waits_long:
                return True
            self._served += 1
            self._served_wait_s += waits_s
        else:
            self._measure(now_s)
        gap_s, was_empty = now_s - self._noted_s, begun_s > self._noted_s
        self._noted_s = now_s
        if not waits_long:
            self._long_since_s = None
            return False
        long_since_s = self._long_since_s
        if long_since_s is None or was_empty:  # what was long before that is no sign of anything now
            self._long_since_s = self._late_since_s = now_s
            self._late = 0
            return False
        self._late += 1
        long_since_s += max(0.0, gap_s - GAP_SHARE * self._hiccup_s)
        self._long_since_s = long_since_s
        if now_s - long_since_s > self._hiccup_s:
            self._begin_overload(now_s)
            return True
        return False

    def _measure(self, now_s: float) -> None:
        """How fast the queue moves."""
        self._taken += 1
        for_s = now_s - self._taken_since_s
        if for_s > RATE_OVER_S:
            self._best_per_s = max(self._taken / for_s, BEST_FADES * self._best_per_s)
            self._taken, self._taken_since_s = 0, now_s

    def _begin_overload(self, now_s: float) -> None:
        if self._overloaded:  # another thread has noticed it too
            return
        if self._trial_until_s:
            self._trial_until_s = 0.0
            self._trial_after_s = min(2 * self._trial_after_s, TRIAL_AFTER_MAX_S)
        else:
            self._capacity_per_s = min(self._best_per_s, self._trust * self._late_per_s(now_s))
            self._trial_after_s = TRIAL_AFTER_S
        self._trial_at_s = now_s + self._trial_after_s
        self._share = self._credit = 0.0  # until it is known how much comes in
        self._is_calm = False
        self._asked_at_s = now_s
        self._count_anew(now_s)
        self._overloaded = True  # last, as another thread asks meanwhile

    def _late_per_s(self, now_s: float) -> float:
        """How fast the queue has moved since all wait too long."""
        return self._late / max(now_s - self._late_since_s, 1e-6)

    def _count_anew(self, now_s: float) -> None:
        """Begin to count what comes in, and how long those wait who are let in."""
        self._asked = self._served = 0
        self._served_wait_s = 0.0
        self._asked_since_s = now_s

    def is_full(self, length: int) -> bool:
        """Whether a queue of this length takes no more."""
        if length >= self.length_max:
            return True
        if self._overloaded:
            return self._refuses(length)
        return self._trial_until_s > 0.0 and self._fails(length)

    def _fails(self, length: int) -> bool:
        """Whether a trial has let in more than can be done in time: then it is overload again, at once."""
        now_s = time.monotonic()
        if now_s > self._trial_until_s:
            self._trial_until_s = 0.0
        elif max(self._lag_s(), length / self._capacity_per_s) > self._trial_wait_s:
            self._begin_overload(now_s)
            return True
        return False

    def _refuses(self, length: int) -> bool:
        if self._is_over():
            self._overloaded = False
            self._long_since_s = None
            return False
        self._credit = min(2.0, self._credit + self._share)
        waits_long = self._lag_s() > self._overloaded_wait_s or length > self._overloaded_wait_s * self._capacity_per_s
        its_turn = self._credit >= 1.0 or self._in_a_row >= REFUSED_IN_A_ROW
        if (waits_long or not its_turn) and self._in_a_row < REFUSED_IN_A_ROW_MAX:
            self._in_a_row += 1
            return True
        self._in_a_row = 0
        self._credit = max(0.0, self._credit - 1.0)
        return False

    def _is_over(self) -> bool:
        """Whether no more comes in than can be done, or a trial is due; if not, finds which share may be let in."""
        now_s = time.monotonic()
        pause_s, self._asked_at_s = now_s - self._asked_at_s, now_s
        if pause_s > PAUSE_S:
            return True
        self._asked += 1
        for_s = now_s - self._asked_since_s
        if for_s <= COUNT_OVER_S:
            return False
        if self._served and self._served_wait_s < ROOM * self._overloaded_wait_s * self._served:
            self._capacity_per_s *= MORE
        times = self._asked / for_s / self._capacity_per_s
        self._count_anew(now_s)
        left = HEADROOM - self._refusal_cost * times  # of the time, once all are refused
        self._share = max(0.0, left / (1.0 - self._refusal_cost) / times)
        was_calm, self._is_calm = self._is_calm, times <= 1.0
        if now_s > self._trial_at_s and times < TRIAL_TIMES_MAX:
            self._trial_until_s = now_s + TRIAL_S
            return True
        return was_calm and self._is_calm
