"""Updates of the fields of a placed order, each as long as the state of the order allows it; see `CHANGEABLE`.

Lines change by `edits`, states by `changes`. Invariant: an update that changes nothing writes nothing, and the total
follows from the lines, the shipping cost and tax.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from storekeep.server.domain.addresses import check_address
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import CurrencyMismatch, FieldNotChangeable, InvalidField
from storekeep.server.domain.money import Money
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.cancellations import write_expiry
from storekeep.server.domain.orders.changes import find_order_for_update, save_order
from storekeep.server.domain.orders.orders import DELIVERED_BEFORE_SHIPPED, Order, is_reversed
from storekeep.server.domain.orders.prorating import prorate_order
from storekeep.server.domain.orders.references import require_reference, require_unused_reference
from storekeep.server.domain.orders.repricing import move_to_zone, reprice_order, set_shipping_price
from storekeep.server.domain.orders.states import CHANGEABLE, EDITABLE, EXPIRED
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction

ATTRIBUTES = {"ship_by_time": "ship_by_time_us", "deliver_by_time": "deliver_by_time_us"}
"""Field of the contract -> attribute of `Order`, where the names differ. `shipping` is converted; see `_apply`."""
NOTHING_HIDDEN: frozenset[str] = frozenset()


def update_order(
    db: Store, call: Call, order_id: str, changes: Mapping[str, Any], *, reason: str = "", etag: str = ""
) -> Order:
    """Set fields of an order to new values. Write nothing if no value differs.

    Args:
        changes: field of the contract, one of `CHANGEABLE` -> new value: an address or None, text, labels, a time in
            microseconds since 1970 or None, or the shipping cost as `Money` or None.
        reason: the caller's reason, shown in the history.

    Raises: OrderNotFound, EtagMismatch, FieldNotChangeable, CurrencyMismatch, InvalidField, InvalidAmount,
        ReferenceTaken.
    """
    hidden = NOTHING_HIDDEN if call.caller.reads_personal_data else frozenset(Order.PERSONAL.hidden)

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        new = _apply(mutation.tx, old, changes, hidden)
        if new == old:
            return old
        if old.state == EXPIRED:
            old = write_expiry(mutation, old)
            new = _apply(mutation.tx, old, changes, hidden)
        if old.unique_reference and new.external_reference != old.external_reference:
            require_reference(new.external_reference, field="order.external_reference")
            require_unused_reference(mutation.tx, (new.source, new.external_reference))
        return save_order(mutation, old, new, event="updated", reason=reason)

    return mutate(db, call, effect, Order)


def _apply(tx: Transaction, order: Order, changes: Mapping[str, Any], hidden: frozenset[str]) -> Order:
    """Return the order with the new values and the total that follows.

    Args:
        hidden: the fields that the caller may not read. They count as different even if they are equal: else a
            refusal would tell whether the caller guessed a value.

    Raises: FieldNotChangeable, CurrencyMismatch, InvalidField, InvalidAmount.
    """
    for field in _list_differing(order, changes, hidden):
        if order.state not in CHANGEABLE[field]:
            raise FieldNotChangeable(order.name, order_number=order.number, field=field, state=order.state)
    shipping: Money | None = changes.get("shipping")
    if shipping is not None and shipping.currency_code != order.currency_code:
        raise CurrencyMismatch("order.shipping", f"the order is priced in {order.currency_code}")
    attributes = {ATTRIBUTES.get(field, field): value for field, value in changes.items() if field != "shipping"}
    new = replace(order, **attributes)
    check_address(new.shipping_address, field="order.shipping_address", old=order.shipping_address)
    check_address(new.billing_address, field="order.billing_address", old=order.billing_address)
    times = new.ship_by_time_us, new.deliver_by_time_us
    if times != (order.ship_by_time_us, order.deliver_by_time_us) and is_reversed(*times):
        raise InvalidField("order.deliver_by_time", DELIVERED_BEFORE_SHIPPED)
    shipping_minor = shipping.amount_minor if shipping else 0
    sets_shipping = "shipping" in changes and shipping_minor != order.shipping_minor
    if order.terms is not None and order.state in EDITABLE:
        pricing = set_shipping_price(order.terms, shipping_minor) if sets_shipping else order.terms
        if (new.shipping_address, new.billing_address) != (order.shipping_address, order.billing_address):
            pricing = move_to_zone(tx, new, pricing)
        return new if pricing is order.pricing else reprice_order(new, pricing, field="order.shipping")
    if not sets_shipping:
        return new
    return prorate_order(order, replace(new, shipping_minor=shipping_minor), field="order.shipping")


def _list_differing(order: Order, changes: Mapping[str, Any], hidden: frozenset[str]) -> Iterator[str]:
    """Yield the fields whose new value differs from the current one, and all hidden ones."""
    for field, value in changes.items():
        if field == "shipping":
            current: Any = Money(order.currency_code, order.shipping_minor)
            value = value or Money(order.currency_code, 0)
        else:
            current = getattr(order, ATTRIBUTES.get(field, field))
        if value != current or field in hidden:
            yield field
