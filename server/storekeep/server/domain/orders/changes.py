"""Changing orders: confirmed, held and resumed, completed; and how any change of one is written.

Every change is a step of the one table of states or leaves the state as it is, and goes into the ledger with the order
before and after it. Refuses to move on what is held.
"""

from __future__ import annotations

from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import OrderHeld, OrderNotHeld
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.orders import ROWS, Order, find_order, insert_lines, row_values, update_lines
from storekeep.server.domain.orders.states import COMPLETED, CONFIRMED, ENDED, ORDER_STATES, check_step, require_state
from storekeep.server.domain.standard.resources import check_etag
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction

HELD = "HELD"
"""What a hold makes of an order, as a refusal tells it; its state stays."""
GOES_ON = frozenset(ORDER_STATES) - ENDED


def confirm_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Agree to deliver a placed order. From then on it does not expire.

    Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = order_to_change(mutation.tx, order_id, etag=etag)
        check_step(old.name, state=old.state, wanted=CONFIRMED)
        check_not_held(old)
        return save(mutation, old, replace(old, state=CONFIRMED, expire_time_us=None), happened="confirmed")

    return mutate(db, call, effect, Order)


def complete_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Close an order of which nothing is to be delivered any more.

    Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = order_to_change(mutation.tx, order_id, etag=etag)
        check_step(old.name, state=old.state, wanted=COMPLETED)
        check_not_held(old)
        return save(mutation, old, replace(old, state=COMPLETED), happened="completed")

    return mutate(db, call, effect, Order)


def hold_order(db: Store, call: Call, order_id: str, *, reason: str = "", etag: str = "") -> Order:
    """Keep an order from going further, until it is resumed.

    Raises: OrderNotFound, EtagMismatch, IllegalState, OrderHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = order_to_change(mutation.tx, order_id, etag=etag)
        require_state(old.name, state=old.state, among=GOES_ON, wanted=HELD)
        check_not_held(old)
        return save(mutation, old, replace(old, held=True, hold_reason=reason), happened="held", reason=reason)

    return mutate(db, call, effect, Order)


def resume_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Let a held order go on.

    Raises: OrderNotFound, EtagMismatch, OrderNotHeld.
    """

    def effect(mutation: Mutation) -> Order:
        old = order_to_change(mutation.tx, order_id, etag=etag)
        if not old.held:
            raise OrderNotHeld(old.name)
        return save(mutation, old, replace(old, held=False, hold_reason=""), happened="resumed")

    return mutate(db, call, effect, Order)


def order_to_change(tx: Transaction, order_id: str, *, etag: str) -> Order:
    """The order as it is, for a caller who has seen it so.

    Raises: OrderNotFound, EtagMismatch.
    """
    order = find_order(tx, order_id)
    check_etag(order, etag)
    return order


def check_not_held(order: Order) -> None:
    """Refuse to move on what is held.

    Raises: OrderHeld.
    """
    if order.held:
        raise OrderHeld(order.name, hold_reason=order.hold_reason)


def save(mutation: Mutation, old: Order, new: Order, *, happened: str, reason: str = "") -> Order:
    """Write the next version of an order and of those of its lines that changed, its event and its audit entry.

    Args:
        happened: the verb in the name of the event.
        reason: why, for whoever reads the history.
    """
    tx = mutation.tx
    new = replace(new, version=old.version + 1, update_time_us=tx.now_us, change_reason=reason)
    ROWS.update(tx, row_values(new))
    before = {line.line_number: line for line in old.lines}
    changed = [line for line in new.lines if before.get(line.line_number, line) != line]
    added = [line for line in new.lines if line.line_number not in before]
    if changed:
        update_lines(tx, old.id, changed)
    if added:
        insert_lines(tx, old.id, added)
    mutation.record(f"order.{happened}", before=old, after=new)
    return new
