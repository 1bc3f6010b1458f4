"""Prices that change, and limits that end, while several workers or hosts take orders.

Each order has the price of its commit, and no limit of a coupon or a promotion is exceeded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import events_pb2, orders_pb2, pricing_pb2
from tests.conftest import MakeServer
from tests.domain.orders.test_order_promotions import make_coupon, order_or_reason, promote
from tests.support.buyers import open_shop, verify
from tests.support.clusters import Cluster
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, get_amount, money, new_id

ORDERS = 40
"""By each caller."""
CHANGES = 60
"""By each of the callers that change the price."""
BUYERS = 20
"""At each host."""
HOSTS = pytest.mark.engine("postgresql", reason="several hosts share a database")


def create_price(shop: Shop, sku: str) -> pricing_pb2.Price:
    """Create a price of 1 EUR that has begun."""
    price = pricing_pb2.Price(sku=sku, amount=money("1"), start_time={"seconds": 1_000_000_000})
    return shop.pricing.CreatePrice(pricing_pb2.CreatePriceRequest(price=price, price_id=new_id("p")))


def change_price(shop: Shop, name: str, first: int) -> None:
    """Set a price again and again, to amounts that no other caller sets."""
    for number in range(first, first + CHANGES):
        price = pricing_pb2.Price(name=name, amount=money(f"{number}"))
        shop.pricing.UpdatePrice(pricing_pb2.UpdatePriceRequest(price=price, update_mask=FieldMask(paths=["amount"])))


def place_orders(shop: Shop, sku: str, customer: str) -> None:
    """Place orders of one unit."""
    for _ in range(ORDERS):
        shop.order((sku, 1), customer=customer)


def list_changes(shop: Shop) -> list[events_pb2.Event]:
    """Return all events, in the order of their commits."""
    events: list[events_pb2.Event] = []
    token = ""
    while True:
        page = shop.events.ListEvents(events_pb2.ListEventsRequest(page_size=1000, page_token=token))
        events += page.events
        token = page.next_page_token
        if not token:
            return events


def change_prices_while_ordering(shops: Sequence[Shop]) -> None:
    """Change a price and order at two servers or workers at once. Check what each order cost."""
    first, second = shops
    sku, customer = first.variant(stock=1_000).sku, first.customer().name
    name = create_price(first, sku).name
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(change_price, shop, name, amount) for shop, amount in ((first, 100), (second, 500))]
        running += [pool.submit(place_orders, shop, sku, customer) for shop in (first, second) * 2]
        for one in running:
            one.result(timeout=300)
    current, prices, paid = 1, set(), []
    for event in list_changes(first):
        if event.type in ("price.created", "price.updated"):
            price = pricing_pb2.Price()
            event.content.Unpack(price)
            current = int(get_amount(price.amount))
        elif event.type == "order.placed":
            order = orders_pb2.Order()
            event.content.Unpack(order)
            paid.append((int(get_amount(order.total)), current))
            prices.add(current)
    assert len(paid) == 4 * ORDERS
    assert [pair for pair in paid if pair[0] != pair[1]] == []
    assert len(prices) > 1, "no price changed while orders were placed"


def test_order_has_the_price_of_its_commit_whichever_worker_takes_it(make_server: MakeServer) -> None:
    server = make_server("--workers", "2", metrics_listen="127.0.0.1:0")
    cluster = Cluster(server)
    with ExitStack() as stack:
        change_prices_while_ordering([stack.enter_context(cluster.shop(one["number"])) for one in cluster.workers()])
    verify(server)


# -- two hosts


@pytest.fixture
def hosts(make_server: MakeServer, tmp_path: Path) -> Iterator[list[ServerProcess]]:
    """Two servers on one database, which is verified at the end."""
    made = [make_server(data_dir=tmp_path / "hosts") for _ in range(2)]
    yield made
    verify(made[0])


@pytest.fixture
def host_shops(hosts: list[ServerProcess]) -> Iterator[list[Shop]]:
    """A shop at each of the hosts."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_shop(host)) for host in hosts]


def buy_everywhere(shops: Sequence[Shop], sku: str, **fields: Any) -> Counter[str]:
    """Order one unit for many customers at all hosts at once; count the totals and the problems of the code."""
    customers = [shops[0].customer().name for _ in range(BUYERS)]
    requests = [
        (shop, shop.order_request((sku, 1), customer=customer, **fields)) for customer in customers for shop in shops
    ]
    with ThreadPoolExecutor(len(requests)) as pool:
        return Counter(pool.map(lambda one: order_or_reason(*one), requests))


@HOSTS
def test_order_has_the_price_of_its_commit_whichever_host_takes_it(host_shops: list[Shop]) -> None:
    change_prices_while_ordering(host_shops)


@HOSTS
def test_last_use_of_a_coupon_is_of_one_caller_at_two_hosts(host_shops: list[Shop]) -> None:
    first = host_shops[0]
    sku = first.variant(stock=1_000).sku
    code = make_coupon(first, promote(first, [sku], requires_coupon=True), max_uses=1)
    outcomes = buy_everywhere(host_shops, sku, coupon_codes=[code])
    assert outcomes == {"9.00": 1, "USED_UP": 2 * BUYERS - 1}


@HOSTS
def test_each_customer_uses_a_coupon_once_at_two_hosts(host_shops: list[Shop]) -> None:
    """Each customer orders at both hosts at once."""
    first = host_shops[0]
    sku = first.variant(stock=1_000).sku
    code = make_coupon(first, promote(first, [sku], requires_coupon=True), max_uses_per_customer=1)
    outcomes = buy_everywhere(host_shops, sku, coupon_codes=[code])
    assert outcomes == {"9.00": BUYERS, "USED_BY_CUSTOMER": BUYERS}


@HOSTS
def test_budget_of_a_thousand_is_never_exceeded_at_two_hosts(host_shops: list[Shop]) -> None:
    """30.00 off each: 33 orders get it, the next gets the last 10.00 of 1,000.00, and the others get nothing."""
    first = host_shops[0]
    sku = first.variant(stock=1_000, prices={"EUR": "300"}).sku
    name = promote(first, [sku], currency_code="EUR", budget=money("1000"))
    outcomes = buy_everywhere(host_shops, sku)
    assert outcomes == {"270.00": 33, "290.00": 1, "300.00": 2 * BUYERS - 34}
    promotion = first.pricing.GetPromotion(pricing_pb2.GetPromotionRequest(name=name))
    assert (get_amount(promotion.spent), promotion.uses) == (1_000, 34)
