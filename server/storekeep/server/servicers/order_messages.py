"""Conversion of orders, fulfilments, notes and edits between contract messages and domain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.orders.edits import Edit
from storekeep.server.domain.orders.fulfillments import FULFILLMENT_CHANGEABLE, Fulfillment, LineUnits, Parcel
from storekeep.server.domain.orders.history import OrderChange
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.placing import NewOrder
from storekeep.server.domain.orders.states import CHANGEABLE
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.servicers.calls import has_permission
from storekeep.server.servicers.converters import (
    Fields,
    build_address,
    build_optional_timestamp,
    build_timestamp,
    fill_labels,
    make_money_builder,
    parse_address,
    parse_id,
    parse_money_message,
    parse_time_us,
    parse_update_mask,
)
from storekeep.v1 import orders_pb2 as pb

STATES = {
    "": pb.ORDER_STATE_UNSPECIFIED,
    "PLACED": pb.ORDER_STATE_PLACED,
    "CONFIRMED": pb.ORDER_STATE_CONFIRMED,
    "PARTIALLY_FULFILLED": pb.ORDER_STATE_PARTIALLY_FULFILLED,
    "FULFILLED": pb.ORDER_STATE_FULFILLED,
    "COMPLETED": pb.ORDER_STATE_COMPLETED,
    "CANCELLED": pb.ORDER_STATE_CANCELLED,
    "EXPIRED": pb.ORDER_STATE_EXPIRED,
}

FULFILLMENT_STATES = {
    "PENDING": pb.FULFILLMENT_STATE_PENDING,
    "SHIPPED": pb.FULFILLMENT_STATE_SHIPPED,
    "DELIVERED": pb.FULFILLMENT_STATE_DELIVERED,
    "CANCELLED": pb.FULFILLMENT_STATE_CANCELLED,
    "RESTOCKED": pb.FULFILLMENT_STATE_RESTOCKED,
}


def build_order(order: Order, *, with_contact: bool = False) -> pb.Order:
    """Build the message of an order.

    Args:
        with_contact: whether the reader may see the email address and the phone number. Otherwise the permissions of
            the caller of the current RPC decide.
    """
    money = make_money_builder(order.currency_code)
    message = pb.Order(
        name=order.name,
        customer=f"customers/{order.customer_id}",
        state=STATES[order.state],
        lines=[_build_line(line, money) for line in order.lines],
        total=money(order.total_minor),
        location=f"locations/{order.location_id}",
        shipping_address=None if order.shipping_address is None else build_address(order.shipping_address),
        external_reference=order.external_reference,
        note=order.note,
        cancel_reason=order.cancel_reason,
        create_time=build_timestamp(order.create_time_us),
        update_time=build_timestamp(order.update_time_us),
        etag=make_etag(order.version),
        number=order.number,
        shipping=money(order.shipping_minor) if order.shipping_minor else None,
        expire_time=build_optional_timestamp(order.expire_time_us),
        held=order.held,
        hold_reason=order.hold_reason,
        billing_address=None if order.billing_address is None else build_address(order.billing_address),
        ship_by_time=build_optional_timestamp(order.ship_by_time_us),
        deliver_by_time=build_optional_timestamp(order.deliver_by_time_us),
        source=order.source,
        unique_external_reference=order.unique_reference,
    )
    if order.labels:
        fill_labels(message.labels, order.labels)
    if with_contact or has_permission("orders.read") or has_permission("customers.read"):
        message.email, message.phone = order.email, order.phone
    return message


def _build_line(line: OrderLine, money: Callable[[int], Fields]) -> Fields:
    """Build the fields of an order line; quantities that are mostly 0 are omitted if all are 0."""
    fields: Fields = {
        "line_number": line.line_number,
        "sku": line.sku,
        "display_name": line.display_name,
        "quantity": line.quantity,
        "unit_price": money(line.unit_price_minor),
        "subtotal": money(line.subtotal_minor),
        "total": money(line.total_minor),
        "open_quantity": line.open,
    }
    if line.discount_minor:
        fields["discount"] = money(line.discount_minor)
    if line.fulfilled or line.cancelled or line.returned:
        fields["fulfilled_quantity"] = line.fulfilled
        fields["cancelled_quantity"] = line.cancelled
        fields["returned_quantity"] = line.returned
    return fields


def build_history_entry(change: OrderChange) -> pb.OrderHistoryEntry:
    """Build the message of an entry of an order's history."""
    return pb.OrderHistoryEntry(
        sequence=change.sequence,
        method=change.method,
        from_state=STATES[change.from_state],
        to_state=STATES[change.to_state],
        reason=change.reason,
        actor=change.actor,
        create_time=build_timestamp(change.create_time_us),
        changes=[pb.OrderFieldChange(**field._asdict()) for field in change.changes],
    )


def build_note(note: OrderNote) -> pb.OrderNote:
    """Build the message of a note."""
    create_time = build_timestamp(note.create_time_us)
    return pb.OrderNote(name=note.name, content=note.content, actor=note.actor, create_time=create_time)


