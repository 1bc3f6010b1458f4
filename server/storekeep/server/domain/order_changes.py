"""Changing orders: confirmed, called off, held and let go again.

Every change is a step of the one table of states, and goes into the ledger with the order before and after it.
"""

from __future__ import annotations

from msgspec.structs import replace

from storekeep.server.domain.allocations import allocations_of, deallocate
from storekeep.server.domain.calls import Call
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.order_states import CANCELLED, CONFIRMED, check_step
from storekeep.server.domain.orders import ROWS, Order, find_order, line_rows, row_values
from storekeep.server.domain.resources import check_etag
from storekeep.server.store import orders as store
from storekeep.server.store.engine import Store


def confirm_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Agree to deliver a placed order. From then on it does not expire.

    Raises: OrderNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Order:
        old = find_order(mutation.tx, order_id)
        check_etag(old, etag)
        check_step(old.name, state=old.state, wanted=CONFIRMED)
        new = replace(old, state=CONFIRMED, expire_time_us=None)
        return save(mutation, old, new, happened="confirmed")

    return mutate(db, call, effect, Order)


def cancel_order(db: Store, call: Call, order_id: str, *, reason: str = "", etag: str = "") -> Order:
    """Call an order off and give its stock back.

    Raises: OrderNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Order:
        tx = mutation.tx
        old = find_order(tx, order_id)
        check_etag(old, etag)
        check_step(old.name, state=old.state, wanted=CANCELLED)
        deallocate(mutation, old.name, allocations_of(tx, [old.name])[old.name])
        return save(mutation, old, called_off(old, state=CANCELLED, reason=reason), happened="cancelled")

    return mutate(db, call, effect, Order)


def called_off(old: Order, *, state: str, reason: str = "") -> Order:
    """An order of which nothing was delivered, as it is once all of it is called off: it costs nothing."""
    lines = tuple(replace(line, cancelled=line.quantity, discount_minor=0) for line in old.lines)
    return replace(old, state=state, cancel_reason=reason, lines=lines, shipping_minor=0, total_minor=0)


def save(mutation: Mutation, old: Order, new: Order, *, happened: str) -> Order:
    """Write the next version of an order and of those of its lines that changed, its event and its audit entry."""
    tx = mutation.tx
    new = replace(new, version=old.version + 1, update_time_us=tx.now_us)
    ROWS.update(tx, row_values(new))
    unchanged = set(old.lines)
    lines = [line for line in new.lines if line not in unchanged]
    if lines:
        store.UPDATE_LINES.run(tx, order_id=old.id, lines=line_rows(lines))
    mutation.record(f"order.{happened}", before=old, after=new)
    return new
