"""Buyers: callers that order while the server is killed, and record every reply.

Each order carries its `request_id` also as `external_reference`, so that a duplicate effect of one call shows.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from storekeep.v1 import orders_pb2
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, new_request_id

BUYERS = 6
SKUS = 8
STOCK = 1_000_000
"""Stock of each SKU; more than any campaign orders."""
CALL_TIMEOUT_S = 60.0
FIRST_REPLY_TIMEOUT_S = 60.0
CANCELLED_SHARE = 0.2
RETRIED_SHARE = 0.5
"""Share of the unanswered calls that are retried after the restart; the others are not retried."""
NO_ANSWER = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
)
"""Status codes of a dead or draining server. gRPC reports UNKNOWN if the stream breaks midway."""
FRESH_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@contextmanager
def open_shop(server: ServerProcess) -> Iterator[Shop]:
    """Connect the administrator's stubs on a new connection, which has not seen the server fail."""
    with grpc.insecure_channel(server.address, options=FRESH_CONNECTION) as channel:
        grpc.channel_ready_future(channel).result(FIRST_REPLY_TIMEOUT_S)
        yield Shop(channel, api_key=server.admin_key)


@dataclass
class Account:
    """The state that the buyers know. All of it is keyed by the `request_id` that placed the order.

    Attributes:
        asked: Every order that was requested.
        acknowledged: Latest reply about each order.
        unanswered: Calls without a reply.
        cancelling: Requested cancellations; without a reply, either outcome is correct.
    """

    asked: dict[str, orders_pb2.PlaceOrderRequest] = field(default_factory=dict)
    acknowledged: dict[str, orders_pb2.Order] = field(default_factory=dict)
    unanswered: list[orders_pb2.PlaceOrderRequest] = field(default_factory=list)
    cancelling: set[str] = field(default_factory=set)
    broken_off: int = 0
    retried: int = 0


