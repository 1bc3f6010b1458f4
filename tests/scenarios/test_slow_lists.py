"""Lists that would run for years, because a view stands in place of their table: others are served, and they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from storekeep.v1 import orders_pb2, pricing_pb2
from tests.conftest import MakeServer
from tests.support.databases import Database
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop

Code = grpc.StatusCode
SLOW_LISTS = 16
"""More than the threads and connections of a server for reads."""
DEADLINE_S = 10.0
STARTED_S = 1.0
"""Time for the lists to occupy the threads that they can get. If they need longer, the test passes without a reason."""
ENDLESS = (
    "WITH RECURSIVE n(v) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT v + 1 FROM n WHERE v < 1000000000000000) "
    "SELECT SUM(v) AS total FROM n"
)


@contextmanager
def slow_coupons(database: Database) -> Iterator[None]:
    """Make the list of coupons endless."""
    with database.opened() as session:
        session.run("ALTER TABLE coupons RENAME TO fast_coupons")
        session.run(
            "CREATE VIEW coupons AS SELECT fast_coupons.* "
            f"FROM ({ENDLESS}) AS endless LEFT JOIN fast_coupons ON endless.total > 0"
        )
    yield
    with database.opened() as session:
        session.run("DROP VIEW coupons")
        session.run("ALTER TABLE fast_coupons RENAME TO coupons")


def list_coupons(shop: Shop, timeout_s: float) -> grpc.RpcError:
    """Return the error with which a list of coupons ends."""
    with pytest.raises(grpc.RpcError) as error:
        shop.pricing.ListCoupons(pricing_pb2.ListCouponsRequest(), timeout=timeout_s)
    return error.value


def test_slow_lists_end_at_their_deadline_and_leave_a_thread_to_quick_reads(server: ServerProcess, shop: Shop):
    order = shop.order((shop.variant(stock=5).sku, 1))
    with slow_coupons(server.database), ThreadPoolExecutor(SLOW_LISTS) as pool:
        lists: list[Future[grpc.RpcError]] = [pool.submit(list_coupons, shop, DEADLINE_S) for _ in range(SLOW_LISTS)]
        time.sleep(STARTED_S)
        assert shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=order.name)) == order
        assert not all(one.done() for one in lists)
        assert {one.result().code() for one in lists} <= {Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
    assert shop.orders.ListOrders(orders_pb2.ListOrdersRequest(page_size=1)).orders == [order]


def test_slow_list_with_a_late_deadline_ends_at_the_timeout_of_statements(make_server: MakeServer):
    server = make_server(database_statement_timeout_s="1")
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        with slow_coupons(server.database):
            refusal = parse_refusal(list_coupons(shop, timeout_s=60))
        assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "READ_TOO_EXPENSIVE")
        assert "filter" in refusal.text
        assert refusal.retry_after_s is None
        assert not shop.pricing.ListCoupons(pricing_pb2.ListCouponsRequest()).coupons
