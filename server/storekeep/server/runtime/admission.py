"""Admission control: reject calls that could not be answered in time, so that admitted calls are.

The control law is CoDel, controlled delay (RFC 8289), in the form that services use (folly's `Codel`; B. Maurer, "Fail
at Scale", ACM Queue 13(8), 2015). A queue is overloaded when every call waits too long for a whole interval. It then
admits only calls that are served after a short wait. The reasons are in docs/decisions/0037-admission-control.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from storekeep.server.runtime.histograms import WAIT_BOUNDS_S, Histogram


@dataclass(frozen=True, kw_only=True)
class ControlledDelay:
    """Parameters of the control law. Times are in seconds."""

    interval_s: float
    """How long every wait must exceed the limit before the queue counts as overloaded. RFC 8289 uses 0.1 s. The
    interval must outlast short stalls, such as a slow disk sync or a suspended process."""
    overloaded_wait_max_s: float
    """Longest wait under overload; CoDel's target. Long enough that the server never idles, short enough that admitted
    calls are answered about as fast as usual."""
    probe_wait_max_s: float
    """Longest wait during a probe. It must fit the calls of clients that retry at once and could all be served (64
    reads take 7 ms, 64 orders 20 ms). It also bounds the cost of a failed probe."""
    slough_factor: float = 2.0
    """A call that has waited this many times `overloaded_wait_max_s` is rejected at its turn, as in folly. This clears
    the queue that built up before overload was detected."""
    stable_share: float = 0.9
    """The queue is stable again when this share of an interval's calls was admitted. CoDel compares the minimum wait
    instead. That does not work here: calls are rejected before they queue, so the queue is often empty. At 0.95 times
    the maximum rate, random arrivals alone cause 8 % rejections."""
    sample_min: int = 10
    """Fewest calls from which an interval's share is computed. Slow methods are called rarely."""
    idle_s: float = 0.5
    """The queue is also stable when no call has arrived for this long. Machines rarely stall that long."""
    admitted_every: int = 256
    """After this many rejections in a row one call is admitted whatever its wait, so that some calls are served even
    if rejecting takes all of the processor. It costs 0.4 % of the processor."""
    probe_after_s: float = 10.0
    """Time under overload until a probe admits all calls (half-open, as in a circuit breaker). Clients that retry at
    once send more calls the more are rejected. Without probes such an overload would never end."""
    probe_after_max_s: float = 80.0
    """Upper limit of the time to the next probe. Each failed probe doubles that time."""
    probe_s: float = 1.0
    """Duration of a probe. At 1.1 times the maximum rate the wait exceeds 50 ms in half of that time."""


READS = ControlledDelay(interval_s=0.05, overloaded_wait_max_s=0.001, probe_wait_max_s=0.02)
"""For reads: 0.1 ms each, without the disk. At three times the maximum rate, rejecting the excess takes nearly all of a
core. The calls that arrive during a longer interval would take more than a second to drain."""
WRITES = ControlledDelay(interval_s=0.2, overloaded_wait_max_s=0.002, probe_wait_max_s=0.05)
"""For writes: they wait for a disk that can stall for up to 0.2 s. At three times the maximum rate, 2 ms served 0.44 of
it at 1.2 times the nominal p99 latency; 6 ms served 0.58 at 3.9 times (`make bench ARGS=latency`, 2026-11-28)."""
LARGE_READS = ControlledDelay(interval_s=0.5, overloaded_wait_max_s=0.5, probe_wait_max_s=0.5)
"""For replies of megabytes: about 0.1 s each."""


def no_lag() -> float:
    """Return the lag of a queue that calls reach without delay, in seconds."""
    return 0.0


