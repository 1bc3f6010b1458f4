"""Historic orders: imported once with their own numbers, prices and dates, each whole or refused for itself."""

from __future__ import annotations

import pytest

from storekeep.v1 import orders_pb2 as pb
from tests.historic_orders import historic, line, seconds
from tests.records import Records
from tests.shops import Shop, amount_of, money, new_id, new_request_id

IMPORTED, ALREADY_THERE, REFUSED = (
    pb.ORDER_IMPORT_OUTCOME_IMPORTED,
    pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE,
    pb.ORDER_IMPORT_OUTCOME_REFUSED,
)


def imported(shop: Shop, *orders: pb.HistoricOrder, **fields: object) -> list[pb.OrderImportResult]:
    return list(shop.orders.ImportOrders(pb.ImportOrdersRequest(orders=orders, **fields)).results)


def order_of(shop: Shop, result: pb.OrderImportResult) -> pb.Order:
    return shop.orders.GetOrder(pb.GetOrderRequest(name=result.order))


def test_import_takes_a_shipped_order_with_its_number_prices_and_dates(shop: Shop):
    wanted = historic(shop, shipping=money("4.50"), ship_time=seconds(1_000_086_400), carrier="Speedy Express")
    (result,) = imported(shop, wanted)
    order = order_of(shop, result)
    assert (result.outcome, result.number, order.number) == (IMPORTED, wanted.number, wanted.number)
    assert (order.customer, order.state) == (wanted.customer, pb.ORDER_STATE_FULFILLED)
    assert order.create_time == wanted.order_time
    assert [(one.sku, one.quantity, one.fulfilled_quantity) for one in order.lines] == [(wanted.lines[0].sku, 3, 3)]
    assert (amount_of(order.shipping), amount_of(order.total)) == (amount_of(money("4.50")), amount_of(money("25.50")))
