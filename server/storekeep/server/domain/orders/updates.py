"""Updates of the fields of a placed order, each as long as the state of the order allows it; see `CHANGEABLE`.

Lines change by `edits`, states by `changes`. Invariant: an update that changes nothing writes nothing, and the total
stays the sum of the lines and the shipping cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import CurrencyMismatch, FieldNotChangeable, InvalidField
from storekeep.server.domain.money import Money
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.cancellations import write_expiry
from storekeep.server.domain.orders.changes import find_order_for_update, save_order
from storekeep.server.domain.orders.orders import DELIVERED_BEFORE_SHIPPED, Order, is_reversed
from storekeep.server.domain.orders.placing import calculate_total
from storekeep.server.domain.orders.references import require_reference, require_unused_reference
from storekeep.server.domain.orders.states import CHANGEABLE, EXPIRED
from storekeep.server.store.engine import Store

ATTRIBUTES = {"ship_by_time": "ship_by_time_us", "deliver_by_time": "deliver_by_time_us"}
"""Field of the contract -> attribute of `Order`, where the names differ. `shipping` is converted; see `_apply`."""


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

    def effect(mutation: Mutation) -> Order:
        old = find_order_for_update(mutation.tx, order_id, etag=etag)
        new = _apply(old, changes)
        if new == old:
            return old
        if old.state == EXPIRED:
            old = write_expiry(mutation, old)
            new = _apply(old, changes)
        if old.unique_reference and new.external_reference != old.external_reference:
            require_reference(new.external_reference, field="order.external_reference")
            require_unused_reference(mutation.tx, (new.source, new.external_reference))
        return save_order(mutation, old, new, event="updated", reason=reason)

    return mutate(db, call, effect, Order)


def _apply(order: Order, changes: Mapping[str, Any]) -> Order:
    """Return the order with the new values and the total that follows.

    Raises: FieldNotChangeable, CurrencyMismatch, InvalidField, InvalidAmount.
    """
    for field in _list_differing(order, changes):
        if order.state not in CHANGEABLE[field]:
            raise FieldNotChangeable(order.name, order_number=order.number, field=field, state=order.state)
    shipping: Money | None = changes.get("shipping")
    if shipping is not None and shipping.currency_code != order.currency_code:
        raise CurrencyMismatch("order.shipping", f"the order is priced in {order.currency_code}")
    attributes = {ATTRIBUTES.get(field, field): value for field, value in changes.items() if field != "shipping"}
    new = replace(order, **attributes)
    times = new.ship_by_time_us, new.deliver_by_time_us
    if times != (order.ship_by_time_us, order.deliver_by_time_us) and is_reversed(*times):
        raise InvalidField("order.deliver_by_time", DELIVERED_BEFORE_SHIPPED)
    shipping_minor = shipping.amount_minor if shipping else 0
    if "shipping" not in changes or shipping_minor == order.shipping_minor:
        return new
    total_minor = calculate_total(order.lines, shipping_minor=shipping_minor, field="order.shipping")
    return replace(new, shipping_minor=shipping_minor, total_minor=total_minor)


def _list_differing(order: Order, changes: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields whose new value differs from the current one."""
    for field, value in changes.items():
        if field == "shipping":
            current: Any = Money(order.currency_code, order.shipping_minor)
            value = value or Money(order.currency_code, 0)
        else:
            current = getattr(order, ATTRIBUTES.get(field, field))
        if value != current:
            yield field
