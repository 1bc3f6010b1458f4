"""What a newcomer looks for on the pages: who a bill is for, why there is no tax, and what became of a customer."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from storekeep.client import Address, Customer, CustomerTaxExemption, Storekeep, WebhookEndpoint
from storekeep.console.requests import BadRequest, describe_problem
from tests.support.browsers import NARROW, NARROW_PX, NEEDS_CHROMIUM, OpenPage
from tests.support.console_pages import fill_pattern, list_patterns, make_one_of_each
from tests.support.shops import Shop
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


@pytest.mark.parametrize("paper", ["invoice", "print"])
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (Address(region_code="AT", locality="Graz"), "Ernst HandelGraz"),
        (Address(region_code="AT", locality="Graz", recipient="Roland"), "RolandGraz"),
    ],
)
def test_paper_names_the_customer_unless_the_address_does(
    admin: Visitor, client: Storekeep, shop: Shop, paper: str, address: Address, expected: str
):
    customer = client.customers.create(Customer(display_name="Ernst Handel"))
    order = client.orders.place(
        customer=customer.name,
        lines=[(shop.variant(stock=5).sku, 1)],
        currency_code="EUR",
        shipping_address=address,
    )
    page = admin.get(f"/{order.name}/{paper}")
    assert expected in page.text
    assert ("Ernst Handel" in page.text) == (not address.recipient)


def test_exemption_of_a_customer_is_shown(admin: Visitor, client: Storekeep):
    exemption = CustomerTaxExemption(reason="reseller", certificate="C-77")
    exempt = client.customers.create(Customer(display_name="Ernst", tax_exemption=exemption))
    text = admin.get(f"/{exempt.name}").text
    assert "Exempt from tax" in text
    assert "reseller" in text
    assert "C-77" in text
    taxed = client.customers.create(Customer(display_name="Ada"))
    assert "Exempt from tax" not in admin.get(f"/{taxed.name}").text


def test_erased_customer_has_a_title_and_orders_nothing(admin: Visitor, client: Storekeep, shop: Shop):
    customer = client.customers.create(Customer(display_name="Ada"))
    client.orders.cancel(
        client.orders.place(customer=customer.name, lines=[(shop.variant(stock=5).sku, 1)], currency_code="EUR").name
    )
    path = f"/{customer.name}"
    assert "New order" in admin.get(path).text
    client.customers.erase(customer.name)
    page = admin.get(path)
    assert f"<title>{customer.name.partition('/')[2]}" in page.body
    assert "New order" not in page.text
    with pytest.raises(Exception, match="is erased"):
        client.customers.update(Customer(name=customer.name, display_name="Eve"), update_mask=["display_name"])


def test_resource_name_at_the_start_of_an_error_stays_as_it_is():
    for text in ("customers/jonas-lind is deleted", "ada@example.com is taken", "tea-1 is not for sale"):
        problem = describe_problem(BadRequest(text))
        assert problem is not None
        assert problem.message == text
    problem = describe_problem(BadRequest("the order is held"))
    assert problem is not None
    assert problem.message == "The order is held"


@NEEDS_CHROMIUM
def test_long_words_make_no_page_wider_than_a_telephone(open_page: OpenPage, client: Storekeep):
    page: Page = open_page(viewport=NARROW)
    long = "W" * 95
    ids = make_one_of_each(client, long)
    url = f"https://hooks.example.com/{'x' * 180}"
    endpoint = client.webhooks.create(WebhookEndpoint(url=url, event_types=["order.*"])).webhook_endpoint
    patterns = [pattern for pattern in list_patterns() if "{" in pattern and not pattern.startswith("/import/")]
    paths = [f"/{endpoint.name}", *(fill_pattern(pattern, ids) for pattern in patterns)]
    widths = {}
    for path in paths:
        page.goto(path)
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert {path: width for path, width in widths.items() if width > NARROW_PX} == {}