class Buyers:
    """The buyers of one server, across its restarts.

    Args:
        server: Running server.
        seed: Seed of all randomness.
        no_answer: Status codes that leave open whether an order was placed.
    """

    def __init__(
        self, server: ServerProcess, *, seed: int = 1, no_answer: frozenset[grpc.StatusCode] = NO_ANSWER
    ) -> None:
        self.server = server
        self._no_answer = no_answer
        self.account = Account()
        self.random = random.Random(seed)
        with open_shop(server) as shop:
            self.customer = shop.customer().name
            self.skus = [shop.variant(stock=STOCK, prices={"EUR": f"{n}.99"}).sku for n in range(1, SKUS + 1)]

    @contextmanager
    def buying(self) -> Iterator[None]:
        """Run the buyers from the first reply on; on exit, they stop at their next failure."""
        with open_shop(self.server) as shop:
            self._ask_again(shop)
            stop, answered = threading.Event(), threading.Event()
            threads = [
                threading.Thread(target=self._buy, args=[shop, random.Random(self.random.random()), stop, answered])
                for _ in range(BUYERS)
            ]
            for thread in threads:
                thread.start()
            assert answered.wait(FIRST_REPLY_TIMEOUT_S), "no order was answered"
            try:
                yield
            finally:
                stop.set()
                for thread in threads:
                    thread.join(CALL_TIMEOUT_S * 2)

    def _ask_again(self, shop: Shop) -> None:
        """Retry calls without a reply, and some with one: the reply must be the same."""
        unanswered, self.account.unanswered = self.account.unanswered, []
        for request in unanswered:
            if self.random.random() < RETRIED_SHARE:
                self.account.acknowledged[request.request_id] = shop.orders.PlaceOrder(request)
                self.account.retried += 1
        known = sorted(self.account.acknowledged.keys() - self.account.cancelling)
        for request_id in self.random.sample(known, min(3, len(known))):
            again = shop.orders.PlaceOrder(self.account.asked[request_id])
            assert again == self.account.acknowledged[request_id], "a retry was answered otherwise"

    def _buy(self, shop: Shop, chance: random.Random, stop: threading.Event, answered: threading.Event) -> None:
        while not stop.is_set():
            request = self._new_request(chance)
            self.account.asked[request.request_id] = request
            try:
                order = shop.orders.PlaceOrder(request, timeout=CALL_TIMEOUT_S)
            except grpc.RpcError as error:
                self._note_no_answer(error)
                self.account.unanswered.append(request)
                return
            self.account.acknowledged[request.request_id] = order
            answered.set()
            if chance.random() < CANCELLED_SHARE and not self._cancel(shop, order):
                return

    def _cancel(self, shop: Shop, order: orders_pb2.Order) -> bool:
        request_id = order.external_reference
        self.account.cancelling.add(request_id)
        request = orders_pb2.CancelOrderRequest(name=order.name, request_id=new_request_id())
        try:
            self.account.acknowledged[request_id] = shop.orders.CancelOrder(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            self._note_no_answer(error)
            return False
        return True

    def _note_no_answer(self, error: Any) -> None:
        self.account.broken_off += 1
        assert error.code() in self._no_answer, f"{error.code()}: {error.details()}"

    def _new_request(self, chance: random.Random) -> orders_pb2.PlaceOrderRequest:
        request_id = new_request_id()
        lines = [
            orders_pb2.PlaceOrderLine(sku=sku, quantity=chance.randint(1, 5)) for sku in chance.choices(self.skus, k=3)
        ]
        return orders_pb2.PlaceOrderRequest(
            customer=self.customer,
            lines=lines,
            currency_code="EUR",
            external_reference=request_id,
            request_id=request_id,
        )

    # -- final checks

    def check(self) -> None:
        """Compare the server's data with the replies that the buyers got, and verify the database."""
        with open_shop(self.server) as shop:
            orders = list_orders(shop, customer=self.customer)
            self._check_orders(orders)
            self._check_stock(shop, orders)
        verify(self.server)

    def _check_orders(self, orders: list[orders_pb2.Order]) -> None:
        counts = Counter(order.external_reference for order in orders)
        assert not [request_id for request_id, count in counts.items() if count > 1], "one call had two effects"
        assert counts.keys() <= self.account.asked.keys(), "there are orders that nobody asked for"
        held = {order.external_reference: order for order in orders}
        lost = self.account.acknowledged.keys() - held.keys()
        assert not lost, f"{len(lost)} acknowledged orders are lost"
        for request_id, acknowledged in self.account.acknowledged.items():
            if acknowledged.state == orders_pb2.ORDER_STATE_PLACED and request_id in self.account.cancelling:
                assert extract_ordered_lines(held[request_id]) == extract_ordered_lines(acknowledged)
            else:
                assert held[request_id] == acknowledged, "an acknowledged order is not what was acknowledged"

    def _check_stock(self, shop: Shop, orders: list[orders_pb2.Order]) -> None:
        allocated: Counter[str] = Counter()
        for order in orders:
            if order.state != orders_pb2.ORDER_STATE_CANCELLED:
                for line in order.lines:
                    allocated[line.sku] += line.quantity
        for sku in self.skus:
            level = shop.level(sku)
            assert (level.on_hand, level.allocated) == (STOCK, allocated[sku]), sku


def extract_ordered_lines(order: orders_pb2.Order) -> list[tuple[Any, ...]]:
    """Return the ordered lines and prices of an order, regardless of later cancellations."""
    return [(line.line_number, line.sku, line.quantity, line.unit_price, line.subtotal) for line in order.lines]


def list_orders(shop: Shop, *, customer: str) -> list[orders_pb2.Order]:
    """List all orders of a customer."""
    orders: list[orders_pb2.Order] = []
    page_token = ""
    while True:
        page = shop.orders.ListOrders(
            orders_pb2.ListOrdersRequest(filter=f'customer = "{customer}"', page_size=1000, page_token=page_token)
        )
        orders.extend(page.orders)
        page_token = page.next_page_token
        if not page_token:
            return orders


def verify(server: ServerProcess) -> None:
    """Run `storekeep-server verify` on a server's database, running or not."""
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def kill_while_buying(buyers: Buyers, *, after_s: float) -> None:
    """Run the buyers, kill the server, and restart it on the same data."""
    with buyers.buying():
        time.sleep(after_s)
        buyers.server.kill()
    buyers.server.start()
