"""Calling off: whole orders, units of their lines, and what nobody confirmed in time. Their stock goes back.

Refuses to call off what was shipped, or what is bound to a fulfilment that may leave any moment. Invariant: an order
that is CANCELLED or EXPIRED has no open unit and costs nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import UnitsNotOpen
from storekeep.server.domain.money import share_of
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.changes import order_to_change, save
from storekeep.server.domain.orders.fulfillments import (
    LineUnits,
    Unbound,
    cancel_pending,
    check_lines_there,
    check_named_once,
    unbound_units,
)
from storekeep.server.domain.orders.orders import ROWS, Order, OrderLine, called_off, read_written
from storekeep.server.domain.orders.states import (
    CANCELLED,
    CONFIRMED,
    EXPIRED,
    FULFILLED,
    HOLDS_STOCK,
    check_step,
    require_state,
)
from storekeep.server.domain.stock.allocations import Share, allocations_of, deallocate
from storekeep.server.domain.stock.expiry import Expirer
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store


def cancel_order(db: Store, call: Call, order_id: str, *, reason: str = "", etag: str = "") -> Order:
    """Call an order off of which nothing was shipped, with its pending fulfilments, and give its stock back.

    Raises: OrderNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Order:
        old = order_to_change(mutation.tx, order_id, etag=etag)
        check_step(old.name, state=old.state, wanted=CANCELLED)
        if old.state == CONFIRMED:
            cancel_pending(mutation, old)
        deallocate(mutation, old.name, allocations_of(mutation.tx, [old.name])[old.name])
        new = called_off(old, state=CANCELLED, reason=reason)
        return save(mutation, old, new, happened="cancelled", reason=reason)

    return mutate(db, call, effect, Order)


def cancel_order_lines(
    db: Store, call: Call, order_id: str, lines: Sequence[LineUnits], *, reason: str = "", etag: str = ""
) -> Order:
    """Call off units of some lines and give their stock back to where it came from.

    Raises: InvalidField, OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, UnitsNotOpen.
    """
    check_named_once(lines)

    def effect(mutation: Mutation) -> Order:
        old = order_to_change(mutation.tx, order_id, etag=etag)
        require_state(old.name, state=old.state, among=HOLDS_STOCK, wanted=CANCELLED)
        check_lines_there(old, lines)
        unbound = unbound_units(mutation.tx, old)
        there = unbound_of(unbound)
        units = {number: wanted or there[number] for number, wanted in lines}
        give_back(mutation, old, unbound, units)
        new = settled(replace(old, lines=tuple(without(line, units.get(line.line_number, 0)) for line in old.lines)))
        if new.state == CANCELLED:
            new = replace(new, cancel_reason=reason)
        happened = "lines_cancelled" if new.state == old.state else new.state.lower()
        return save(mutation, old, new, happened=happened, reason=reason)

    return mutate(db, call, effect, Order)


def unbound_of(unbound: Unbound) -> Counter[int]:
    """Line -> units, wherever they are, that are open and bound to no fulfilment."""
    there: Counter[int] = Counter()
    for (line_number, _), units in unbound.items():
        there[line_number] += units
    return there


def give_back(mutation: Mutation, order: Order, unbound: Unbound, units: Mapping[int, int]) -> None:
    """Give up unbound units of lines, from the last of their locations first.

    Args:
        units: line -> how many.

    Raises: UnitsNotOpen.
    """
    skus = {line.line_number: line.sku for line in order.lines}
    places: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for (line_number, location_id), free in reversed(unbound.items()):
        places[line_number].append((location_id, free))
    shares: list[Share] = []
    for line_number, wanted in units.items():
        there = sum(free for _, free in places[line_number])
        if there < max(1, wanted):
            raise UnitsNotOpen(order.name, line_number=line_number, wanted=max(1, wanted), there=there)
        missing = wanted
        for location_id, free in places[line_number]:
            taken = min(missing, free)
            if taken:
                missing -= taken
                shares.append(Share(line_number, skus[line_number], location_id, taken))
    deallocate(mutation, order.name, shares)


def without(line: OrderLine, units: int) -> OrderLine:
    """A line without some of its units, which take their part of the discount with them."""
    kept = line.quantity - line.cancelled
    return replace(
        line, cancelled=line.cancelled + units, discount_minor=share_of(line.discount_minor, kept - units, kept)
    )


def settled(order: Order) -> Order:
    """An order whose lines have changed, with the state and the total that follow from them."""
    if not any(line.open for line in order.lines):
        if not any(line.fulfilled for line in order.lines):
            return called_off(order, state=CANCELLED)
        order = replace(order, state=FULFILLED)
    return replace(order, total_minor=order.shipping_minor + sum(line.total_minor for line in order.lines))


# -- expiry


def _find_expired(tx: Transaction, most: int) -> list[str]:
    return [order_id for (order_id,) in store.DUE.all(tx, now_us=tx.now_us, most=most)]


def _find_expired_of(tx: Transaction, skus: Sequence[str], most: int) -> list[str]:
    asked = msgspec.json.encode(list(skus)).decode()
    return [order_id for (order_id,) in store.DUE_OF.all(tx, now_us=tx.now_us, skus=asked, most=most)]


def _expire(mutation: Mutation, order_ids: Sequence[str]) -> None:
    """Write that orders have expired, and give their stock back."""
    tx = mutation.tx
    orders = read_written(tx, ROWS.find_many(tx, [(order_id,) for order_id in order_ids]))
    allocated = allocations_of(tx, [order.name for order in orders])
    for old in orders:
        deallocate(mutation, old.name, allocated[old.name])
        save(mutation, old, called_off(old, state=EXPIRED), happened="expired")


EXPIRER = Expirer(find=_find_expired, find_of=_find_expired_of, expire=_expire)
