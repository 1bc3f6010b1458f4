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


@pytest.mark.parametrize(
    "tax_id",
    [
        "ATU57194903",
        "BE 0697.449.992",
        "FR61954506077",
        "el 094259216",
        "GB980780684",
        "CHE-107.787.577 MWST",
        "MX-123",
        "\u0418\u041d\u041d 7707083893",
        "",
    ],
)
def test_tax_id_of_the_right_form_or_of_no_known_form_is_kept_as_it_is(shop: Shop, tax_id: str):
    assert shop.customer(tax_id=tax_id).tax_id == tax_id


@pytest.mark.parametrize(
    ("tax_id", "problem"),
    [
        ("ATU57194904", "is not a VAT number of AT: its check digits are wrong"),
        ("DE1366959", "is not a VAT number of DE: it has a wrong length"),
        ("FR 6x 954 506 077", "is not a VAT number of FR"),
        ("CHE-107.787.578", "is not a VAT number of CHE: its check digits are wrong"),
        (
            "ATU\uff15\uff17\uff11\uff19\uff14\uff19\uff10\uff13",
            "is not a VAT number of AT: it has characters that are not ASCII",
        ),
        ("\uff21\uff34U57194903", "is not a VAT number of AT: it has characters that are not ASCII"),
        ("ATU5719490\u200b3", "must not have control characters"),
        ("DE136695976\n", "must not have control characters"),
        ("\u202e7707083893", "must not have control characters"),
        (" ", "must have letters or digits"),
        ("---", "must have letters or digits"),
        ("DE\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669", "is not a VAT number of DE"),
    ],
)
def test_tax_id_of_a_wrong_form_is_refused(shop: Shop, tax_id: str, problem: str):
    with refused("INVALID_FIELD") as refusal:
        shop.customer(tax_id=tax_id)
    assert refusal.violations["customer.tax_id"].startswith(problem)


def test_exemption_that_ends_before_it_starts_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.customer(tax_exemption={"reason": "x", "start_time": {"seconds": 2}, "end_time": {"seconds": 2}})
    assert list(refusal.violations) == ["customer.tax_exemption.end_time"]


@pytest.mark.parametrize("reason", [" ", "\u00a0\t"])
def test_exemption_with_a_blank_reason_is_refused(shop: Shop, reason: str):
    with refused("INVALID_FIELD") as refusal:
        shop.customer(tax_exemption={"reason": reason})
    assert list(refusal.violations) == ["customer.tax_exemption.reason"]