class AdmissionController:
    """Decides whether a queue admits a call.

    While stable, it admits all calls until the queue is full. While overloaded, it admits a call only if the predicted
    wait is short. The prediction is the wait of the last call that left the queue, or the time since then if that is
    longer. It needs no estimate of service times, so it works for fast and slow calls alike.

    One thread may call `admits` while others call `record_wait`. They share plain values; a lost update costs one
    decision.

    Args:
        law: the parameters.
        length_max: the queue length at which all further calls are rejected.
        wait_max_s: longest acceptable wait while the queue is stable, in seconds.
        lag_s: returns how long calls wait before they reach the queue, in seconds.

    Attributes:
        length_max: as given.
        rejected: number of calls that were not admitted, or that waited too long.
        waits: how long calls waited, in seconds.
        is_overloaded: whether only calls with a short predicted wait are admitted.
    """

    __slots__ = (
        "_admitted",
        "_interval_end_s",
        "_lag_s",
        "_law",
        "_left_at_s",
        "_long_since_s",
        "_offered",
        "_offered_at_s",
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
        "rejected",
        "waits",
    )

    def __init__(
        self, law: ControlledDelay, *, length_max: int, wait_max_s: float, lag_s: Callable[[], float] = no_lag
    ) -> None:
        self.length_max = length_max
        self.is_overloaded = False
        self.rejected = 0
        self.waits = Histogram(WAIT_BOUNDS_S)
        self._law = law
        self._wait_max_s = wait_max_s
        self._overloaded_wait_max_s = min(law.overloaded_wait_max_s, wait_max_s)
        self._lag_s = lag_s
        self._wait_s = 0.0
        self._left_at_s = 0.0
        self._queued_since_s = 0.0
        self._long_since_s: float | None = None
        self._offered = self._admitted = self._rejected_in_a_row = 0
        self._offered_at_s = self._interval_end_s = 0.0
        self._probe_after_s = law.probe_after_s
        self._probe_at_s = 0.0
        self._probe_end_s = 0.0  # 0 means that no probe is running

    def record_wait(self, queued_s: float) -> bool:
        """Record the wait of a call that leaves the queue.

        Args:
            queued_s: the `time.monotonic()` at which it was queued.

        Returns: True if the call must be rejected, because it waited too long under overload.
        """
        now_s = time.monotonic()
        self._wait_s = wait_s = now_s - queued_s
        self.waits.add(wait_s)
        left_at_s, self._left_at_s = self._left_at_s, now_s
        if not self.is_overloaded:
            arrived_s = queued_s - self._lag_s()
            if now_s - arrived_s <= self._wait_max_s:
                self._long_since_s = None
                return False
            if self._long_since_s is None or arrived_s > left_at_s:  # the queue was empty when the call arrived
                self._long_since_s = now_s
                return False
            if now_s - self._long_since_s <= self._law.interval_s:
                return False
            self._begin_overload(now_s)
        is_late = wait_s > self._law.slough_factor * self._overloaded_wait_max_s
        self.rejected += is_late
        return is_late

    def admits(self, length: int) -> bool:
        """Return whether a queue of this length admits another call."""
        admits = self._admits(length)
        self.rejected += not admits
        return admits

    def _admits(self, length: int) -> bool:
        if length >= self.length_max:
            return False
        if self.is_overloaded:
            return self._admits_overloaded(length, time.monotonic())
        if self._probe_end_s:
            return self._admits_probing(length, time.monotonic())
        return True

    def _begin_overload(self, now_s: float) -> None:
        law = self._law
        if self.is_overloaded:  # another thread has detected it first
            return
        if self._probe_end_s:
            self._probe_after_s = min(2 * self._probe_after_s, law.probe_after_max_s)
        else:
            self._probe_after_s = law.probe_after_s
        self._probe_end_s = 0.0
        self._probe_at_s = now_s + self._probe_after_s
        self._offered_at_s = now_s
        self._begin_interval(now_s)
        self.is_overloaded = True  # set last, because another thread may be in `admits`

    def _begin_interval(self, now_s: float) -> None:
        self._offered = self._admitted = 0
        self._interval_end_s = now_s + self._law.interval_s

    def _end_overload(self) -> None:
        self.is_overloaded = False
        self._long_since_s = None

    def _predict_wait_s(self, length: int, now_s: float) -> float:
        """Return how long a call admitted now would wait, in seconds."""
        lag_s = self._lag_s()
        if not length:
            self._queued_since_s = now_s
            return lag_s
        return lag_s + max(self._wait_s, now_s - max(self._left_at_s, self._queued_since_s))

    def _admits_overloaded(self, length: int, now_s: float) -> bool:
        idle_s, self._offered_at_s = now_s - self._offered_at_s, now_s
        if self._is_stable(now_s, idle_s):
            self._end_overload()
            return True
        self._offered += 1
        wait_s = self._predict_wait_s(length, now_s)
        if wait_s > self._overloaded_wait_max_s and self._rejected_in_a_row < self._law.admitted_every:
            self._rejected_in_a_row += 1
            return False
        self._rejected_in_a_row = 0
        self._admitted += 1
        return True

    def _is_stable(self, now_s: float, idle_s: float) -> bool:
        """Return whether overload has ended, or a probe is due."""
        law = self._law
        if idle_s > law.idle_s:
            return True
        if now_s < self._interval_end_s or self._offered < law.sample_min:
            return False
        if self._admitted >= law.stable_share * self._offered:
            return True
        self._begin_interval(now_s)
        if now_s > self._probe_at_s:
            self._probe_end_s = now_s + law.probe_s
        return self._probe_end_s > 0.0

    def _admits_probing(self, length: int, now_s: float) -> bool:
        """Return whether a probe admits a call. A wait that is too long fails the probe."""
        if now_s > self._probe_end_s:
            self._probe_end_s = 0.0
            return True
        if self._predict_wait_s(length, now_s) <= self._law.probe_wait_max_s:
            return True
        self._begin_overload(now_s)
        return False
