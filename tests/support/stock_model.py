"""A shop's stock in plain Python, as the contract tells of it: what the server has to agree with after each step.

It shares no code with the server. Each action either happens whole, or is refused and leaves nothing.
"""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Place = tuple[str, str]
"""Location and SKU."""
Part = tuple[int, str, str, int]
"""What one line has at one location: line, SKU, location, units."""


class Refused(Exception):
    """That something cannot be done: the reason, and what the caller is told with it."""

    def __init__(self, reason: str, *particulars: Any) -> None:
        super().__init__(reason, *particulars)
        self.reason = reason
        self.told = (reason, *particulars)


class Movement(NamedTuple):
    """One entry of the ledger of stock."""

    cause: str
    source: str
    line: int
    location: str
    sku: str
    on_hand: int
    reserved: int
    allocated: int


@dataclass
class Level:
    """What is where."""

    on_hand: int = 0
    reserved: int = 0
    allocated: int = 0
    backorder: int = 0
    safety: int = 0

    @property
    def unpromised(self) -> int:
        return self.on_hand + self.backorder - self.reserved - self.allocated

    @property
    def sellable(self) -> int:
        return self.unpromised - self.safety

    @property
    def movable(self) -> int:
        return max(0, min(self.on_hand, self.unpromised))


class Promise(Protocol):
    """What may end by itself; `ends` says whether it still can."""

    expires_us: int | None
    ends: bool


@dataclass
class Reservation:
    """What is kept for somebody: (line, SKU, location, units)."""

    expires_us: int
    state: str = "ACTIVE"
    order: str = ""
    kept: list[Part] = field(default_factory=list)

    @property
    def ends(self) -> bool:
        return self.state == "ACTIVE"

    @property
    def skus(self) -> list[str]:
        return [sku for _, sku, _, _ in self.kept]


