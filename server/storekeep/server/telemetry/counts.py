"""Counts: number, outcome and duration of the calls of this process.

Each thread counts separately, so that counting needs no lock and loses nothing; readers add up the threads.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

import msgspec

BOUNDS_US = (250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000)
"""Upper bounds of the duration buckets, in µs. A read takes 0.3 ms, a commit a few ms; few callers wait beyond 5 s."""
BUCKETS = len(BOUNDS_US) + 1

Outcome = tuple[str, str, str]
"""Method, status code and error reason of a call."""


class EndedCalls(msgspec.Struct, frozen=True):
    """The finished calls of one method with one outcome.

    Attributes:
        method: Full name of the method.
        code: Name of the gRPC status code.
        reason: Error reason; empty for success.
        buckets: Number of calls per duration bucket; the last is for durations above the last of `BOUNDS_US`.
        duration_us: Total duration of the calls.
    """

    method: str
    code: str
    reason: str
    buckets: tuple[int, ...]
    duration_us: int

    @property
    def calls(self) -> int:
        """Number of calls."""
        return sum(self.buckets)


class HistogramCounts(msgspec.Struct, frozen=True):
    """A histogram of something else than calls.

    Attributes:
        name: Name of the metric; see `prometheus.HISTOGRAMS`.
        label: Value of its label; empty if it has none.
        bounds: Upper bounds of the buckets.
        buckets: Number of values per bucket; the last is for values above the last of `bounds`.
        total: Sum of the values.
    """

    name: str
    label: str
    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    total: float


class Total(msgspec.Struct, frozen=True):
    """A number that only rises.

    Attributes:
        name: Name of the metric; see `prometheus.TOTALS`.
        label: Value of its label; empty if it has none.
        value: The number.
    """

    name: str
    label: str
    value: int


class Counts(msgspec.Struct, frozen=True):
    """The counts at one moment.

    Attributes:
        begun: Received calls.
        forwarded: Calls forwarded to the leader, which counts their outcome.
        ended: Outcomes of the other finished calls.
        commits: Durable transactions of the store.
        writes: Writes of callers in these transactions.
        limited: Name of each rate limit and the number of calls that it rejected.
        replayed: Calls that were answered with the stored reply of an earlier call.
        totals: Other numbers that only rise.
        histograms: Other histograms.
    """

    begun: int = 0
    forwarded: int = 0
    ended: tuple[EndedCalls, ...] = ()
    commits: int = 0
    writes: int = 0
    limited: tuple[tuple[str, int], ...] = ()
    replayed: int = 0
    totals: tuple[Total, ...] = ()
    histograms: tuple[HistogramCounts, ...] = ()

    @property
    def in_flight(self) -> int:
        """Number of calls in progress."""
        return max(0, self.begun - self.forwarded - sum(ended.calls for ended in self.ended))


def add_counts(parts: Iterable[Counts]) -> Counts:
    """Return the sums of the counts of several processes."""
    parts = list(parts)
    begun = forwarded = commits = writes = replayed = 0
    rows: dict[Outcome, list[int]] = {}
    limited: Counter[str] = Counter()
    for part in parts:
        begun += part.begun
        forwarded += part.forwarded
        commits += part.commits
        writes += part.writes
        replayed += part.replayed
        limited.update(dict(part.limited))
        for ended in part.ended:
            _add_row(rows, (ended.method, ended.code, ended.reason), (*ended.buckets, ended.duration_us))
    return Counts(
        begun,
        forwarded,
        _build_ended(rows),
        commits,
        writes,
        tuple(sorted(limited.items())),
        replayed,
        _add_totals(part.totals for part in parts),
        _add_histograms(part.histograms for part in parts),
    )


def _add_totals(parts: Iterable[tuple[Total, ...]]) -> tuple[Total, ...]:
    sums: Counter[tuple[str, str]] = Counter()
    for part in parts:
        for total in part:
            sums[total.name, total.label] += total.value
    return tuple(Total(name, label, value) for (name, label), value in sums.items())


def _add_histograms(parts: Iterable[tuple[HistogramCounts, ...]]) -> tuple[HistogramCounts, ...]:
    sums: dict[tuple[str, str, tuple[float, ...]], HistogramCounts] = {}
    for part in parts:
        for histogram in part:
            key = (histogram.name, histogram.label, histogram.bounds)
            earlier = sums.get(key)
            if earlier is not None:
                buckets = tuple(map(sum, zip(earlier.buckets, histogram.buckets, strict=True)))
                histogram = HistogramCounts(*key, buckets=buckets, total=earlier.total + histogram.total)
            sums[key] = histogram
    return tuple(sums.values())


def _add_row(rows: dict[Outcome, list[int]], outcome: Outcome, numbers: Iterable[int]) -> None:
    row = rows.setdefault(outcome, [0] * (BUCKETS + 1))
    for index, number in enumerate(numbers):
        row[index] += number


def _build_ended(rows: dict[Outcome, list[int]]) -> tuple[EndedCalls, ...]:
    return tuple(
        EndedCalls(*outcome, buckets=tuple(row[:-1]), duration_us=row[-1]) for outcome, row in sorted(rows.items())
    )


class _Tally:
    """The counts of one thread. A row holds a number per bucket, then the sum of the durations in µs."""

    __slots__ = ("begun", "forwarded", "limited", "replayed", "rows")

    def __init__(self) -> None:
        self.begun = 0
        self.forwarded = 0
        self.replayed = 0
        self.limited: Counter[str] = Counter()
        self.rows: dict[Outcome, list[int]] = {}


class _ThreadTally(threading.local):
    """The tally of the current thread."""

    def __init__(self, tallies: list[_Tally]) -> None:
        self.tally = _Tally()
        tallies.append(self.tally)


class CallCounts:
    """Counts the calls of this process. Counting a call takes 0.3 µs."""

    def __init__(self) -> None:
        self._tallies: list[_Tally] = []
        self._own = _ThreadTally(self._tallies)

    def begin(self) -> None:
        """Count a received call."""
        self._own.tally.begun += 1

    def end(self, method: str, code: str, reason: str, duration_us: int) -> None:
        """Count a finished call and its duration in µs."""
        rows = self._own.tally.rows
        row = rows.get((method, code, reason))
        if row is None:
            row = rows[method, code, reason] = [0] * (BUCKETS + 1)
        row[bisect_left(BOUNDS_US, duration_us)] += 1
        row[-1] += duration_us

    def reject(self, method: str, code: str, reason: str) -> None:
        """Count a call that was rejected on arrival."""
        self.begin()
        self.end(method, code, reason, 0)

    def limit(self, limit: str) -> None:
        """Count a rejection by a rate limit."""
        self._own.tally.limited[limit] += 1

    def replay(self) -> None:
        """Count a finished call that was answered with a stored reply."""
        self._own.tally.replayed += 1

    def forward(self) -> None:
        """Count a call that was forwarded to the leader and answered by it."""
        self._own.tally.forwarded += 1

    def counts(self) -> Counts:
        """Return the counts so far."""
        rows: dict[Outcome, list[int]] = {}
        limited: Counter[str] = Counter()
        tallies = list(self._tallies)
        for tally in tallies:
            limited.update(tally.limited.copy())
            for outcome, row in list(tally.rows.items()):
                _add_row(rows, outcome, row)
        ended = _build_ended(rows)
        forwarded = sum(tally.forwarded for tally in tallies)
        return Counts(
            begun=sum(tally.begun for tally in tallies),
            forwarded=forwarded,
            ended=ended,
            limited=tuple(sorted(limited.items())),
            replayed=sum(tally.replayed for tally in tallies),
        )
