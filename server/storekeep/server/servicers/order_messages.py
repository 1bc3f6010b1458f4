"""Orders, fulfilments, notes and edits between the contract's messages and the domain's values."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from storekeep.server.domain.orders.edits import Edit
from storekeep.server.domain.orders.fulfillments import Fulfillment, LineUnits
from storekeep.server.domain.orders.history import OrderChange
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.placing import NewOrder
from storekeep.server.domain.standard.resources import etag_of
from storekeep.server.servicers.converters import (
    Fields,
    address_from,
    address_message,
    id_of,
    money_from,
    money_writer,
    optional_timestamp,
    timestamp_of,
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
}


def order_message(order: Order) -> pb.Order:
    """An order as the contract writes it."""
    money = money_writer(order.currency_code)
    return pb.Order(
        name=order.name,
        customer=f"customers/{order.customer_id}",
        state=STATES[order.state],
        lines=[_line_fields(line, money) for line in order.lines],
        total=money(order.total_minor),
        location=f"locations/{order.location_id}",
        shipping_address=None if order.shipping_address is None else address_message(order.shipping_address),
        external_reference=order.external_reference,
        note=order.note,
        cancel_reason=order.cancel_reason,
        create_time=timestamp_of(order.create_time_us),
        update_time=timestamp_of(order.update_time_us),
        etag=etag_of(order.version),
        number=order.number,
        shipping=money(order.shipping_minor) if order.shipping_minor else None,
        expire_time=optional_timestamp(order.expire_time_us),
        held=order.held,
        hold_reason=order.hold_reason,
    )


def _line_fields(line: OrderLine, money: Callable[[int], Fields]) -> Fields:
    """A line of an order; what is 0 in most is left out where it is."""
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


def change_message(change: OrderChange) -> pb.OrderHistoryEntry:
    """A step of an order's history as the contract writes it."""
    return pb.OrderHistoryEntry(
        sequence=change.sequence,
        method=change.method,
        from_state=STATES[change.from_state],
        to_state=STATES[change.to_state],
        reason=change.reason,
        actor=change.actor,
        create_time=timestamp_of(change.create_time_us),
        changes=[pb.OrderFieldChange(**field._asdict()) for field in change.changes],
    )


def note_message(note: OrderNote) -> pb.OrderNote:
    """A note as the contract writes it."""
    create_time = timestamp_of(note.create_time_us)
    return pb.OrderNote(name=note.name, content=note.content, actor=note.actor, create_time=create_time)


def fulfillment_message(fulfillment: Fulfillment) -> pb.Fulfillment:
    """A fulfilment as the contract writes it."""
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
        ship_time=optional_timestamp(fulfillment.ship_time_us),
        deliver_time=optional_timestamp(fulfillment.deliver_time_us),
        create_time=timestamp_of(fulfillment.create_time_us),
        update_time=timestamp_of(fulfillment.update_time_us),
        etag=etag_of(fulfillment.version),
    )


def edit_from(message: pb.OrderEdit) -> Edit:
    """An edit of the contract."""
    return Edit(
        added=tuple((line.sku, line.quantity) for line in message.added_lines),
        changed=line_units(message.changed_lines),
        removed=tuple(message.removed_lines),
    )


def line_units(lines: Iterable[pb.OrderLineUnits | pb.OrderLineQuantity]) -> tuple[LineUnits, ...]:
    """Units of lines, as the contract writes them."""
    return tuple(LineUnits(line.line_number, line.quantity) for line in lines)


def new_order_from(request: pb.PlaceOrderRequest) -> NewOrder:
    """What a request wants to order."""
    return NewOrder(
        customer_id=id_of(request.customer),
        lines=tuple((line.sku, line.quantity) for line in request.lines),
        currency_code=request.currency_code,
        location_id=id_of(request.location),
        shipping_address=address_from(request.shipping_address) if request.HasField("shipping_address") else None,
        external_reference=request.external_reference,
        note=request.note,
        reservation_id=id_of(request.reservation),
        shipping=money_from(request.shipping, field="shipping") if request.HasField("shipping") else None,
    )
