"""Callers of large pages beside those of small reads: small ones are answered, large ones answered or refused."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from storekeep.v1 import orders_pb2, products_pb2
from tests.buyers import open_shop
from tests.clusters import await_that
from tests.processes import ServerProcess
from tests.refusals import refusal_of
from tests.shops import Shop

ORDERS, LINES = 25, 500
CALLERS = 60
SMALL_READS = 6
DEADLINE_S = 5.0
LIST = "/storekeep.v1.OrderService/ListOrders"


@pytest.fixture(scope="module")
def product(server: ServerProcess) -> str:
    """A product of a shop whose pages of orders are large."""
    with open_shop(server) as shop:
        skus = [shop.variant(stock=10**6).sku for _ in range(LINES)]
        customer = shop.customer().name
        for _ in range(ORDERS):
            shop.order(*((sku, 1) for sku in skus), customer=customer)
        return shop.product().name


class Callers:
    """Those that ask for large pages on and on, and what they are told."""

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
                self.outcomes[_reason_of(error)] += 1
                stop.wait(0.1)  # as the refusal says


def _reason_of(error: grpc.RpcError) -> str:
    text = str(error.details())
    return "OVERLOADED" if text.endswith("[OVERLOADED]") else refusal_of(error).reason


def test_small_reads_are_answered_beside_callers_of_large_pages(server: ServerProcess, product: str):
    callers = Callers(server)
    with open_shop(server) as shop, callers.running():
        await_that(lambda: sum(callers.outcomes.values()) > 0, server.log)
        for _ in range(SMALL_READS):
            request = products_pb2.GetProductRequest(name=product)
            assert shop.products.GetProduct(request, timeout=DEADLINE_S).name == product
            time.sleep(0.3)
        await_that(lambda: callers.outcomes["OVERLOADED"] > 0, server.log)
    assert set(callers.outcomes) == {"OK", "OVERLOADED"}
