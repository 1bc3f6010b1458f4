"""Historic orders for tests: valid ones, of which a test changes what it is about."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import orders_pb2 as pb
from tests.support.shops import Shop, money, new_id

PLACED_S = 1_000_000_000
"""When they were placed: in September 2001."""


def seconds(since_1970: int) -> Timestamp:
    """An instant."""
    return Timestamp(seconds=since_1970)


SHIPPED: dict[str, Any] = {
    "ship_time": seconds(PLACED_S + 86_400),
    "carrier": "Speedy Express",
    "tracking_number": "1Z999",
}
"""What an order has that was shipped."""


def line(sku: str, *, quantity: int = 3, unit_price: str = "7.00", **fields: Any) -> pb.HistoricOrderLine:
    """A line."""
    return pb.HistoricOrderLine(sku=sku, quantity=quantity, unit_price=money(unit_price), **fields)


def historic(shop: Shop, *lines: pb.HistoricOrderLine, **fields: Any) -> pb.HistoricOrder:
    """An order with a number of its own, by a new customer, of three units of something new unless `lines` say else."""
    chosen = {"number": new_id("H"), "currency_code": "EUR", "order_time": seconds(PLACED_S)} | fields
    if "customer" not in chosen:
        chosen["customer"] = shop.customer().name
    return pb.HistoricOrder(lines=lines or [line(shop.variant().sku)], **chosen)
