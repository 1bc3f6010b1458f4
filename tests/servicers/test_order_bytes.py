"""Orders on the wire: each field of the message has the value of the order, whether many orders have it or few."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.pricing import OrderPricing
from storekeep.server.domain.pricing.baskets import PricedAmount, Share, TaxAmount
from storekeep.server.domain.pricing.terms import PERCENTAGE, Action, Item, Promotion, Rules, UnitPrice
from storekeep.server.servicers.order_bytes import (
    LINES_CACHED,
    SHARES_CACHED_MAX,
    encode_order,
    encode_orders,
    encode_total,
)
from storekeep.v1 import orders_pb2 as pb

TIME_US = 1_800_000_000_123_456
COMMON = Order(
    id="o-1",
    customer_id="c-1",
    state="PLACED",
    currency_code="EUR",
    total_minor=905,
    location_id="main",
    shipping_address=None,
    external_reference="",
    note="",
    cancel_reason="",
    version=7,
    create_time_us=TIME_US,
    update_time_us=TIME_US + 1,
    number="SK-1",
    lines=(OrderLine(1, "MUG", "Mug", 3, 300, 900),),
)
RARE: dict[str, tuple[Any, str, Any]] = {
    "shipping_address": (Address(locality="Bonn"), "shipping_address.locality", "Bonn"),
    "external_reference": ("R-1", "external_reference", "R-1"),
    "note": ("ring twice", "note", "ring twice"),
    "cancel_reason": ("changed mind", "cancel_reason", "changed mind"),
    "shipping_minor": (5, "shipping.nanos", 50_000_000),
    "expire_time_us": (TIME_US, "expire_time.nanos", 123_456_000),
    "held": (True, "held", True),
    "hold_reason": ("check", "hold_reason", "check"),
    "billing_address": (Address(locality="Köln"), "billing_address.locality", "Köln"),
    "email": ("jo@example.com", "email", "jo@example.com"),
    "phone": ("+49 228 1", "phone", "+49 228 1"),
    "labels": ({"gift": "yes"}, "labels", {"gift": "yes"}),
    "ship_by_time_us": (0, "ship_by_time.seconds", 0),
    "deliver_by_time_us": (2_000_000, "deliver_by_time.seconds", 2),
    "source": ("web", "source", "web"),
    "unique_reference": (True, "unique_external_reference", True),
    "language_code": ("de", "language_code", "de"),
    "pricing": (OrderPricing(Rules(), TIME_US, quote="quotes/q"), "quote", "quotes/q"),
}
"""Field of an order -> a value, and the field of the message with its value there."""


def make_pricing(amount: PricedAmount, price: UnitPrice) -> OrderPricing:
    """Return the terms of an order of one line that cost some amount."""
    promotions = tuple([Promotion(share.promotion, Action(PERCENTAGE, 1)) for share in amount.shares])
    pricing = OrderPricing(Rules(), TIME_US, promotions=promotions, prices=(price,), items=(Item(price.sku),))
    return pricing.set_results((amount,), shipping=None, applied=(), exemption=None)


def parse(order: Order, *, with_contact: bool = True) -> pb.Order:
    return pb.Order.FromString(encode_order(order, with_contact=with_contact))


def test_fields_that_all_orders_have_are_encoded() -> None:
    message = parse(COMMON)
    texts = (message.name, message.customer, message.location, message.etag, message.number)
    assert texts == ("orders/o-1", "customers/c-1", "locations/main", "v7", "SK-1")
    assert message.state == pb.ORDER_STATE_PLACED
    assert (message.total.currency_code, message.total.units, message.total.nanos) == ("EUR", 9, 50_000_000)
    assert (message.create_time.ToMicroseconds(), message.update_time.ToMicroseconds()) == (TIME_US, TIME_US + 1)
    assert [(line.sku, line.quantity) for line in message.lines] == [("MUG", 3)]
    assert not message.HasField("expire_time")


@pytest.mark.parametrize("field", RARE)
def test_field_that_few_orders_have_is_encoded_by_itself(field: str) -> None:
    value, path, expected = RARE[field]
    found: Any = parse(replace(COMMON, **{field: value}))
    for name in path.split("."):
        kind = found.DESCRIPTOR.fields_by_name[name].message_type
        assert kind is None or name == "labels" or found.HasField(name)
        found = getattr(found, name)
    assert found == expected


@pytest.mark.parametrize("time_us", [-410_000_000_000_000, -16_384_000_000, -1_000_000, -1, 0, 1, 16_384_000_000])
def test_times_before_1970_are_those_of_the_order(time_us: int) -> None:
    message = parse(replace(COMMON, create_time_us=time_us, update_time_us=time_us, expire_time_us=time_us))
    times = (message.create_time, message.update_time, message.expire_time)
    assert [time.ToMicroseconds() for time in times] == [time_us] * 3
    assert all(0 <= time.nanos < 1_000_000_000 for time in times)


def test_no_field_of_the_message_is_forgotten() -> None:
    order = replace(COMMON, **{field: value for field, (value, _, _) in RARE.items()})
    assert {field.name for field, _ in parse(order).ListFields()} == set(pb.Order.DESCRIPTOR.fields_by_name)


def test_bytes_have_each_field_once() -> None:
    """They are sent as they are, so a client may not get what a parser would have joined."""
    order = replace(COMMON, **{field: value for field, (value, _, _) in RARE.items()})
    encoded = encode_order(order, with_contact=True)
    assert len(encoded) == len(pb.Order.FromString(encoded).SerializeToString())


def test_list_has_all_orders_and_the_rest_of_the_reply() -> None:
    orders = [COMMON, replace(COMMON, id="o-2", email="jo@example.com")]
    rest = pb.ListOrdersResponse(next_page_token="more", total_size=0)
    encoded = encode_orders(orders, pb.ListOrdersResponse.DESCRIPTOR, with_contact=False) + rest.SerializeToString()
    reply = pb.ListOrdersResponse.FromString(encoded)
    assert [(order.name, order.email) for order in reply.orders] == [("orders/o-1", ""), ("orders/o-2", "")]
    assert (reply.next_page_token, reply.HasField("total_size")) == ("more", True)


def test_order_without_contact_has_neither_address_nor_number() -> None:
    message = parse(replace(COMMON, email="jo@example.com", phone="+49 228 1", note="n"), with_contact=False)
    assert (message.email, message.phone, message.note) == ("", "", "n")


def test_cached_line_is_bounded_in_bytes_with_its_key() -> None:
    names = [f"promotions/{'p' * 63}-{number}" for number in range(SHARES_CACHED_MAX)]

    def encode(number: int) -> None:
        minor = 1_000_000 + number
        amount = PricedAmount(
            minor,
            shares=tuple([Share(name, minor + index) for index, name in enumerate(names)]),
            discount_minor=minor,
            taxes=tuple([TaxAmount("taxRates/vat", "VAT", 190_000, minor + index) for index in range(10)]),
        )
        line = OrderLine(1, f"SKU-{number}", f"{number:<200}".replace(" ", "\U0001f9f5"), number, minor, minor)
        price = UnitPrice(line.sku, "EUR", minor, name=f"prices/{number}")
        order = replace(COMMON, lines=(line,), pricing=make_pricing(amount, price))
        assert parse(order).lines[0].quantity == number

    lines = 50
    encode(lines)
    tracemalloc.start()
    try:
        for number in range(lines):
            encode(number)
        encode_total.cache_clear()  # totals have a bound of their own
        gc.collect()
        used_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used_bytes / lines * LINES_CACHED <= 32 * 1024 * 1024
