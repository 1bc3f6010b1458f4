"""Search of orders: by the beginning of a number or reference, by digits, and by the words of the customer."""

from __future__ import annotations

import uuid

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storekeep.server.domain.orders import searches
from storekeep.v1 import orders_pb2
from tests.support.historic_orders import SHIPPED, historic
from tests.support.hostile.accounts import make_account, sign_in
from tests.support.processes import ServerProcess
from tests.support.refusals import refusal, refused
from tests.support.resources import CUSTOMER
from tests.support.shops import Shop


def make_word() -> str:
    """Return a word that occurs nowhere else."""
    return "w" + uuid.uuid4().hex[:10]


def list_found(shop: Shop, query: str, *, page_size: int = 100) -> list[str]:
    """Return the names of all orders that a query finds, page by page."""
    names: list[str] = []
    token = ""
    while True:
        request = orders_pb2.SearchOrdersRequest(query=query, page_size=page_size, page_token=token)
        page = shop.orders.SearchOrders(request)
        names += [order.name for order in page.orders]
        token = page.next_page_token
        if not token:
            return names


@pytest.fixture(scope="module")
def sku(shop: Shop) -> str:
    return shop.variant(stock=1_000).sku


def test_order_is_found_by_its_number_in_either_case_and_by_its_digits(shop: Shop, sku: str):
    order = shop.order((sku, 1))
    digits = str(int(order.number.rpartition("-")[2]))
    for query in (order.number, order.number.lower(), f" {order.number} ", digits):
        assert list_found(shop, query)[0] == order.name, query


def test_order_is_found_with_and_without_the_mark_before_its_number(shop: Shop):
    digits = str(uuid.uuid4().int)[:12]
    numbers = (f"#{digits}", digits)
    request = orders_pb2.ImportOrdersRequest(orders=[historic(shop, number=number, **SHIPPED) for number in numbers])
    marked, plain = (result.order for result in shop.orders.ImportOrders(request).results)
    for page_size in (1, 100):
        assert list_found(shop, digits, page_size=page_size) == [marked, plain]
        assert list_found(shop, f"#{digits}", page_size=page_size) == [marked]


def test_found_order_is_what_get_gives(shop: Shop, sku: str):
    order = shop.order((sku, 1))
    assert list(shop.orders.SearchOrders(orders_pb2.SearchOrdersRequest(query=order.number)).orders) == [order]


def test_order_is_found_by_the_beginning_of_its_reference(shop: Shop, sku: str):
    mark = make_word().upper()
    orders = [shop.order((sku, 1), external_reference=f"{mark}-{number}") for number in range(3)]
    assert list_found(shop, mark[:8].lower(), page_size=1) == [order.name for order in orders]
    assert list_found(shop, f"{mark}-1") == [orders[1].name]
    assert list_found(shop, mark[1:]) == []


def test_orders_are_found_by_words_of_their_customer_newest_first(shop: Shop, sku: str):
    mark = make_word()
    customer = shop.customer(display_name=f"Ada {mark}", email=f"{mark}@example.com")
    orders = [shop.order((sku, 1), customer=customer.name) for _ in range(3)]
    shop.order((sku, 1))
    expected = [order.name for order in reversed(orders)]
    for query in (f"ada {mark}", mark.upper(), f"{mark}@example.com"):
        assert list_found(shop, query) == expected
    CUSTOMER.do(shop, "Delete", customer.name)
    assert list_found(shop, mark) == expected, "orders stay when their customer is deleted"


@pytest.mark.parametrize("page_size", [1, 2, 4])
def test_pages_give_each_order_once_while_others_come(shop: Shop, sku: str, page_size: int):
    mark = make_word()
    customers = [shop.customer(display_name=f"{mark} {'x ' * number}") for number in range(3)]
    referred = [shop.order((sku, 1), external_reference=f"{mark}{number}") for number in range(2)]
    both = shop.order((sku, 1), customer=customers[0].name, external_reference=f"{mark}9")
    mine = [
        [shop.order((sku, 1), customer=customer.name) for _ in range(3)] for customer in (customers[0], customers[2])
    ]
    expected = [order.name for order in (*referred, both)]
    expected += [order.name for orders in mine for order in reversed(orders)]
    names: list[str] = []
    token = ""
    while token or not names:
        request = orders_pb2.SearchOrdersRequest(query=mark, page_size=page_size, page_token=token)
        page = shop.orders.SearchOrders(request)
        names += [order.name for order in page.orders]
        token = page.next_page_token
        shop.order((sku, 1))
    assert names == expected


def test_a_page_ends_after_many_customers_without_orders(shop: Shop, sku: str):
    mark = make_word()
    for _ in range(searches.CUSTOMERS_MAX + 5):
        shop.customer(display_name=mark)
    customer = shop.customer(display_name=f"{mark} with a longer name")
    order = shop.order((sku, 1), customer=customer.name)
    page = shop.orders.SearchOrders(orders_pb2.SearchOrdersRequest(query=mark))
    assert (list(page.orders), bool(page.next_page_token)) == ([], True)
    assert list_found(shop, mark) == [order.name]


def test_customers_are_searched_only_for_callers_who_may_read_them(server: ServerProcess, shop: Shop, sku: str):
    mark = make_word()
    customer = shop.customer(display_name=mark)
    order = shop.order((sku, 1), customer=customer.name, external_reference=f"ref-{mark}")
    account = make_account(shop, permissions=["orders.read"])
    with grpc.insecure_channel(server.address) as channel:
        packer = sign_in(channel, shop, account)
        assert list_found(packer, mark) == []
        assert list_found(packer, f"ref-{mark}") == [order.name]
        shop.order((sku, 1), external_reference=f"ref-{mark}-2")
        request = orders_pb2.SearchOrdersRequest(query=f"ref-{mark}", page_size=1)
        token = packer.orders.SearchOrders(request).next_page_token
    assert list_found(shop, mark) == [order.name]
    with refused("INVALID_PAGE_TOKEN"):
        shop.orders.SearchOrders(orders_pb2.SearchOrdersRequest(query=f"ref-{mark}", page_token=token))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.text(min_size=1, max_size=200))
def test_any_query_is_answered(shop: Shop, query: str):
    assert refusal(shop.orders.SearchOrders, orders_pb2.SearchOrdersRequest(query=query)) is None
