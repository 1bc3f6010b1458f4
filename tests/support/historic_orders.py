"""Valid historic orders, of which a test changes the relevant fields, and their import."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import orders_pb2 as pb
from tests.support.shops import Shop, money, new_id

PLACED_S = 1_000_000_000
"""Time of the orders, in September 2001."""


def seconds(since_1970: int) -> Timestamp:
    """Return a timestamp."""
    return Timestamp(seconds=since_1970)


SHIPPED: dict[str, Any] = {
    "ship_time": seconds(PLACED_S + 86_400),
    "carrier": "Speedy Express",
    "tracking_number": "1Z999",
}
"""Fields of a shipped order."""


def line(sku: str, *, quantity: int = 3, unit_price: str = "7.00", **fields: Any) -> pb.HistoricOrderLine:
    """Build a line."""
    return pb.HistoricOrderLine(sku=sku, quantity=quantity, unit_price=money(unit_price), **fields)


def historic(shop: Shop, *lines: pb.HistoricOrderLine, **fields: Any) -> pb.HistoricOrder:
    """Build an order with a unique number, by a new customer, of three units of a new SKU unless `lines` are given."""
    chosen = {"number": new_id("H"), "currency_code": "EUR", "order_time": seconds(PLACED_S)} | fields
    if "customer" not in chosen:
        chosen["customer"] = shop.customer().name
    return pb.HistoricOrder(lines=lines or [line(shop.variant().sku)], **chosen)


def import_batch(shop: Shop, *orders: pb.HistoricOrder, **fields: Any) -> list[pb.OrderImportResult]:
    """Import orders in one batch and return the results."""
    return list(shop.orders.ImportOrders(pb.ImportOrdersRequest(orders=orders, **fields)).results)


def import_problem(shop: Shop, order: pb.HistoricOrder) -> str:
    """Import an order that must be refused and return the problem."""
    (result,) = import_batch(shop, order)
    assert (result.outcome, result.order) == (pb.ORDER_IMPORT_OUTCOME_REFUSED, "")
    assert result.detail
    return pb.OrderImportProblem.Name(result.problem).removeprefix("ORDER_IMPORT_PROBLEM_")


def import_order(shop: Shop, order: pb.HistoricOrder) -> pb.Order:
    """Import an order and return the new order."""
    (result,) = import_batch(shop, order)
    assert result.outcome == pb.ORDER_IMPORT_OUTCOME_IMPORTED, result.detail
    return shop.orders.GetOrder(pb.GetOrderRequest(name=result.order))
