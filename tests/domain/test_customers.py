"""Customers: a deleted customer keeps its orders and cannot place new ones."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.v1 import customers_pb2, orders_pb2
from tests.support.refusals import refused
from tests.support.resources import ADDRESS, CUSTOMER
from tests.support.shops import Shop, new_id


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


def test_customers_are_found_by_group_company_and_tax_id(shop: Shop):
    company, group = new_id("Company"), new_id("g")
    both = shop.customer(company=company, tax_id="DE 811 907 980", groups=[f"{group}-x", group])
    shop.customer(company=company, groups=[f"{group}-x"])
    assert list(both.groups) == [group, f"{group}-x"]
    named = f'company = "{company}"'
    for filter_text in (f"{named} AND groups:{group}", f'{named} AND tax_id = "DE 811 907 980"'):
        assert CUSTOMER.names(CUSTOMER.list(shop, filter=filter_text)) == [both.name]
    assert len(CUSTOMER.list(shop, filter=f"{named} AND NOT groups:{group}").customers) == 1
    for part in (f"{group}*", f"{group}-*"):
        assert both.name in CUSTOMER.names(CUSTOMER.list(shop, filter=f'{named} AND groups:"{part}"'))
    for part in ("g-", "g%", "_", ",", group[:-1], group.upper(), f"{group.upper()}*", f'{group}",'):
        part = part.replace('"', r"\"")
        assert CUSTOMER.list(shop, filter=f'{named} AND groups:"{part}"').customers == []
    with refused("INVALID_FILTER"):
        CUSTOMER.list(shop, filter=f"groups = {group}")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"groups": ["a", "a"]}, "customer.groups"),
        ({"groups": ["Wholesale"]}, "customer.groups[0]"),
        ({"groups": [f"g{number}" for number in range(21)]}, "customer.groups"),
        ({"company": "c" * 201}, "customer.company"),
        ({"tax_id": "t" * 41}, "customer.tax_id"),
    ],
    ids=["twice", "capital", "too many", "long company", "long tax id"],
)
def test_company_fields_beyond_their_limits_are_refused(shop: Shop, fields: dict[str, Any], field: str):
    with refused("INVALID_FIELD") as refusal:
        shop.customer(**fields)
    assert list(refusal.violations) == [field]
