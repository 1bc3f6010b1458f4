"""A model of a shop's stock in plain Python, from the contract; the server must agree with it after each step.

It shares no code with the server. Each action either succeeds as a whole, or is refused and changes nothing.
"""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Place = tuple[str, str]
"""Location and SKU."""
Part = tuple[int, str, str, int]
"""Units of a line at a location: line, SKU, location, units."""


class Refused(Exception):
    """An action is refused, with the error reason and the metadata of the error."""

    def __init__(self, reason: str, *particulars: Any) -> None:
        super().__init__(reason, *particulars)
        self.reason = reason
        self.reported = (reason, *particulars)


class Movement(NamedTuple):
    """An entry of the stock ledger."""

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
    """The stock of a SKU at a location."""

    on_hand: int = 0
    reserved: int = 0
    allocated: int = 0
    backorder: int = 0
    safety: int = 0
    low: int = 0

    @property
    def condition(self) -> str:
        """Return whether units are left to sell without a backorder: "stocked", "low" or "out"."""
        left = self.on_hand - self.safety - self.reserved - self.allocated
        return "out" if left < 1 else "low" if left <= self.low else "stocked"

    @property
    def uncommitted(self) -> int:
        return self.on_hand + self.backorder - self.reserved - self.allocated

    @property
    def sellable(self) -> int:
        return self.uncommitted - self.safety

    @property
    def movable(self) -> int:
        return max(0, min(self.on_hand, self.uncommitted))


class Promise(Protocol):
    """A resource that may expire; `ends` tells whether it still can."""

    expires_us: int | None
    ends: bool


@dataclass
class Reservation:
    """Reserved units: (line, SKU, location, units)."""

    expires_us: int
    state: str = "ACTIVE"
    order: str = ""
    parts: list[Part] = field(default_factory=list)
    unique: str = ""

    @property
    def ends(self) -> bool:
        return self.state == "ACTIVE"

    @property
    def skus(self) -> list[str]:
        return [sku for _, sku, _, _ in self.parts]


