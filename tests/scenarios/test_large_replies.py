"""Large pages beside small reads: small reads succeed; large pages succeed or are rejected."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from storekeep.v1 import orders_pb2, products_pb2
from tests.support.buyers import open_shop
from tests.support.clusters import await_condition
from tests.support.processes import ServerProcess
from tests.support.refusals import DETAILS_KEY, parse_refusal
from tests.support.shops import Shop

ORDERS, LINES = 25, 200
PRODUCTS = 100
CLIENT_BYTES_MAX = 4 * 1024 * 1024
"""The default message limit of gRPC clients."""
CALLERS = 60
SMALL_READS = 6
DEADLINE_S = 20.0
LIST = "/storekeep.v1.OrderService/ListOrders"
DESCRIPTION = "lorem " + "\U0001f375" * 9_900  # four bytes each
LONG = products_pb2.ListProductsRequest(filter='display_name = "Long"', page_size=1)
PAGED: dict[str, tuple[str, Any, Any]] = {
    "orders": (LIST, orders_pb2.ListOrdersRequest(page_size=1000), orders_pb2.ListOrdersResponse),
    "products": (
        "/storekeep.v1.ProductService/ListProducts",
        products_pb2.ListProductsRequest(page_size=1000),
        products_pb2.ListProductsResponse,
    ),
    "hits": (
        "/storekeep.v1.ProductService/SearchProducts",
        products_pb2.SearchProductsRequest(query="lorem", page_size=100),
        products_pb2.SearchProductsResponse,
    ),
}


@pytest.fixture(scope="module")
def product(server: ServerProcess) -> str:
    """Create orders that make large pages, and return the name of a product."""
    with open_shop(server) as shop, ThreadPoolExecutor(16) as pool:

        def sku(_number: int) -> str:
            return str(shop.variant(parent=shop.product(display_name="\u8336" * 200).name, stock=10**6).sku)

        skus = list(pool.map(sku, range(LINES)))
        customer = shop.customer().name
        for _ in range(ORDERS):
            shop.order(*((sku, 1) for sku in skus), customer=customer)
        return shop.product().name


class Callers:
    """Clients that request large pages in a loop, and the outcomes of their calls."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.outcomes: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        with ExitStack() as stack:
            shops = [stack.enter_context(open_shop(self._server)) for _ in range(CALLERS)]
            threads = [threading.Thread(target=self._call, args=[shop, stop]) for shop in shops]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                stop.set()
                for thread in threads:
                    thread.join(60)

    def _call(self, shop: Shop, stop: threading.Event) -> None:
        request = orders_pb2.ListOrdersRequest(page_size=ORDERS).SerializeToString()
        while not stop.is_set():
            try:
                shop.send(LIST, request, timeout=30)
                self.outcomes["OK"] += 1
            except grpc.RpcError as error:
                self.outcomes[_get_reason(error)] += 1
                stop.wait(0.1)  # the retry delay of the rejection


def _get_reason(error: grpc.RpcError) -> str:
    packed = dict(error.trailing_metadata()).get(DETAILS_KEY, b"")
    status = status_pb2.Status.FromString(packed)
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), error.code().name)


@pytest.mark.parametrize("name", PAGED)
def test_page_ends_before_it_is_larger_than_clients_take_and_the_next_goes_on(
    server: ServerProcess, product: str, name: str
):
    path, asked, reply_type = PAGED[name]
    request = type(asked).FromString(asked.SerializeToString())
    names: list[str] = []
    with open_shop(server) as shop:
        shows_long = name != "orders"
        if shows_long and not shop.products.ListProducts(LONG).products:
            for _ in range(PRODUCTS):
                shop.product(display_name="Long", description=DESCRIPTION)
        while True:
            raw = shop.send(path, request.SerializeToString())
            reply = reply_type.FromString(raw)
            items = reply.products if shows_long else reply.orders
            assert 0 < len(raw) < CLIENT_BYTES_MAX
            names += [item.name for item in items]
            if not reply.next_page_token:
                break
            assert len(raw) > CLIENT_BYTES_MAX / 8  # the page is not needlessly small
            request.page_token = reply.next_page_token
    assert len(names) == len(set(names)) >= (PRODUCTS if shows_long else ORDERS)


def test_batch_that_is_too_large_is_refused_with_the_number_that_fits(server: ServerProcess):
    with open_shop(server) as shop:
        names = [shop.product(display_name="Long", description=DESCRIPTION).name for _ in range(5)] * 25
        with pytest.raises(grpc.RpcError) as refused:
            shop.products.BatchGetProducts(products_pb2.BatchGetProductsRequest(names=names))
        refusal = parse_refusal(refused.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
        fitting = int(str(refused.value.details()).rpartition(" ")[2])  # type: ignore[attr-defined]  # a call's error
        assert 50 < fitting < len(names)
        batch = shop.products.BatchGetProducts(products_pb2.BatchGetProductsRequest(names=names[:fitting]))
        assert [one.name for one in batch.products] == names[:fitting]
        assert CLIENT_BYTES_MAX / 8 < batch.ByteSize() < CLIENT_BYTES_MAX


@pytest.mark.fast_path
def test_small_reads_are_answered_beside_callers_of_large_pages(server: ServerProcess, product: str):
    callers = Callers(server)
    with open_shop(server) as shop, callers.running():
        await_condition(lambda: sum(callers.outcomes.values()) > 0, server.log)
        for _ in range(SMALL_READS):
            request = products_pb2.GetProductRequest(name=product)
            assert shop.products.GetProduct(request, timeout=DEADLINE_S).name == product
            time.sleep(0.3)
        await_condition(lambda: callers.outcomes["OVERLOADED"] > 0, server.log)
    assert set(callers.outcomes) == {"OK", "OVERLOADED"}