class StockModel:
    """A shop that has stock and keeps some for people.

    Args:
        priorities: of its locations; stock is taken from the lowest first.
        prices: of its SKUs, in cents.
    """

    def __init__(self, priorities: dict[str, int], prices: dict[str, int], *, now_us: int) -> None:
        self.now_us = now_us
        self.priorities = priorities
        self.prices = prices
        self.levels: dict[Place, Level] = {}
        self.reservations: dict[str, Reservation] = {}
        self.ledger: list[Movement] = []
        self.events: list[tuple[str, str]] = []

    def attempt(self, action: Callable[[], Any]) -> Refused | None:
        """Do something whole, or give why it is refused."""
        before = pickle.dumps(self.__dict__)
        try:
            action()
        except Refused as refused:
            self.__dict__.update(pickle.loads(before))
            return refused
        return None

    def version(self, resource: str) -> int:
        """How often something has changed."""
        return sum(changed == resource for _, changed in self.events)

    # -- stock

    def adjust(self, place: Place, delta: int, *, cause: str = "ADJUST") -> None:
        self.end_due([place[1]])
        self._change_on_hand(place, delta, cause)

    def set(self, place: Place, quantity: int) -> None:
        self.end_due([place[1]])
        there = self.levels.get(place)
        if there is None or there.on_hand != quantity:
            self._change_on_hand(place, quantity - (there.on_hand if there else 0), "COUNT")

    def _change_on_hand(self, place: Place, delta: int, cause: str) -> None:
        movable = self._level(place).movable
        if movable + delta < 0:
            raise Refused("OutOfStock", {place[1]: (-delta, movable)})
        if delta:
            self.move(cause, "", 0, place, on_hand=delta)
        self._level_changed(place)

    def update_level(self, place: Place, *, backorder: int, safety: int) -> None:
        self.end_due([place[1]])
        known = place in self.levels
        level = self._level(place)
        if known and (level.backorder, level.safety) == (backorder, safety):
            return
        level.backorder, level.safety = backorder, safety
        if level.unpromised < 0:
            promised = level.reserved + level.allocated
            raise Refused("OutOfStock", {place[1]: (promised, level.on_hand + backorder)})
        self._level_changed(place)

    def transfer(self, lines: Sequence[tuple[str, int]], source: str, destination: str) -> None:
        wanted = add_up(lines)
        self.end_due(wanted)
        there = {sku: self._level((source, sku)).movable for sku in wanted}
        short = {sku: (units, there[sku]) for sku, units in wanted.items() if units > there[sku]}
        if short:
            raise Refused("OutOfStock", short)
        for sku, units in wanted.items():
            for location, delta in ((source, -units), (destination, units)):
                self.move("TRANSFER", "transfer", 0, (location, sku), on_hand=delta)
                self._level_changed((location, sku))

    def _level(self, place: Place) -> Level:
        return self.levels.setdefault(place, Level())

    def _level_changed(self, place: Place) -> None:
        self.events.append(("stock_level.updated", "locations/{}/stockLevels/{}".format(*place)))

    def move(
        self,
        cause: str,
        source: str,
        line: int,
        place: Place,
        *,
        on_hand: int = 0,
        reserved: int = 0,
        allocated: int = 0,
    ) -> None:
        level = self._level(place)
        level.on_hand += on_hand
        level.reserved += reserved
        level.allocated += allocated
        self.ledger.append(Movement(cause, source, line, *place, on_hand, reserved, allocated))

    def check(self) -> None:
        """What is true of every shop, this one too."""
        for level in self.levels.values():
            assert min(level.on_hand, level.reserved, level.allocated) >= 0
            assert level.reserved + level.allocated <= level.on_hand + level.backorder

    # -- promises

    def _places(self, sku: str, location: str) -> list[str]:
        """Where stock of a SKU is taken from, in order."""
        there = {place: level for (place, one), level in self.levels.items() if one == sku and level.sellable > 0}
        asked = [place for place in there if location in ("", place)]
        return sorted(asked, key=lambda place: (self.priorities[place], -there[place].sellable, place))

    def promise(self, lines: dict[int, tuple[str, int]], location: str) -> list[Part]:
        """Choose where the units of lines are taken from: (line, SKU, location, units)."""
        wanted = add_up(lines.values())
        whole = {sku: self._first(sku, location, units) for sku, units in wanted.items()}
        short = {sku: units for sku, units in wanted.items() if not whole[sku]}
        self._make_room(short, location)
        chosen = []
        for sku in wanted:
            of_sku = {number: units for number, (one, units) in lines.items() if one == sku}
            together = whole[sku] or self._first(sku, location, wanted[sku])
            left = {place: self.levels[place, sku].sellable for place in self._places(sku, location)}
            for number, units in of_sku.items():
                one_place = together or next((place for place in left if left[place] >= units), "")
                for place in [one_place] if one_place else list(left):
                    part = min(units, left[place])
                    left[place] -= part
                    units -= part
                    if part:
                        chosen.append((number, sku, place, part))
        return chosen

    def _first(self, sku: str, location: str, units: int) -> str:
        """The first location that has so many."""
        return next((p for p in self._places(sku, location) if self.levels[p, sku].sellable >= units), "")

    def _make_room(self, wanted: dict[str, int], location: str) -> None:
        """See that so much is there, once what is due has ended where it has to."""
        while True:
            there = {sku: sum(self.levels[p, sku].sellable for p in self._places(sku, location)) for sku in wanted}
            short = {sku: (units, there[sku]) for sku, units in wanted.items() if units > there[sku]}
            if not short:
                return
            if not self.end_due(short):
                raise Refused("OutOfStock", short)

    def end_due(self, skus: Iterable[str] | None = None) -> int:
        """End what is due, or that of it which has any of these SKUs."""
        asked = set(self.prices if skus is None else skus)
        due = [key for key, one in self.reservations.items() if self.is_due(one) and asked & set(one.skus)]
        for key in due:
            self._release(key, "EXPIRED")
        return len(due)

    def is_due(self, promise: Promise) -> bool:
        return promise.ends and promise.expires_us is not None and promise.expires_us <= self.now_us

    def due_units(self, sku: str) -> Counter[str]:
        """Location -> units of a SKU that are promised by what is due."""
        due: Counter[str] = Counter()
        for reservation in self.reservations.values():
            for _, one, place, units in reservation.kept if self.is_due(reservation) else ():
                due[place] += units if one == sku else 0
        return due

    def available(self, sku: str) -> list[tuple[str, int]]:
        """(location, units that can be sold there), without what is due."""
        due = self.due_units(sku)
        units = {p: level.sellable + due[p] for (p, one), level in self.levels.items() if one == sku}
        there = [(place, count) for place, count in units.items() if count > 0]
        return sorted(there, key=lambda item: (self.priorities[item[0]], -item[1], item[0]))

    # -- reservations

    def state_of_reservation(self, key: str) -> str:
        reservation = self.reservations[key]
        return "EXPIRED" if self.is_due(reservation) else reservation.state

    def reserve(self, key: str, lines: Sequence[tuple[str, int]], location: str, ttl_us: int) -> None:
        kept = self.promise(dict(enumerate(lines, start=1)), location)
        for number, sku, place, units in kept:
            self.move("RESERVE", key, number, (place, sku), reserved=units)
        self.reservations[key] = Reservation(
            self.now_us + ttl_us, kept=sorted(kept, key=lambda part: (part[0], part[2]))
        )
        self.events.append(("reservation.created", key))

    def extend(self, key: str, ttl_us: int) -> None:
        reservation = self.active(key, "ACTIVE")
        reservation.expires_us = max(reservation.expires_us, self.now_us + ttl_us)
        self.events.append(("reservation.extended", key))

    def release(self, key: str) -> None:
        self.active(key, "RELEASED")
        self._release(key, "RELEASED")

    def commit(self, key: str) -> None:
        reservation = self.active(key, "COMMITTED")
        self.leave(key, [(number, sku, place, units) for number, sku, place, units in reservation.kept], "reserved")
        reservation.state = "COMMITTED"
        self.events.append(("reservation.committed", key))

    def active(self, key: str, wanted: str) -> Reservation:
        state = self.state_of_reservation(key)
        if state != "ACTIVE":
            raise Refused("IllegalState", state, wanted)
        return self.reservations[key]

    def _release(self, key: str, state: str) -> None:
        for number, sku, place, units in self.reservations[key].kept:
            self.move("RELEASE", key, number, (place, sku), reserved=-units)
        self.reservations[key].state = state
        self.events.append((f"reservation.{state.lower()}", key))

    def leave(self, source: str, parts: Sequence[Part], column: str) -> None:
        """Have promised units leave, which only those can that are there."""
        left: dict[Place, int] = defaultdict(int)
        for _, sku, place, units in parts:
            left[place, sku] += units
        short = {
            sku: (units, self.levels[place, sku].on_hand)
            for (place, sku), units in left.items()
            if units > self.levels[place, sku].on_hand
        }
        if short:
            raise Refused("OutOfStock", short)
        for number, sku, place, units in parts:
            self.move("SHIP", source, number, (place, sku), on_hand=-units, **{column: -units})


def add_up(lines: Iterable[tuple[str, int]]) -> dict[str, int]:
    """SKU -> units, over all lines."""
    units: Counter[str] = Counter()
    for sku, count in lines:
        units[sku] += count
    return dict(sorted(units.items()))
