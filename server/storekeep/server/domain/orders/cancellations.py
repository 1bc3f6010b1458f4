"""Cancellation of whole orders and of units of their lines, and expiry of unconfirmed orders. Stock is released.

Shipped units cannot be cancelled, and `cancel_order_lines` refuses units that are assigned to a fulfilment.
Invariant: a CANCELLED or EXPIRED order has no open units and a total of 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import UnitsNotOpen
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.changes import find_order_for_update, save_order
from storekeep.server.domain.orders.fulfillments import (
    LineUnits,
    Unbound,
    cancel_pending_fulfillments,
    check_lines_distinct,
    check_lines_exist,
    read_unbound_units,
)
from storekeep.server.domain.orders.orders import (
    ROWS,
    Order,
    OrderLine,
    cancel_all_lines,
    find_order,
    read_stored_rows,
)
from storekeep.server.domain.orders.prorating import prorate_order
from storekeep.server.domain.orders.repricing import reprice_order
from storekeep.server.domain.orders.states import (
    CANCELLED,
    CONFIRMED,
    EXPIRED,
    FULFILLED,
    HOLDS_STOCK,
    check_step,
    require_state,
)
from storekeep.server.domain.stock.allocations import Share, deallocate_units, read_allocations
from storekeep.server.domain.stock.expiry import CALL as EXPIRY_CALL
from storekeep.server.domain.stock.expiry import Expirer
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store


def cancel_order(db: Store, call: Call, order_id: str, *, reason: str = "", etag: str = "") -> Order:
    """Cancel an order with no shipped units, cancel its pending fulfilments and release its stock.

    Raises: OrderNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        check_step(old.name, order_number=old.number, state=old.state, target=CANCELLED)
        if old.state == CONFIRMED:
            cancel_pending_fulfillments(mutation, old)
        deallocate_units(mutation, old.name, read_allocations(mutation.tx, [old.name])[old.name])
        new = cancel_all_lines(old, state=CANCELLED, reason=reason)
        return save_order(mutation, old, new, event="cancelled", reason=reason)

    return mutate(db, call, effect, Order)


def cancel_order_lines(
    db: Store, call: Call, order_id: str, lines: Sequence[LineUnits], *, reason: str = "", etag: str = ""
) -> Order:
    """Cancel units of some lines and release their stock at the locations where it is allocated.

    Args:
        lines: line numbers and units; 0 units cancels all open units without a fulfilment.

    Raises: InvalidField, OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, UnitsNotOpen.
    """
    check_lines_distinct(lines)

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        require_state(old.name, order_number=old.number, state=old.state, among=HOLDS_STOCK, target=CANCELLED)
        check_lines_exist(old, lines)
        unbound = read_unbound_units(mutation.tx, old)
        unbound_by_line = sum_unbound(unbound)
        units = {number: requested or unbound_by_line[number] for number, requested in lines}
        deallocate_unbound(mutation, old, unbound, units)
        lines_after = tuple(cancel_line_units(line, units.get(line.line_number, 0)) for line in old.lines)
        new = recalculate_order(old, replace(old, lines=lines_after))
        if new.state == CANCELLED:
            new = replace(new, cancel_reason=reason)
        event = "lines_cancelled" if new.state == old.state else new.state.lower()
        return save_order(mutation, old, new, event=event, reason=reason)

    return mutate(db, call, effect, Order)


def sum_unbound(unbound: Unbound) -> Counter[int]:
    """Return line number -> open units without a fulfilment, over all locations."""
    totals: Counter[int] = Counter()
    for (line_number, _), units in unbound.items():
        totals[line_number] += units
    return totals


def deallocate_unbound(mutation: Mutation, order: Order, unbound: Unbound, units: Mapping[int, int]) -> None:
    """Deallocate units without a fulfilment, starting at the last location of each line.

    Args:
        unbound: what `read_unbound_units` returned.
        units: line number -> units to deallocate.

    Raises: UnitsNotOpen.
    """
    skus = {line.line_number: line.sku for line in order.lines}
    sources: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for (line_number, location_id), free in reversed(unbound.items()):
        sources[line_number].append((location_id, free))
    shares: list[Share] = []
    for line_number, requested in units.items():
        available = sum(free for _, free in sources[line_number])
        if available < max(1, requested):
            raise UnitsNotOpen(
                order.name,
                order_number=order.number,
                line_number=line_number,
                requested=max(1, requested),
                available=available,
            )
        missing = requested
        for location_id, free in sources[line_number]:
            taken = min(missing, free)
            if taken:
                missing -= taken
                shares.append(Share(line_number, skus[line_number], location_id, taken))
    deallocate_units(mutation, order.name, shares)


def cancel_line_units(line: OrderLine, units: int) -> OrderLine:
    """Return a line with some more units cancelled. `recalculate_order` calculates what it costs then."""
    return replace(line, cancelled=line.cancelled + units)


def recalculate_order(old: Order, new: Order) -> Order:
    """Return an order with the state and the amounts that follow from its changed lines.

    Args:
        old: the order before the change.
        new: the order with the units after the change.

    Raises: InvalidAmount.
    """
    if not any(line.open for line in new.lines):
        if not any(line.fulfilled for line in new.lines):
            return cancel_all_lines(new, state=CANCELLED)
        new = replace(new, state=FULFILLED)
    return prorate_order(old, new) if new.terms is None else reprice_order(new, new.terms)


# -- expiry


def _find_expired(tx: Transaction, limit: int) -> list[str]:
    return [order_id for (order_id,) in store.EXPIRED_IDS.all(tx, now_us=tx.now_us, most=limit)]


def _find_expired_by_sku(tx: Transaction, skus: Sequence[str], limit: int) -> list[str]:
    skus_json = msgspec.json.encode(list(skus)).decode()
    return [order_id for (order_id,) in store.EXPIRED_IDS_BY_SKU.all(tx, now_us=tx.now_us, skus=skus_json, most=limit)]


def _expire(mutation: Mutation, order_ids: Sequence[str]) -> None:
    """Write the expiry of orders and release their stock."""
    tx = mutation.tx
    orders = read_stored_rows(tx, ROWS.find_many(tx, [(order_id,) for order_id in order_ids]))
    allocated = read_allocations(tx, [order.name for order in orders])
    for old in orders:
        deallocate_units(mutation, old.name, allocated[old.name])
        save_order(mutation, old, cancel_all_lines(old, state=EXPIRED), event="expired")


def write_expiry(mutation: Mutation, order: Order) -> Order:
    """Write the expiry of an expired order, unless it is written already. Return the order as it is stored then."""
    tx = mutation.tx
    if order.state in [stored.state for stored in read_stored_rows(tx, ROWS.find_many(tx, [(order.id,)]))]:
        return order
    _expire(mutation.by(EXPIRY_CALL), [order.id])
    return find_order(tx, order.id)


EXPIRER = Expirer(find=_find_expired, find_by_sku=_find_expired_by_sku, expire=_expire)
