"""Admission control: which queued calls a server takes, so that those it takes are answered in time.

The control law is CoDel, controlled delay (RFC 8289), in the form that services use (folly's `Codel`; B. Maurer, "Fail
at Scale", ACM Queue 13(8), 2015): a queue in which every call waits too long for a whole interval is overloaded, and
then holds only what is served within a short wait. The reasons are in docs/decisions/0037-admission-control.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ControlledDelay:
    """The parameters of the control law. Times are in seconds."""

    interval_s: float
    """How long every call must wait longer than the limit before the queue is overloaded. RFC 8289 has 0.1 s. It must
    outlast what passes by itself, such as a slow sync of the disk or a process that stood still."""
    overloaded_wait_max_s: float
    """How long calls may wait under overload, as the target of CoDel: long enough that the server never idles, short
    enough that a call that is admitted is answered about as fast as ever."""
    probe_wait_max_s: float
    """How long calls may wait during a probe. It must hold the calls of clients that retry at once and could all be
    served (64 reads take 7 ms, 64 orders 20), and bounds what a probe that fails costs."""
    slough_factor: float = 2.0
    """A call that has waited this many times `overloaded_wait_max_s` is rejected when its turn comes, as in folly. It
    clears the queue that had built up when overload was noticed."""
    stable_share: float = 0.9
    """The queue is stable again when this share of an interval's calls was admitted. CoDel compares the minimum of the
    waits, which says nothing here: calls are rejected before they queue, so the queue is often empty. At 0.95 times the
    maximum rate random arrivals alone have 8 % rejected."""
    sample_min: int = 10
    """Calls that such an interval has at least, as a share of fewer means nothing. Slow calls come seldom."""
    idle_s: float = 0.5
    """The queue is stable as well when no call has come for this long; a machine hardly stands still for it."""
    admitted_every: int = 256
    """One call in this many is admitted whatever the wait, so that some are served even where rejecting alone takes all
    of the processor. It costs 0.4 % of it."""
    probe_after_s: float = 10.0
    """Time under overload until a probe admits all calls (half-open, as in a circuit breaker). Clients that retry at
    once call the more often the more are rejected, so overload would never end by itself."""
    probe_after_max_s: float = 80.0
    """Each probe that fails doubles the time to the next, up to this."""
    probe_s: float = 1.0
    """How long a probe lasts. At 1.1 times the maximum rate the wait grows beyond 50 ms in half of it."""


READS = ControlledDelay(interval_s=0.05, overloaded_wait_max_s=0.001, probe_wait_max_s=0.02)
"""A read takes 0.1 ms and no disk. Rejecting the excess of three times the maximum rate takes nearly all of a core, so
what comes in during a longer interval is worked off for more than a second."""
WRITES = ControlledDelay(interval_s=0.2, overloaded_wait_max_s=0.002, probe_wait_max_s=0.05)
"""A write waits for a disk, whose slow moments take up to 0.2 s. At three times the maximum rate 2 ms served 0.44 of it,
at 1.2 times the nominal p99; 6 ms served 0.58, at 3.9 times (`make bench ARGS=latency`, 2026-11-28)."""
LARGE_READS = ControlledDelay(interval_s=0.5, overloaded_wait_max_s=0.5, probe_wait_max_s=0.5)
"""A reply of megabytes takes some 0.1 s."""


def no_lag() -> float:
    """Return the lag of a queue to which calls get at once."""
    return 0.0


class AdmissionController:
    """Decides whether a queue takes a call.

    Stable, it admits all calls until the queue is full. Overloaded, it admits a call only where the wait that the call
    would have is short. The wait is taken to be that of the call that left the queue last, or the time since then where
    it is longer: it needs no estimate of how long calls take, so it holds for quick and slow ones.

    `admits` may be called by one thread while others call `record_wait`: they share plain values, and a lost update
    costs one decision.

    Args:
        law: the parameters.
        length_max: beyond it nothing is admitted.
        wait_max_s: how long calls may wait while the queue is stable, in seconds.
        lag_s: gives how long calls wait before they get to the queue, in seconds.

    Attributes:
        length_max: as given.
        is_overloaded: whether only what can be served soon is admitted.
    """

    __slots__ = (
        "_admitted",
        "_asked",
        "_asked_at_s",
        "_interval_end_s",
        "_lag_s",
        "_law",
        "_left_at_s",
        "_long_since_s",
        "_overloaded_wait_max_s",
        "_probe_after_s",
        "_probe_at_s",
        "_probe_end_s",
        "_queued_since_s",
        "_rejected_in_a_row",
        "_wait_max_s",
        "_wait_s",
        "is_overloaded",
        "length_max",
    )

    def __init__(
        self, law: ControlledDelay, *, length_max: int, wait_max_s: float, lag_s: Callable[[], float] = no_lag
    ) -> None:
        self.length_max = length_max
        self.is_overloaded = False
        self._law = law
        self._wait_max_s = wait_max_s
        self._overloaded_wait_max_s = min(law.overloaded_wait_max_s, wait_max_s)
        self._lag_s = lag_s
        self._wait_s = 0.0
        self._left_at_s = 0.0
        self._queued_since_s = 0.0
        self._long_since_s: float | None = None
        self._asked = self._admitted = self._rejected_in_a_row = 0
        self._asked_at_s = self._interval_end_s = 0.0
        self._probe_after_s = law.probe_after_s
        self._probe_at_s = 0.0
        self._probe_end_s = 0.0  # while there is none

    def record_wait(self, queued_s: float) -> bool:
        """Record that a call leaves the queue.

        Args:
            queued_s: since when it was queued, as a `time.monotonic()`.

        Returns: whether it is to be rejected, as it has waited too long under overload.
        """
        now_s = time.monotonic()
        self._wait_s = wait_s = now_s - queued_s
        left_at_s, self._left_at_s = self._left_at_s, now_s
        if not self.is_overloaded:
            came_s = queued_s - self._lag_s()
            if now_s - came_s <= self._wait_max_s:
                self._long_since_s = None
                return False
            if self._long_since_s is None or came_s > left_at_s:  # none waited before it came: no queue stands
                self._long_since_s = now_s
                return False
            if now_s - self._long_since_s <= self._law.interval_s:
                return False
            self._begin_overload(now_s)
        return wait_s > self._law.slough_factor * self._overloaded_wait_max_s

    def admits(self, length: int) -> bool:
        """Return whether a queue of this length takes another call."""
        if length >= self.length_max:
            return False
        if self.is_overloaded:
            return self._admits_overloaded(length, time.monotonic())
        if self._probe_end_s:
            return self._admits_probing(length, time.monotonic())
        return True

    def _begin_overload(self, now_s: float) -> None:
        law = self._law
        if self.is_overloaded:  # another thread has noticed it too
            return
        if self._probe_end_s:
            self._probe_after_s = min(2 * self._probe_after_s, law.probe_after_max_s)
        else:
            self._probe_after_s = law.probe_after_s
        self._probe_end_s = 0.0
        self._probe_at_s = now_s + self._probe_after_s
        self._asked_at_s = now_s
        self._begin_interval(now_s)
        self.is_overloaded = True  # last, as another thread asks meanwhile

    def _begin_interval(self, now_s: float) -> None:
        self._asked = self._admitted = 0
        self._interval_end_s = now_s + self._law.interval_s

    def _end_overload(self) -> None:
        self.is_overloaded = False
        self._long_since_s = None

    def _predict_wait_s(self, length: int, now_s: float) -> float:
        """Return how long a call would wait that is admitted now."""
        lag_s = self._lag_s()
        if not length:
            self._queued_since_s = now_s
            return lag_s
        return lag_s + max(self._wait_s, now_s - max(self._left_at_s, self._queued_since_s))

    def _admits_overloaded(self, length: int, now_s: float) -> bool:
        idle_s, self._asked_at_s = now_s - self._asked_at_s, now_s
        if self._is_stable(now_s, idle_s):
            self._end_overload()
            return True
        self._asked += 1
        wait_s = self._predict_wait_s(length, now_s)
        if wait_s > self._overloaded_wait_max_s and self._rejected_in_a_row < self._law.admitted_every:
            self._rejected_in_a_row += 1
            return False
        self._rejected_in_a_row = 0
        self._admitted += 1
        return True

    def _is_stable(self, now_s: float, idle_s: float) -> bool:
        """Return whether overload is over, or a probe is due."""
        law = self._law
        if idle_s > law.idle_s:
            return True
        if now_s < self._interval_end_s or self._asked < law.sample_min:
            return False
        if self._admitted >= law.stable_share * self._asked:
            return True
        self._begin_interval(now_s)
        if now_s > self._probe_at_s:
            self._probe_end_s = now_s + law.probe_s
        return self._probe_end_s > 0.0

    def _admits_probing(self, length: int, now_s: float) -> bool:
        """Return whether a probe admits a call; where the wait is too long it has failed."""
        if now_s > self._probe_end_s:
            self._probe_end_s = 0.0
            return True
        if self._predict_wait_s(length, now_s) <= self._law.probe_wait_max_s:
            return True
        self._begin_overload(now_s)
        return False