class StockModel:
    """A shop with stock and reservations.

    Args:
        priorities: Priority of each location; stock is taken from the lowest first.
        prices: Price of each SKU, in cents.
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
        """Run an action as a whole; return its refusal, if any."""
        before = pickle.dumps(self.__dict__)
        try:
            with self.crossing_thresholds():
                action()
        except Refused as refused:
            self.__dict__.update(pickle.loads(before))
            return refused
        return None

    @contextmanager
    def crossing_thresholds(self) -> Iterator[None]:
        """Add the events of existing levels that are in another condition at the end of an action."""
        before = {place: level.condition for place, level in self.levels.items()}
        yield
        for place, old in before.items():
            new = self.levels[place].condition
            if new != old and (old, new) != ("low", "stocked"):
                event = "back" if old == "out" else new
                self.events.append((f"stock.{event}", "locations/{}/stockLevels/{}".format(*place)))

    def version(self, resource: str) -> int:
        """Return how often a resource has changed."""
        return sum(changed == resource for _, changed in self.events)

    # -- stock

    def adjust(self, place: Place, delta: int, *, cause: str = "ADJUST") -> None:
        self.expire_due([place[1]])
        self._change_on_hand(place, delta, cause)

    def set(self, place: Place, quantity: int) -> None:
        self.expire_due([place[1]])
        level = self.levels.get(place)
        if level is not None and level.on_hand == quantity:
            return
        delta = quantity - (level.on_hand if level else 0)
        if self._level(place).uncommitted + delta < 0:
            raise Refused("CountBelowCommitted")
        self._change_on_hand(place, delta, "COUNT")

    def _change_on_hand(self, place: Place, delta: int, cause: str) -> None:
        movable = self._level(place).movable
        if movable + delta < 0:
            raise Refused("OutOfStock", {place[1]: (-delta, movable)})
        if delta:
            self.move(cause, "", 0, place, on_hand=delta)
        self._record_level_change(place)

    def update_level(self, place: Place, *, backorder: int, safety: int, low: int) -> None:
        self.expire_due([place[1]])
        known = place in self.levels
        level = self._level(place)
        if known and (level.backorder, level.safety, level.low) == (backorder, safety, low):
            return
        level.backorder, level.safety, level.low = backorder, safety, low
        if level.uncommitted < 0:
            promised = level.reserved + level.allocated
            raise Refused("OutOfStock", {place[1]: (promised, level.on_hand + backorder)})
        self._record_level_change(place)

    def transfer(self, lines: Sequence[tuple[str, int]], source: str, destination: str) -> None:
        requested = sum_quantities(lines)
        self.expire_due(requested)
        available = {sku: self._level((source, sku)).movable for sku in requested}
        short = {sku: (units, available[sku]) for sku, units in requested.items() if units > available[sku]}
        if short:
            raise Refused("OutOfStock", short)
        for sku, units in requested.items():
            for location, delta in ((source, -units), (destination, units)):
                self.move("TRANSFER", "transfer", 0, (location, sku), on_hand=delta)
                self._record_level_change((location, sku))

    def _level(self, place: Place) -> Level:
        return self.levels.setdefault(place, Level())

    def _record_level_change(self, place: Place) -> None:
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
        """Check the invariants of a shop."""
        for level in self.levels.values():
            assert min(level.on_hand, level.reserved, level.allocated) >= 0
            assert level.reserved + level.allocated <= level.on_hand + level.backorder

    # -- promises

    def _places(self, sku: str, location: str) -> list[str]:
        """Return the locations from which a SKU is allocated, in order."""
        levels = {place: level for (place, one), level in self.levels.items() if one == sku and level.sellable > 0}
        candidates = [place for place in levels if location in ("", place)]
        return sorted(candidates, key=lambda place: (self.priorities[place], -levels[place].sellable, place))

    def promise_missing(
        self, missing: dict[int, tuple[str, int]], lines: dict[int, tuple[str, int]], location: str
    ) -> list[Part]:
        """Choose the locations of the missing units of lines. A shortage also counts the units that they have."""
        try:
            return self.promise(missing, location)
        except Refused as refused:
            _, short = refused.args
            lacking, wanted = sum_quantities(missing.values()), sum_quantities(lines.values())
            held = {sku: wanted[sku] - lacking[sku] for sku in short}
            whole = {sku: (units + held[sku], available + held[sku]) for sku, (units, available) in short.items()}
            raise Refused("OutOfStock", whole) from None

    def promise(self, lines: dict[int, tuple[str, int]], location: str) -> list[Part]:
        """Choose the locations of the units of lines: (line, SKU, location, units)."""
        requested = sum_quantities(lines.values())
        whole = {sku: self._first(sku, location, units) for sku, units in requested.items()}
        short = {sku: units for sku, units in requested.items() if not whole[sku]}
        self._make_room(short, location)
        chosen = []
        for sku in requested:
            of_sku = {number: units for number, (one, units) in lines.items() if one == sku}
            together = whole[sku] or self._first(sku, location, requested[sku])
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
        """Return the first location with enough units."""
        return next((p for p in self._places(sku, location) if self.levels[p, sku].sellable >= units), "")

    def _make_room(self, requested: dict[str, int], location: str) -> None:
        """Check that the units are available, after expiring what is due if needed."""
        while True:
            available = {
                sku: sum(self.levels[p, sku].sellable for p in self._places(sku, location)) for sku in requested
            }
            short = {sku: (units, available[sku]) for sku, units in requested.items() if units > available[sku]}
            if not short:
                return
            if not self.expire_due(short):
                raise Refused("OutOfStock", short)

    def expire_due(self, skus: Iterable[str] | None = None) -> int:
        """Expire what is due, or only what has any of these SKUs."""
        asked = set(self.prices if skus is None else skus)
        due = [key for key, one in self.reservations.items() if self.is_due(one) and asked & set(one.skus)]
        for key in due:
            self._release(key, "EXPIRED")
        return len(due)

    def is_due(self, promise: Promise) -> bool:
        return promise.ends and promise.expires_us is not None and promise.expires_us <= self.now_us

    def due_units(self, sku: str) -> Counter[str]:
        """Return the units of a SKU that expired resources still hold, by location."""
        due: Counter[str] = Counter()
        for reservation in self.reservations.values():
            for _, one, place, units in reservation.parts if self.is_due(reservation) else ():
                due[place] += units if one == sku else 0
        return due

    def available(self, sku: str) -> list[tuple[str, int]]:
        """Return (location, available units), without what expired resources hold."""
        due = self.due_units(sku)
        units = {p: level.sellable + due[p] for (p, one), level in self.levels.items() if one == sku}
        available = [(place, count) for place, count in units.items() if count > 0]
        return sorted(available, key=lambda item: (self.priorities[item[0]], -item[1], item[0]))

    # -- reservations

    def state_of_reservation(self, key: str) -> str:
        reservation = self.reservations[key]
        return "EXPIRED" if self.is_due(reservation) else reservation.state

    def reserve(self, key: str, lines: Sequence[tuple[str, int]], location: str, ttl_us: int, unique: str = "") -> str:
        """Reserve units, or update the active reservation with the unique reference. Return the key of either."""
        for other, reservation in self.reservations.items() if unique else ():
            if reservation.unique == unique and reservation.state == "ACTIVE":
                if not self.is_due(reservation):
                    self.update_reservation(other, lines, location, ttl_us)
                    return other
                self._release(other, "EXPIRED")
        parts = self.promise(dict(enumerate(lines, start=1)), location)
        for number, sku, place, units in parts:
            self.move("RESERVE", key, number, (place, sku), reserved=units)
        self.reservations[key] = Reservation(
            self.now_us + ttl_us, parts=sorted(parts, key=lambda part: (part[0], part[2])), unique=unique
        )
        self.events.append(("reservation.created", key))
        return key

    def update_reservation(self, key: str, lines: Sequence[tuple[str, int]], location: str, ttl_us: int) -> None:
        """Replace the lines and the expiry time. Units that are still needed stay where they are."""
        reservation = self.active(key, "ACTIVE")
        before = {(number, sku, place): units for number, sku, place, units in reservation.parts}
        kept, missing = self._keep(before, dict(enumerate(lines, start=1)))
        for (number, sku, place), units in ((part, kept[part] - before.get(part, 0)) for part in {**before, **kept}):
            if units:
                cause = "RESERVE" if units > 0 else "RELEASE"
                self.move(cause, key, number, (place, sku), reserved=units)
        for number, sku, place, units in self.promise_missing(missing, dict(enumerate(lines, start=1)), location):
            self.move("RESERVE", key, number, (place, sku), reserved=units)
            kept[number, sku, place] += units
        parts = sorted(((*part, units) for part, units in kept.items() if units), key=lambda part: (part[0], part[2]))
        if parts != reservation.parts or reservation.expires_us != self.now_us + ttl_us:
            reservation.parts, reservation.expires_us = parts, self.now_us + ttl_us
            self.events.append(("reservation.updated", key))

    @staticmethod
    def _keep(
        before: dict[tuple[int, str, str], int], needed: dict[int, tuple[str, int]]
    ) -> tuple[Counter[tuple[int, str, str]], dict[int, tuple[str, int]]]:
        """Give each line its own old units, then the old units of other lines; return them, and what is missing."""
        left, kept = dict(before), Counter[tuple[int, str, str]]()
        for number, (sku, units) in needed.items():
            for part in [part for part in left if part[:2] == (number, sku)]:
                kept[part] = min(units, left[part])
                left[part] -= kept[part]
                units -= kept[part]
            needed[number] = (sku, units)
        others = Counter[tuple[str, str]]()
        for (_, sku, place), units in left.items():
            others.update({(sku, place): units} if units else {})
        for number, (sku, units) in needed.items():
            for one, place in [part for part in others if part[0] == sku]:
                moved = min(units, others[one, place])
                others[one, place] -= moved
                units -= moved
                kept[number, sku, place] += moved
            needed[number] = (sku, units)
        return kept, {number: line for number, line in needed.items() if line[1]}

    def extend(self, key: str, ttl_us: int) -> None:
        reservation = self.active(key, "ACTIVE")
        reservation.expires_us = max(reservation.expires_us, self.now_us + ttl_us)
        self.events.append(("reservation.extended", key))

    def release(self, key: str) -> None:
        self.active(key, "RELEASED")
        self._release(key, "RELEASED")

    def commit(self, key: str) -> None:
        reservation = self.active(key, "COMMITTED")
        self.leave(key, [(number, sku, place, units) for number, sku, place, units in reservation.parts], "reserved")
        reservation.state = "COMMITTED"
        self.events.append(("reservation.committed", key))

    def active(self, key: str, new_state: str) -> Reservation:
        state = self.state_of_reservation(key)
        if state != "ACTIVE":
            raise Refused("IllegalState", state, new_state)
        return self.reservations[key]

    def _release(self, key: str, state: str) -> None:
        for number, sku, place, units in self.reservations[key].parts:
            self.move("RELEASE", key, number, (place, sku), reserved=-units)
        self.reservations[key].state = state
        self.events.append((f"reservation.{state.lower()}", key))

    def leave(self, source: str, parts: Sequence[Part], column: str) -> None:
        """Ship allocated units; only units on hand can be shipped."""
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


def sum_quantities(lines: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add up units by SKU, over all lines."""
    units: Counter[str] = Counter()
    for sku, count in lines:
        units[sku] += count
    return dict(sorted(units.items()))
