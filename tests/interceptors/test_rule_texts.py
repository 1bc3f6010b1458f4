"""A broken rule is told in words: numbers with separators, no plurals in brackets, no comparison in formulas."""

from __future__ import annotations

import protovalidate
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from storekeep.server.interceptors.violations import Violations
from storekeep.v1 import inventory_pb2, orders_pb2, pricing_pb2, products_pb2

LEVEL = "locations/main/stockLevels/A"


@pytest.mark.parametrize(
    ("request_message", "field", "text"),
    [
        (
            inventory_pb2.AdjustStockRequest(name=LEVEL, quantity_delta=10**10),
            "quantity_delta",
            "must be from -1,000,000,000 to 1,000,000,000",
        ),
        (inventory_pb2.AdjustStockRequest(name=LEVEL), "quantity_delta", "must not be 0"),
        (
            inventory_pb2.ExtendReservationRequest(name="reservations/a", ttl=Duration(seconds=-5)),
            "ttl",
            "must be from 1s to 2592000s",
        ),
        (inventory_pb2.CheckAvailabilityRequest(), "skus", "must not be empty"),
        (inventory_pb2.CheckAvailabilityRequest(skus=["A"] * 501), "skus", "must have at most 500 items"),
        (inventory_pb2.ListLowStockRequest(page_size=-1), "page_size", "must be at least 0"),
        (orders_pb2.GetOrderRequest(), "name", "is required; it must be a name like orders/ID, where ID has "),
        (
            products_pb2.CreateProductRequest(product=products_pb2.Product(display_name="")),
            "product.display_name",
            "must not be empty",
        ),
        (pricing_pb2.GetPromotionRequest(name="promotions/"), "name", "must be a name like promotions/ID, where ID "),
    ],
)
def test_broken_rule_is_told_in_words(request_message: Message, field: str, text: str) -> None:
    violations = dict(
        Violations(request_message.DESCRIPTOR, protovalidate.Validator()).find(request_message, has_null=False)
    )
    assert violations[field].startswith(text), violations
