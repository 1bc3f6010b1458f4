"""New orders: every field of a request reaches the domain."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.servicers.order_messages import (
    NEW_ORDER_FIELDS,
    PRICING_FIELDS,
    RESERVATION_FIELDS,
    parse_new_order,
)
from storekeep.v1 import orders_pb2 as pb

OF_THE_CALL = {"request_id", "validate_only"}
"""Fields that belong to the call and not to the order."""
ADDRESS = {"recipient": "Ada Marsh", "region_code": "NL"}


def test_parse_new_order_knows_every_field() -> None:
    known = NEW_ORDER_FIELDS.keys() | PRICING_FIELDS | RESERVATION_FIELDS | OF_THE_CALL
    assert known == set(pb.PlaceOrderRequest.DESCRIPTOR.fields_by_name)


def test_parse_new_order_with_all_fields_sets_all_attributes() -> None:
    request = pb.PlaceOrderRequest(
        customer="customers/ada",
        lines=[{"sku": "MUG", "quantity": 2}, {"sku": "CUP", "quantity": 1}],
        currency_code="EUR",
        location="locations/west",
        shipping_address=ADDRESS,
        external_reference="A-7",
        note="ring twice",
        reservation="reservations/held",
        shipping={"currency_code": "EUR", "units": 4, "nanos": 950_000_000},
        billing_address=ADDRESS,
        email="ada@example.com",
        phone="+3120",
        labels={"channel": "web"},
        ship_by_time={"seconds": 5},
        deliver_by_time={"seconds": 7},
        source="shop",
        unique_external_reference=True,
        coupon_codes=["TEN"],
        shipping_method="shippingMethods/post",
        tax_address=ADDRESS,
        tax_exemption={"reason": "export", "certificate": "C-1"},
        expected_total={"currency_code": "EUR", "units": 30},
        quote="quotes/q",
        language_code="NL-be",
    )
    new = parse_new_order(request)
    defaults = {field.name: field.default for field in msgspec.structs.fields(NewOrder)}
    assert [name for name, default in defaults.items() if getattr(new, name) == default] == []
    assert (new.customer_id, new.location_id, new.quote_id, new.reservation_ids) == ("ada", "west", "q", ("held",))
    assert (new.lines, new.labels, new.language_code) == ((("MUG", 2), ("CUP", 1)), {"channel": "web"}, "nl-BE")
    assert (new.ship_by_time_us, new.deliver_by_time_us) == (5_000_000, 7_000_000)
    assert (new.pricing.codes, new.pricing.shipping_method) == (("TEN",), "shippingMethods/post")


def test_parse_new_order_without_fields_has_defaults() -> None:
    assert parse_new_order(pb.PlaceOrderRequest()) == NewOrder("", (), "")
