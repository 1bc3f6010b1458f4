"""The messages of PlaceOrder: requests joined from serialised parts, and a check of replies."""

from __future__ import annotations

import random

import uuid_utils

from benchmarks import catalogue
from storekeep.v1 import orders_pb2

PLACE_ORDER = "/storekeep.v1.OrderService/PlaceOrder"


class Requests:
    """Builds serialised requests, each with its own `request_id` and random SKUs.

    Protobuf allows fields in any order, so serialised parts can be joined.

    Args:
        lines: lines in each order, each with a different SKU.
        coupon: the coupon code of each order; empty for none.
        personal: whether each order has an address, and a customer with personal data.
    """

    def __init__(self, lines: int, *, coupon: str = "", personal: bool = False) -> None:
        self._count = lines
        self._lines = [
            orders_pb2.PlaceOrderRequest(lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=1)]).SerializeToString()
            for sku in catalogue.list_skus()
        ]
        self._heads = [
            orders_pb2.PlaceOrderRequest(
                customer=f"customers/{customer}",
                currency_code=catalogue.CURRENCY,
                coupon_codes=[coupon] if coupon else (),
                shipping_address=catalogue.ADDRESS if personal else None,
            ).SerializeToString()
            for customer in (catalogue.list_person_ids() if personal else catalogue.list_customer_ids())
        ]

    def make(self) -> bytes:
        """Return the next request."""
        request_id = str(uuid_utils.uuid7())
        tail = orders_pb2.PlaceOrderRequest(request_id=request_id).SerializeToString()
        return b"".join((random.choice(self._heads), *random.sample(self._lines, self._count), tail))


def check(answer: bytes, *, lines: int) -> None:
    """Check that a reply is an order with this number of lines.

    Raises: ValueError if it is not.
    """
    order = orders_pb2.Order.FromString(answer)
    priced = order.HasField("price_details")
    amounts = [line.gross_total if priced else line.subtotal for line in order.lines]
    total_minor = sum(amount.units * 100 + amount.nanos // 10_000_000 for amount in amounts)
    good = (
        order.name.startswith("orders/")
        and order.state == orders_pb2.ORDER_STATE_PLACED
        and len(order.lines) == lines
        and total_minor == order.total.units * 100 + order.total.nanos // 10_000_000
        and total_minor > 0
    )
    if not good:
        raise ValueError(f"unexpected order: {order}")
