"""Counts: how many calls began, how each ended and how long it took, in plain numbers of this process.

Each thread counts for itself, so that counting takes no lock and loses nothing; who wants to know adds them up.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

import msgspec

BOUNDS_US = (250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000)
"""Upper bounds of a duration's buckets, in µs: a read takes 0.3 ms, a commit some, and beyond 5 s callers have gone."""
BUCKETS = len(BOUNDS_US) + 1

How = tuple[str, str, str]
"""Method, code and reason of a call."""


class Ended(msgspec.Struct, frozen=True):
    """The calls of one method that ended in one way.

    Attributes:
        buckets: how many took so long; the last is of all that took longer than the last of `BOUNDS_US`.
        duration_us: of all of them together.
    """

    method: str
    code: str
    reason: str
    buckets: tuple[int, ...]
    duration_us: int

    @property
    def calls(self) -> int:
        """How many they are."""
        return sum(self.buckets)


class Counts(msgspec.Struct, frozen=True):
    """What was counted up to one moment.

    Attributes:
        begun: calls that came in.
        forwarded: those that were forwarded to another worker, which answered and counts them.
        ended: all others that are over.
        commits: transactions that the store has made durable.
        writes: of callers, in those transactions.
        limited: refusals by rate limits: which limit, and how many.
    """

    begun: int = 0
    forwarded: int = 0
    ended: tuple[Ended, ...] = ()
    commits: int = 0
    writes: int = 0
    limited: tuple[tuple[str, int], ...] = ()

    @property
    def in_flight(self) -> int:
        """Calls that have begun and are not over."""
        return max(0, self.begun - self.forwarded - sum(ended.calls for ended in self.ended))


def add_counts(parts: Iterable[Counts]) -> Counts:
    """What several processes counted together."""
    begun = forwarded = commits = writes = 0
    rows: dict[How, list[int]] = {}
    limited: Counter[str] = Counter()
    for part in parts:
        begun += part.begun
        forwarded += part.forwarded
        commits += part.commits
        writes += part.writes
        limited.update(dict(part.limited))
        for ended in part.ended:
            _add_row(rows, (ended.method, ended.code, ended.reason), (*ended.buckets, ended.duration_us))
    return Counts(begun, forwarded, _ended(rows), commits, writes, tuple(sorted(limited.items())))


def _add_row(rows: dict[How, list[int]], how: How, numbers: Iterable[int]) -> None:
    row = rows.setdefault(how, [0] * (BUCKETS + 1))
    for place, number in enumerate(numbers):
        row[place] += number


def _ended(rows: dict[How, list[int]]) -> tuple[Ended, ...]:
    return tuple(Ended(*how, buckets=tuple(row[:-1]), duration_us=row[-1]) for how, row in sorted(rows.items()))


class _Tally:
    """What one thread has counted. Its rows have a number for each bucket, and the sum of the durations."""

    __slots__ = ("begun", "forwarded", "limited", "rows")

    def __init__(self) -> None:
        self.begun = 0
        self.forwarded = 0
        self.limited: Counter[str] = Counter()
        self.rows: dict[How, list[int]] = {}


class _Own(threading.local):
    """The tally of the thread that asks."""

    def __init__(self, tallies: list[_Tally]) -> None:
        self.tally = _Tally()
        tallies.append(self.tally)


class CallCounts:
    """Counts the calls of this process. One call costs 0.3 µs in all."""

    def __init__(self) -> None:
        self._tallies: list[_Tally] = []
        self._own = _Own(self._tallies)

    def begin(self) -> None:
        """A call has come in."""
        self._own.tally.begun += 1

    def end(self, method: str, code: str, reason: str, duration_us: int) -> None:
        """A call is over."""
        rows = self._own.tally.rows
        row = rows.get((method, code, reason))
        if row is None:
            row = rows[method, code, reason] = [0] * (BUCKETS + 1)
        row[bisect_left(BOUNDS_US, duration_us)] += 1
        row[-1] += duration_us

    def refuse(self, method: str, code: str, reason: str) -> None:
        """A call has come in, and is over at once."""
        self.begin()
        self.end(method, code, reason, 0)

    def limit(self, limit: str) -> None:
        """A rate limit has refused something."""
        self._own.tally.limited[limit] += 1

    def forward(self) -> None:
        """A call is over that was forwarded to another worker, which has answered it."""
        self._own.tally.forwarded += 1

    def counts(self) -> Counts:
        """What was counted so far."""
        rows: dict[How, list[int]] = {}
        limited: Counter[str] = Counter()
        tallies = list(self._tallies)
        for tally in tallies:
            limited.update(tally.limited.copy())
            for how, row in list(tally.rows.items()):
                _add_row(rows, how, row)
        ended = _ended(rows)
        forwarded = sum(tally.forwarded for tally in tallies)
        return Counts(
            begun=sum(tally.begun for tally in tallies),
            forwarded=forwarded,
            ended=ended,
            limited=tuple(sorted(limited.items())),
        )
