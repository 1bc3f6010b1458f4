"""Contenders measured in turns, in one run, so that what the machine does meanwhile happens to all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.loads.load import Load

Send = Callable[[float], Load]
"""Keeps a contender under load for so many seconds.

Raises: LoadFailed when any answer is not a good one.
"""


@dataclass(frozen=True)
class Pace:
    """How long is measured.

    Attributes:
        rounds: how often each contender has its turn.
        seconds: of one turn.
        warm_up_s: before the first.
    """

    rounds: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, and the least and greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """The spread of these numbers, of which there is at least one."""
        return cls(statistics.median(numbers), min(numbers), max(numbers))


@dataclass(frozen=True)
class Turns:
    """What one contender did in its turns, in their order."""

    name: str
    loads: tuple[Load, ...]

    @property
    def per_s(self) -> Spread:
        """Good answers per second."""
        return Spread.of([load.per_s for load in self.loads])

    @property
    def server_ms(self) -> Spread:
        """Milliseconds of the server's processor time for one call, which is seconds for 1,000."""
        return Spread.of([1000 * load.server_cpu_s / load.answered for load in self.loads])

    @property
    def client_ms(self) -> Spread:
        """Milliseconds of the load's own processor time for one call."""
        return Spread.of([1000 * load.client_cpu_s / load.answered for load in self.loads])

    @property
    def database_ms(self) -> Spread:
        """Milliseconds of a database server's processor time for one call; 0 where there is none."""
        return Spread.of([1000 * load.database_cpu_s / load.answered for load in self.loads])

    @property
    def commit_ms(self) -> Spread:
        """Milliseconds of one commit; 0 where they are not measured."""
        return Spread.of([1000 * load.commit_s / load.answered for load in self.loads])

    def cpu_ratio_to(self, other: Turns) -> Spread:
        """Return the server's processor time for one call over the other's, round by round."""
        pairs = zip(self.loads, other.loads, strict=True)
        return Spread.of([mine.server_cpu_s * its.answered / (mine.answered * its.server_cpu_s) for mine, its in pairs])

    @property
    def client_busy(self) -> float:
        """How much of its core the load used, at most 1; near 1 it is the load that was measured."""
        return max(load.client_cpu_s / load.seconds for load in self.loads)

    def ratio_to(self, other: Turns) -> Spread:
        """This contender's rate over the other's, round by round: what slows both in a round cancels out."""
        pairs = zip(self.loads, other.loads, strict=True)
        return Spread.of([mine.per_s / its.per_s for mine, its in pairs])


def measure(contenders: dict[str, Send], pace: Pace) -> dict[str, Turns]:
    """Warm every contender up, then give each its turns; every second round goes backwards.

    Raises: LoadFailed.
    """
    loads: dict[str, list[Load]] = {name: [] for name in contenders}
    for send in contenders.values():
        send(pace.warm_up_s)
    for number in range(pace.rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            loads[name].append(contenders[name](pace.seconds))
    return {name: Turns(name, tuple(its)) for name, its in loads.items()}
