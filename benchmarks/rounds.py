"""Measurement of contenders in turns within one run, so that disturbances of the machine affect all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.loads.load import Load

Send = Callable[[float], Load]
"""Keeps a contender under load for some seconds.

Raises: LoadFailed if any reply is wrong.
"""


@dataclass(frozen=True)
class Pace:
    """The length of a measurement.

    Attributes:
        rounds: turns of each contender.
        seconds: duration of one turn.
        warm_up_s: duration of the load before the first turn.
    """

    rounds: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, with the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> Spread:
        """Return the spread of at least one number."""
        return cls(statistics.median(numbers), min(numbers), max(numbers))


@dataclass(frozen=True)
class Turns:
    """The loads of one contender, in the order of its turns."""

    name: str
    loads: tuple[Load, ...]

    @property
    def per_s(self) -> Spread:
        """Good replies per second."""
        return Spread.from_numbers([load.per_s for load in self.loads])

    @property
    def server_ms(self) -> Spread:
        """Milliseconds of the server's processor time for one call, or seconds for 1,000 calls."""
        return Spread.from_numbers([1000 * load.server_cpu_s / load.answered for load in self.loads])

    @property
    def client_ms(self) -> Spread:
        """Milliseconds of the load's processor time for one call."""
        return Spread.from_numbers([1000 * load.client_cpu_s / load.answered for load in self.loads])

    @property
    def database_ms(self) -> Spread:
        """Milliseconds of the database server's processor time for one call; 0 without a database server."""
        return Spread.from_numbers([1000 * load.database_cpu_s / load.answered for load in self.loads])

    @property
    def commit_ms(self) -> Spread:
        """Milliseconds of one commit; 0 if commits are not measured."""
        return Spread.from_numbers([1000 * load.commit_s / load.answered for load in self.loads])

    def compute_cpu_ratio(self, other: Turns) -> Spread:
        """Return the ratio of this server's processor time for one call to the other's, round by round."""
        pairs = zip(self.loads, other.loads, strict=True)
        return Spread.from_numbers(
            [mine.server_cpu_s * its.answered / (mine.answered * its.server_cpu_s) for mine, its in pairs]
        )

    @property
    def client_busy(self) -> float:
        """The greatest share of its core that the load used. Near 1, the load limits the rate."""
        return max(load.client_cpu_s / load.seconds for load in self.loads)

    def compute_ratio(self, other: Turns) -> Spread:
        """Return the ratio of this rate to the other's, round by round, so that common disturbances cancel out."""
        pairs = zip(self.loads, other.loads, strict=True)
        return Spread.from_numbers([mine.per_s / its.per_s for mine, its in pairs])


def measure(contenders: dict[str, Send], pace: Pace) -> dict[str, Turns]:
    """Warm up every contender, then measure them in turns. Every second round runs in reverse order.

    Raises: LoadFailed.
    """
    loads: dict[str, list[Load]] = {name: [] for name in contenders}
    for send in contenders.values():
        send(pace.warm_up_s)
    for number in range(pace.rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            loads[name].append(contenders[name](pace.seconds))
    return {name: Turns(name, tuple(its)) for name, its in loads.items()}
