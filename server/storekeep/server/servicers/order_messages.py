"""Conversion of orders, fulfilments, notes and edits between contract messages and domain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.orders.edits import Edit
from storekeep.server.domain.orders.fulfillments import FULFILLMENT_CHANGEABLE, Fulfillment, LineUnits, Parcel
from storekeep.server.domain.orders.history import OrderChange
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.quoting import Quotation
from storekeep.server.domain.orders.states import CHANGEABLE
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.servicers.calls import has_permission
from storekeep.server.servicers.converters import (
    EncodedReply,
    build_optional_timestamp,
    build_timestamp,
    make_money_builder,
    parse_address,
    parse_id,
    parse_money_message,
    parse_time_us,
    parse_update_mask,
)
from storekeep.server.servicers.order_bytes import STATES, encode_order, encode_orders, encode_parts
from storekeep.server.servicers.order_price_messages import PROBLEMS, parse_pricing
from storekeep.server.servicers.translations import parse_language
from storekeep.v1 import orders_pb2 as pb

FULFILLMENT_STATES = {
    "PENDING": pb.FULFILLMENT_STATE_PENDING,
    "SHIPPED": pb.FULFILLMENT_STATE_SHIPPED,
    "DELIVERED": pb.FULFILLMENT_STATE_DELIVERED,
    "CANCELLED": pb.FULFILLMENT_STATE_CANCELLED,
    "RESTOCKED": pb.FULFILLMENT_STATE_RESTOCKED,
}
OrderList = pb.ListOrdersResponse | pb.BatchGetOrdersResponse | pb.SearchOrdersResponse
"""The replies with a list of orders."""


def build_order(order: Order) -> pb.Order:
    """Build the message of an order, with the email address and the phone number."""
    return pb.Order.FromString(encode_order(order, with_contact=True))


def encode_order_reply(order: Order) -> EncodedReply:
    """Return an order as the reply to the current RPC."""
    return encode_order(order, with_contact=_sees_contacts())


def encode_order_list(orders: Iterable[Order], rest: OrderList) -> EncodedReply:
    """Return orders as the reply to the current RPC.

    Args:
        rest: the reply without its field `orders`.
    """
    return encode_orders(orders, rest.DESCRIPTOR, with_contact=_sees_contacts()) + rest.SerializeToString()


def _sees_contacts() -> bool:
    """Return whether the caller of the current RPC may see email addresses and phone numbers of orders."""
    return has_permission("orders.read") or has_permission("customers.read")


def build_quotation(quotation: Quotation) -> pb.QuoteOrderResponse:
    """Build the response of QuoteOrder."""
    order = quotation.order
    response = pb.QuoteOrderResponse(
        total=make_money_builder(order.currency_code)(order.total_minor),
        refused_codes=[
            pb.RefusedCode(code=refused.code, problem=PROBLEMS[refused.problem]) for refused in quotation.refused_codes
        ],
    )
    response.MergeFromString(encode_parts(order, pb.QuoteOrderResponse.DESCRIPTOR))
    return response


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
    if field == "language_code":
        return parse_language(message.language_code)
    value = getattr(message, field)
    return dict(value) if field == "labels" else value


OrderFields = pb.Order | pb.HistoricOrder
"""A message with the fields that describe an order."""


def parse_description(message: pb.HistoricOrder) -> dict[str, Any]:
    """Return addresses, contacts, labels and promised times of an imported order, as arguments of its constructor."""
    return {
        "shipping_address": _parse_optional_address(message, "shipping_address"),
        "billing_address": _parse_optional_address(message, "billing_address"),
        "email": message.email,
        "phone": message.phone,
        "language_code": parse_language(message.language_code),
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


def _parse_lines(lines: Iterable[pb.PlaceOrderLine]) -> tuple[tuple[str, int], ...]:
    return tuple([(line.sku, line.quantity) for line in lines])


NEW_ORDER_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "customer": ("customer_id", parse_id),
    "lines": ("lines", _parse_lines),
    "currency_code": ("currency_code", str),
    "location": ("location_id", parse_id),
    "shipping_address": ("shipping_address", parse_address),
    "external_reference": ("external_reference", str),
    "note": ("note", str),
    "shipping": ("shipping", partial(parse_money_message, field="shipping")),
    "billing_address": ("billing_address", parse_address),
    "email": ("email", str),
    "phone": ("phone", str),
    "labels": ("labels", dict),
    "ship_by_time": ("ship_by_time_us", parse_time_us),
    "deliver_by_time": ("deliver_by_time_us", parse_time_us),
    "source": ("source", str),
    "unique_external_reference": ("unique_reference", bool),
    "expected_total": ("expected_total", partial(parse_money_message, field="expected_total")),
    "quote": ("quote_id", parse_id),
    "language_code": ("language_code", parse_language),
}
"""Field of a PlaceOrderRequest -> attribute of a `NewOrder`, and what parses its value."""
PRICING_FIELDS = frozenset({"coupon_codes", "shipping_method", "tax_address", "tax_exemption"})
"""Fields of a PlaceOrderRequest that `parse_pricing` reads."""
RESERVATION_FIELDS = frozenset({"reservation", "reservations"})
"""Fields of a PlaceOrderRequest that name reservations."""


def parse_new_order(request: pb.PlaceOrderRequest) -> NewOrder:
    """Parse a new order from a request.

    It reads the fields that are set, which takes half the time of reading all: most orders set few of them.

    Raises: UnknownCurrency, InvalidAmount, InvalidField.
    """
    values: dict[str, Any] = {"customer_id": "", "lines": (), "currency_code": ""}
    others = []
    for field, value in request.ListFields():
        known = NEW_ORDER_FIELDS.get(field.name)
        if known is None:
            others.append(field.name)
        else:
            argument, parse = known
            values[argument] = parse(value)
    if not RESERVATION_FIELDS.isdisjoint(others):
        values["reservation_ids"] = _parse_reservation_ids(request)
    if not PRICING_FIELDS.isdisjoint(others):
        values["pricing"] = parse_pricing(request)
    return NewOrder(**values)


def _parse_reservation_ids(request: pb.PlaceOrderRequest) -> tuple[str, ...]:
    """Parse the ids of the reservations of a new order.

    Raises: InvalidField.
    """
    if request.reservation and request.reservations:
        raise InvalidField("reservations", "set either reservation or reservations")
    names = request.reservations or ([request.reservation] if request.reservation else ())
    return tuple(parse_id(name) for name in names)
