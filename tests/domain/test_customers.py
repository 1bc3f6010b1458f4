"""Customers: a deleted customer keeps its orders and cannot place new ones."""

from __future__ import annotations

import pytest

from storekeep.v1 import customers_pb2, orders_pb2
from tests.support.refusals import refused
from tests.support.resources import ADDRESS, CUSTOMER
from tests.support.shops import Shop


def test_addresses_come_back_in_their_order(shop: Shop):
    addresses = [{"label": label, "address": ADDRESS | {"locality": label}} for label in ("work", "home", "work")]
    customer = CUSTOMER.get(shop, shop.customer(addresses=addresses).name)
    assert [address.label for address in customer.addresses] == ["work", "home", "work"]
    assert [address.address.locality for address in customer.addresses] == ["work", "home", "work"]


NO_EMAILS = ("ana", "@example.com", "ana@", "a b@example.com", "ana@example.com\n", "a" * 250 + "@x.de")


@pytest.mark.parametrize("email", NO_EMAILS)
def test_email_that_is_none_is_refused(shop: Shop, email: str):
    with refused("INVALID_FIELD") as refusal:
        shop.customer(email=email)
    assert list(refusal.violations) == ["customer.email"]


def test_customers_may_share_an_email(shop: Shop):
    assert shop.customer(email="ana@example.com").name != shop.customer(email="ana@example.com").name


@pytest.mark.parametrize("country", ["", "de", "DEU", "Ü1", "D"])
def test_country_that_is_none_is_refused(shop: Shop, country: str):
    with refused("INVALID_FIELD") as refusal:
        shop.customer(addresses=[{"address": ADDRESS | {"region_code": country}}])
    assert list(refusal.violations) == ["customer.addresses[0].address.region_code"]


def test_label_without_an_address_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.customer(addresses=[customers_pb2.CustomerAddress(label="home")])
    assert list(refusal.violations) == ["customer.addresses[0].address"]


def test_21_addresses_are_refused(shop: Shop):
    assert len(shop.customer(addresses=[{"address": ADDRESS}] * 20).addresses) == 20
    with refused("INVALID_FIELD") as refusal:
        shop.customer(addresses=[{"address": ADDRESS}] * 21)
    assert list(refusal.violations) == ["customer.addresses"]


def test_deleted_customer_cannot_order_and_keeps_its_orders(shop: Shop):
    customer = shop.customer().name
    order = shop.order(customer=customer)
    CUSTOMER.do(shop, "Delete", customer)
    with refused("RESOURCE_DELETED") as refusal:
        shop.order(customer=customer)
    assert refusal.metadata == {"resource": customer}
    request = orders_pb2.ListOrdersRequest(filter=f"customer = {customer}")
    assert list(shop.orders.ListOrders(request).orders) == [order]


def test_customer_that_is_back_can_order(shop: Shop):
    customer = shop.customer().name
    for verb in ("Delete", "Undelete"):
        CUSTOMER.do(shop, verb, customer)
    assert shop.order(customer=customer).customer == customer
