"""A model of a shop's orders in plain Python, from the contract; the server must agree with it after each step."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.stock_model import Place, Refused, StockModel

ON_THE_WAY = ("PLACED", "CONFIRMED", "PARTIALLY_FULFILLED")
MAIN = "main"
EVERY_STATE = (*ON_THE_WAY, "FULFILLED", "COMPLETED", "CANCELLED", "EXPIRED")
CHANGEABLE = {"shipping": ("PLACED", "CONFIRMED"), "phone": (*ON_THE_WAY, "FULFILLED"), "note": EVERY_STATE}
"""States in which an update changes a field."""


@dataclass
class Line:
    """One line of an order."""

    sku: str
    quantity: int
    price: int
    discount: int = 0
    fulfilled: int = 0
    cancelled: int = 0
    stated: tuple[int, int] = (0, 0)

    @property
    def open(self) -> int:
        return self.quantity - self.fulfilled - self.cancelled

    @property
    def cost(self) -> int:
        return (self.quantity - self.cancelled) * self.price - self.discount

    @property
    def left(self) -> int:
        return self.quantity - self.cancelled

    def prorate(self) -> None:
        """Set the discount to the part of the stated one that the units have, rounded half up."""
        discount, units = self.stated
        exact, rest = divmod(discount * self.left, units) if units else (0, 0)
        self.discount = exact + (1 if units and 2 * rest >= units else 0)


@dataclass
class Order:
    """An order; `taken` holds the allocated units of its lines by location.

    Attributes:
        frozen: whether its lines state the discount and the units that they had before the first change.
    """

    location: str
    shipping: int
    expires_us: int | None
    state: str = "PLACED"
    held: bool = False
    frozen: bool = False
    phone: str = ""
    note: str = ""
    lines: dict[int, Line] = field(default_factory=dict)
    taken: Counter[tuple[int, str]] = field(default_factory=Counter)

    @property
    def ends(self) -> bool:
        return self.state == "PLACED"

    def freeze(self) -> None:
        """State the discounts, before the first change of an order that has any."""
        if not self.frozen and any(line.discount for line in self.lines.values()):
            self.frozen = True
            for line in self.lines.values():
                line.stated = line.discount, line.left

    def prorate(self) -> None:
        """Set the discounts to the parts of the stated ones."""
        for line in self.lines.values():
            line.prorate()

    @property
    def skus(self) -> list[str]:
        return [line.sku for line in self.lines.values()]

    @property
    def total(self) -> int:
        return self.shipping + sum(line.cost for line in self.lines.values())


@dataclass
class Fulfillment:
    """Units of an order that are shipped together."""

    order: str
    location: str
    units: dict[int, int]
    state: str = "PENDING"
    carrier: str = ""


NEXT = {"PENDING": ("SHIPPED", "CANCELLED"), "SHIPPED": ("DELIVERED", "RESTOCKED"), "DELIVERED": ("RESTOCKED",)}
"""State of a fulfilment -> states that can follow."""


class Model(StockModel):
    """The stock model with orders."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.orders: dict[str, Order] = {}
        self.fulfillments: dict[str, Fulfillment] = {}

    def check(self) -> None:
        """Check the invariants of a shop."""
        super().check()
        for order in self.orders.values():
            for number, line in order.lines.items():
                taken = sum(units for (taken_by, _), units in order.taken.items() if taken_by == number)
                assert taken == (line.open if order.state in ON_THE_WAY else 0)
                assert 0 <= line.discount <= line.discount + line.cost

    def expire_due(self, skus: Iterable[str] | None = None) -> int:
        """Expire what is due, or only what has any of these SKUs."""
        asked = set(self.prices if skus is None else skus)
        due = [key for key, one in self.orders.items() if self.is_due(one) and asked & set(one.skus)]
        for key in due:
            self._cancel_order(key, "EXPIRED")
        return super().expire_due(asked) + len(due)

    def due_units(self, sku: str) -> Counter[str]:
        """Return the units of a SKU that expired resources still hold, by location."""
        due = super().due_units(sku)
        for order in self.orders.values():
            for (number, place), units in order.taken.items() if self.is_due(order) else ():
                due[place] += units if order.lines[number].sku == sku else 0
        return due

    # -- orders

    def state_of_order(self, key: str) -> str:
        order = self.orders[key]
        return "EXPIRED" if self.is_due(order) else order.state

    def place(
        self,
        key: str,
        lines: Sequence[tuple[str, int]],
        *,
        location: str = "",
        reservations: Sequence[str] = (),
        shipping: int = 0,
        ttl_us: int = 0,
    ) -> None:
        order = Order(location or MAIN, shipping, self.now_us + ttl_us if ttl_us else None)
        order.lines = {n: Line(sku, units, self.prices[sku]) for n, (sku, units) in enumerate(lines, start=1)}
        self.orders[key] = order
        requested = dict(enumerate(lines, start=1))
        if reservations:
            requested = self._take_over(key, reservations, requested)
        self._allocate(key, requested, location)
        self.events.append(("order.placed", key))

    def _take_over(
        self, key: str, reservations: Sequence[str], requested: dict[int, tuple[str, int]]
    ) -> dict[int, tuple[str, int]]:
        """Allocate reserved units to lines; return the units that are still needed."""
        left: Counter[Place] = Counter()
        for reservation in reservations:
            for number, sku, place, units in self.active(reservation, "COMMITTED").parts:
                self.move("RELEASE", reservation, number, (place, sku), reserved=-units)
                left[place, sku] += units
        missing = {}
        for number, (sku, units) in requested.items():
            for place, one in left:
                part = min(units, left[place, one]) if one == sku else 0
                if part:
                    left[place, one] -= part
                    units -= part
                    self._take(key, number, place, part)
            if units:
                missing[number] = (sku, units)
        for reservation in reservations:
            self.reservations[reservation].state, self.reservations[reservation].order = "COMMITTED", key
            self.events.append(("reservation.committed", reservation))
        return missing

    def _allocate(self, key: str, requested: dict[int, tuple[str, int]], location: str) -> None:
        lines = {number: (line.sku, line.quantity - line.cancelled) for number, line in self.orders[key].lines.items()}
        for number, _, place, units in self.promise_missing(requested, lines, location):
            self._take(key, number, place, units)

    def _take(self, key: str, number: int, place: str, units: int) -> None:
        order = self.orders[key]
        order.taken[number, place] += units
        self.move("ALLOCATE", key, number, (place, order.lines[number].sku), allocated=units)

    def _give(self, key: str, number: int, place: str, units: int) -> None:
        order = self.orders[key]
        order.taken[number, place] -= units
        self.move("DEALLOCATE", key, number, (place, order.lines[number].sku), allocated=-units)

    def _require(self, key: str, states: Iterable[str], new_state: str, *, held: bool = True) -> Order:
        state = self.state_of_order(key)
        if state not in states:
            raise Refused("IllegalState", state, new_state)
        if not held and self.orders[key].held:
            raise Refused("OrderHeld")
        return self.orders[key]

    def _record_change(self, key: str, happened: str) -> None:
        self.events.append((f"order.{happened}", key))

    def confirm(self, key: str) -> None:
        order = self._require(key, ["PLACED"], "CONFIRMED", held=False)
        order.state, order.expires_us = "CONFIRMED", None
        self._record_change(key, "confirmed")

    def complete(self, key: str) -> None:
        self._require(key, ["FULFILLED"], "COMPLETED", held=False).state = "COMPLETED"
        self._record_change(key, "completed")

    def hold(self, key: str) -> None:
        self._require(key, [*ON_THE_WAY, "FULFILLED"], "HELD", held=False).held = True
        self._record_change(key, "held")

    def resume(self, key: str) -> None:
        if self.state_of_order(key) == "EXPIRED" or not self.orders[key].held:
            raise Refused("OrderNotHeld")
        self.orders[key].held = False
        self._record_change(key, "resumed")

    def update_order(self, key: str, changes: dict[str, Any]) -> None:
        order, state = self.orders[key], self.state_of_order(key)
        due = self.is_due(order)
        current = {"shipping": 0 if due else order.shipping, "phone": order.phone, "note": order.note}
        differing = [name for name, value in changes.items() if value != current[name]]
        for name in differing:
            if state not in CHANGEABLE[name]:
                raise Refused("FieldNotChangeable", name, state)
        if differing:
            if due:
                self._cancel_order(key, "EXPIRED")
            if "shipping" in differing:
                order.freeze()
            for name in differing:
                setattr(order, name, changes[name])
            self._record_change(key, "updated")

    def cancel(self, key: str) -> None:
        self._require(key, ["PLACED", "CONFIRMED"], "CANCELLED")
        for fulfillment, bound in self.fulfillments.items():
            if (bound.order, bound.state) == (key, "PENDING"):
                self._step(fulfillment, "CANCELLED")
        self._cancel_order(key, "CANCELLED")

    def _cancel_order(self, key: str, state: str, *, happened: str = "") -> None:
        order = self.orders[key]
        for (number, place), units in list(order.taken.items()):
            if units:
                self._give(key, number, place, units)
        for line in order.lines.values():
            line.cancelled, line.discount = line.quantity, 0
        order.state, order.shipping, order.held = state, 0, False
        self._record_change(key, happened or state.lower())

    def cancel_lines(self, key: str, units: dict[int, int]) -> None:
        order = self._require(key, ON_THE_WAY, "CANCELLED")
        unbound = self.unbound(key)
        order.freeze()
        for number, requested in units.items():
            count = requested or sum(free for (line, _), free in unbound.items() if line == number)
            self._give_back(key, unbound, number, count)
            order.lines[number].cancelled += count
        order.prorate()
        self._settle(key, "lines_cancelled")

    def edit(
        self, key: str, *, added: Sequence[tuple[str, int]], changed: dict[int, int], removed: Sequence[int]
    ) -> None:
        order = self._require(key, ["PLACED", "CONFIRMED"], "EDITED")
        was_frozen = order.frozen
        order.freeze()
        before = pickle.dumps(order.lines)
        grown: dict[int, tuple[str, int]] = {}
        unbound = self.unbound(key)
        for number, requested in {**changed, **dict.fromkeys(removed, 0)}.items():
            line = order.lines[number]
            remaining = line.left
            if requested > remaining:
                grown[number] = (line.sku, requested - remaining)
            elif requested < remaining:
                self._give_back(key, unbound, number, remaining - requested)
            if requested == 0 < remaining:
                line.cancelled += remaining
            elif requested != remaining:
                line.quantity = requested + line.cancelled
        for number, (sku, units) in enumerate(added, start=len(order.lines) + 1):
            order.lines[number] = Line(sku, units, self.prices[sku])
            grown[number] = (sku, units)
        order.prorate()
        if pickle.dumps(order.lines) == before:
            order.frozen = was_frozen
            return
        self._allocate(key, dict(sorted(grown.items())), "" if order.location == MAIN else order.location)
        self._settle(key, "edited")

    def _give_back(self, key: str, unbound: dict[tuple[int, str], int], number: int, units: int) -> None:
        available = sum(free for (line, _), free in unbound.items() if line == number)
        if available < max(1, units):
            raise Refused("UnitsNotOpen")
        for line, place in reversed(unbound):
            part = min(units, unbound[line, place]) if line == number else 0
            units -= part
            if part:
                self._give(key, number, place, part)

    def unbound(self, key: str) -> dict[tuple[int, str], int]:
        """Return the open units without a fulfilment by (line, location), in the order of allocation."""
        free = Counter(self.orders[key].taken)
        for bound in self.fulfillments.values():
            if (bound.order, bound.state) == (key, "PENDING"):
                free.subtract({(number, bound.location): units for number, units in bound.units.items()})
        keys = sorted(free, key=lambda part: (self.priorities[part[1]], part[1], part[0]))
        return {part: free[part] for part in keys if free[part] > 0}

    def _settle(self, key: str, happened: str) -> None:
        """Set the state of an order after its lines have changed."""
        order = self.orders[key]
        if any(line.open for line in order.lines.values()):
            self._record_change(key, happened)
        elif any(line.fulfilled for line in order.lines.values()):
            order.state = "FULFILLED"
            self._record_change(key, "fulfilled")
        else:
            self._cancel_order(key, "CANCELLED")

    # -- fulfilments

    def fulfill(self, key: str, order_key: str, units: dict[int, int], location: str) -> None:
        self._require(order_key, ["CONFIRMED", "PARTIALLY_FULFILLED"], "PARTIALLY_FULFILLED", held=False)
        unbound = self.unbound(order_key)
        for place in [location] if location else dict.fromkeys(place for _, place in unbound):
            here = {number: free for (number, where), free in unbound.items() if where == place}
            requested = {number: count or here.get(number, 0) for number, count in (units or here).items()}
            if requested and all(0 < count <= here.get(number, 0) for number, count in requested.items()):
                self.fulfillments[key] = Fulfillment(order_key, place, requested)
                self.events.append(("fulfillment.created", key))
                return
        raise Refused("UnitsNotOpen")

    def ship(self, key: str) -> None:
        bound = self._can_become(key, "SHIPPED")
        order = self.orders[bound.order]
        if order.held:
            raise Refused("OrderHeld")
        parts = [(number, order.lines[number].sku, bound.location, units) for number, units in bound.units.items()]
        self.leave(bound.order, parts, "allocated")
        for number, units in bound.units.items():
            order.taken[number, bound.location] -= units
            order.lines[number].fulfilled += units
        order.state = "PARTIALLY_FULFILLED" if any(line.open for line in order.lines.values()) else "FULFILLED"
        self._record_change(bound.order, order.state.lower())
        self._step(key, "SHIPPED")

    def restock(self, key: str, location: str) -> None:
        bound = self._can_become(key, "RESTOCKED")
        order, place = self.orders[bound.order], location or bound.location
        for number, units in bound.units.items():
            order.lines[number].fulfilled -= units
            order.taken[number, place] += units
            part = (place, order.lines[number].sku)
            self.move("RETURN", bound.order, number, part, on_hand=units, allocated=units)
        remaining = any(line.fulfilled for line in order.lines.values())
        self._require(bound.order, [*ON_THE_WAY, "FULFILLED"], "PARTIALLY_FULFILLED" if remaining else "CONFIRMED")
        order.state = "PARTIALLY_FULFILLED" if remaining else "CONFIRMED"
        self._record_change(bound.order, "restocked")
        self._step(key, "RESTOCKED")

    def update_fulfillment(self, key: str, carrier: str) -> None:
        bound = self.fulfillments[key]
        if carrier != bound.carrier:
            if bound.state not in ("PENDING", "SHIPPED", "DELIVERED"):
                raise Refused("FieldNotChangeable", "carrier", bound.state)
            bound.carrier = carrier
            self.events.append(("fulfillment.updated", key))

    def deliver(self, key: str) -> None:
        self._can_become(key, "DELIVERED")
        self._step(key, "DELIVERED")

    def cancel_fulfillment(self, key: str) -> None:
        self._can_become(key, "CANCELLED")
        self._step(key, "CANCELLED")

    def _can_become(self, key: str, new_state: str) -> Fulfillment:
        bound = self.fulfillments[key]
        if new_state not in NEXT.get(bound.state, ()):
            raise Refused("IllegalState", bound.state, new_state)
        return bound

    def _step(self, key: str, state: str) -> None:
        self.fulfillments[key].state = state
        self.events.append((f"fulfillment.{state.lower()}", key))
