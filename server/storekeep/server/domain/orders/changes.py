"""Changes of an order's state and hold, and the function that writes any change of an order.

Each change follows `ORDER_STEPS` or keeps the state, and writes an audit entry with the order before and after. An
order on hold cannot be confirmed or completed.
"""

from __future__ import annotations

from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import OrderHeld, OrderNotHeld
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.orders import ROWS, Order, build_row_values, find_order, insert_lines, update_lines
from storekeep.server.domain.orders.states import (
    CANCELLED,
    COMPLETED,
    CONFIRMED,
    EXPIRED,
    ORDER_STATES,
    TERMINAL_STATES,
    check_step,
    require_state,
)
from storekeep.server.domain.pricing.counts import release_uses
from storekeep.server.domain.standard.resources import check_etag
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction

HELD = "HELD"
"""The target that an `IllegalState` error names for a hold, which does not change the state."""
HOLDABLE = frozenset(ORDER_STATES) - TERMINAL_STATES
"""States in which an order can be put on hold."""


def confirm_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Confirm a placed order. A confirmed order does not expire.

    Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        check_step(old.name, order_number=old.number, state=old.state, target=CONFIRMED)
        check_not_held(old)
        return save_order(mutation, old, replace(old, state=CONFIRMED, expire_time_us=None), event="confirmed")

    return mutate(db, call, effect, Order)


def complete_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Close a fulfilled order.

    Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        check_step(old.name, order_number=old.number, state=old.state, target=COMPLETED)
        check_not_held(old)
        return save_order(mutation, old, replace(old, state=COMPLETED), event="completed")

    return mutate(db, call, effect, Order)


def hold_order(db: Store, call: Call, order_id: str, *, reason: str = "", etag: str = "") -> Order:
    """Put an order on hold until it is resumed.

    Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        require_state(old.name, order_number=old.number, state=old.state, among=HOLDABLE, target=HELD)
        check_not_held(old)
        return save_order(mutation, old, replace(old, held=True, hold_reason=reason), event="held", reason=reason)

    return mutate(db, call, effect, Order)


def resume_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Remove the hold from an order.

    Raises: OrderNotFound, EtagMismatch, OrderNotHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        if not old.held:
            raise OrderNotHeld(old.name, order_number=old.number)
        return save_order(mutation, old, replace(old, held=False, hold_reason=""), event="resumed")

    return mutate(db, call, effect, Order)


def find_order_for_update(tx: Transaction, order_id: str, *, etag: str) -> Order:
    """Return the current order if the etag matches it.

    Args:
        etag: the version that the caller has seen; empty to skip the check.

    Raises: OrderNotFound, EtagMismatch.
    """
    order = find_order(tx, order_id)
    check_etag(order, etag)
    return order


def check_not_held(order: Order) -> None:
    """Raise if the order is on hold.

    Raises: OrderHeld.
    """
    if order.held:
        raise OrderHeld(order.name, order_number=order.number, hold_reason=order.hold_reason)


def save_order(mutation: Mutation, old: Order, new: Order, *, event: str, reason: str = "") -> Order:
    """Write the next version of an order and its changed lines, its event and its audit entry. Return that version.

    Args:
        event: the last part of the event's name, such as `confirmed`.
        reason: the caller's reason for the change, shown in the history.
    """
    tx = mutation.tx
    new = replace(new, version=old.version + 1, update_time_us=tx.now_us, change_reason=reason)
    ROWS.update(tx, build_row_values(tx, new))
    before = {line.line_number: line for line in old.lines}
    changed = [line for line in new.lines if before.get(line.line_number, line) != line]
    added = [line for line in new.lines if line.line_number not in before]
    if changed:
        update_lines(tx, old.id, changed)
    if added:
        insert_lines(tx, old.id, added)
    ended = new.state != old.state and new.state in (CANCELLED, EXPIRED)
    if ended and new.pricing is not None and new.pricing.rules.returns_uses:
        release_uses(tx, old.id)
    mutation.record(f"order.{event}", before=old, after=new)
    return new