def build_fulfillment(fulfillment: Fulfillment) -> pb.Fulfillment:
    """Build the message of a fulfilment."""
    return pb.Fulfillment(
        name=fulfillment.name,
        state=FULFILLMENT_STATES[fulfillment.state],
        location=f"locations/{fulfillment.location_id}",
        lines=[
            pb.FulfillmentLine(line_number=line.line_number, sku=line.sku, quantity=line.quantity)
            for line in fulfillment.lines
        ],
        carrier=fulfillment.carrier,
        tracking_number=fulfillment.tracking_number,
        ship_time=build_optional_timestamp(fulfillment.ship_time_us),
        deliver_time=build_optional_timestamp(fulfillment.deliver_time_us),
        create_time=build_timestamp(fulfillment.create_time_us),
        update_time=build_timestamp(fulfillment.update_time_us),
        etag=make_etag(fulfillment.version),
        parcels=[
            pb.Parcel(tracking_number=parcel.tracking_number, tracking_url=parcel.tracking_url)
            for parcel in fulfillment.all_parcels
        ],
        restock_time=build_optional_timestamp(fulfillment.restock_time_us),
    )


def parse_parcels(messages: Iterable[pb.Parcel]) -> tuple[Parcel, ...]:
    """Parse parcels."""
    return tuple(Parcel(message.tracking_number, message.tracking_url) for message in messages)


def parse_fulfillment_changes(request: pb.UpdateFulfillmentRequest) -> dict[str, object]:
    """Return the new values of the fields that a request updates.

    Raises: InvalidUpdateMask.
    """
    message = request.fulfillment
    values = {"carrier": message.carrier, "parcels": parse_parcels(message.parcels)}
    fields = parse_update_mask(request.update_mask, message, {field: field for field in FULFILLMENT_CHANGEABLE})
    return {field: values[field] for field in fields}


def parse_order_changes(request: pb.UpdateOrderRequest) -> dict[str, object]:
    """Return the new values of the fields that a request updates; see `update_order`.

    Raises: InvalidUpdateMask, UnknownCurrency, InvalidAmount.
    """
    message = request.order
    fields = parse_update_mask(request.update_mask, message, {field: field for field in CHANGEABLE})
    return {field: _parse_order_field(message, field) for field in fields}


def _parse_order_field(message: pb.Order, field: str) -> object:
    """Return the value of a field of an order that can change."""
    if field in ("shipping_address", "billing_address"):
        return _parse_optional_address(message, field)
    if field in ("ship_by_time", "deliver_by_time"):
        return _parse_optional_time(message, field)
    if field == "shipping":
        return parse_money_message(message.shipping, field="order.shipping") if message.HasField("shipping") else None
    value = getattr(message, field)
    return dict(value) if field == "labels" else value


OrderFields = pb.Order | pb.PlaceOrderRequest | pb.HistoricOrder
"""A message with the fields that describe an order."""


def parse_description(message: pb.PlaceOrderRequest | pb.HistoricOrder) -> dict[str, Any]:
    """Return the addresses, contacts, labels and promised times of a new order, as arguments of its constructor."""
    return {
        "shipping_address": _parse_optional_address(message, "shipping_address"),
        "billing_address": _parse_optional_address(message, "billing_address"),
        "email": message.email,
        "phone": message.phone,
        "labels": dict(message.labels),
        "ship_by_time_us": _parse_optional_time(message, "ship_by_time"),
        "deliver_by_time_us": _parse_optional_time(message, "deliver_by_time"),
    }


def _parse_optional_address(message: OrderFields, field: str) -> Address | None:
    return parse_address(getattr(message, field)) if message.HasField(field) else None  # type: ignore[arg-type]


def _parse_optional_time(message: OrderFields, field: str) -> int | None:
    return parse_time_us(getattr(message, field)) if message.HasField(field) else None  # type: ignore[arg-type]


def parse_edit(message: pb.OrderEdit) -> Edit:
    """Parse an order edit."""
    return Edit(
        added=tuple((line.sku, line.quantity) for line in message.added_lines),
        changed=parse_line_units(message.changed_lines),
        removed=tuple(message.removed_lines),
    )


def parse_line_units(lines: Iterable[pb.OrderLineUnits | pb.OrderLineQuantity]) -> tuple[LineUnits, ...]:
    """Parse quantities of order lines."""
    return tuple(LineUnits(line.line_number, line.quantity) for line in lines)


def parse_new_order(request: pb.PlaceOrderRequest) -> NewOrder:
    """Parse a new order from a request."""
    return NewOrder(
        customer_id=parse_id(request.customer),
        lines=tuple((line.sku, line.quantity) for line in request.lines),
        currency_code=request.currency_code,
        location_id=parse_id(request.location),
        external_reference=request.external_reference,
        note=request.note,
        shipping=parse_money_message(request.shipping, field="shipping") if request.HasField("shipping") else None,
        **parse_description(request),
        reservation_ids=_parse_reservation_ids(request),
        source=request.source,
        unique_reference=request.unique_external_reference,
    )


def _parse_reservation_ids(request: pb.PlaceOrderRequest) -> tuple[str, ...]:
    """Parse the ids of the reservations of a new order.

    Raises: InvalidField.
    """
    if request.reservation and request.reservations:
        raise InvalidField("reservations", "set either reservation or reservations")
    names = request.reservations or ([request.reservation] if request.reservation else ())
    return tuple(parse_id(name) for name in names)
