"""The address of a new order is the one that was shown with its price, or nothing is placed."""

from __future__ import annotations

import pytest

from storekeep.client import Address, Customer, CustomerAddress, Storekeep
from tests.support.shops import Shop, new_id
from tests.support.visitors import Page, Visitor, get_wrong

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def build_address(street: str, **fields: str) -> Address:
    return Address(recipient="Ada Marsh", address_lines=[street], locality="Galway", region_code="IE", **fields)


def create_customer(client: Storekeep, **streets: str) -> Customer:
    addresses = [CustomerAddress(label=label, address=build_address(street)) for label, street in streets.items()]
    return client.customers.create(
        Customer(display_name="Ada Marsh", email=f"{new_id()}@example.com", addresses=addresses)
    )


def show_price(visitor: Visitor, sku: str, customer: Customer, **fields: str) -> Page:
    form = visitor.get(f"/orders/new?customer={customer.name}").form("/orders/new")
    return visitor.post("/orders/new", dict(form.fields) | {"sku.1": sku, "step": "price"} | fields)


def send(visitor: Visitor, page: Page, **fields: str) -> Page:
    return visitor.post("/orders/new", dict(page.form("/orders/new").fields) | fields)


def list_orders(client: Storekeep, customer: Customer) -> list[Address]:
    return [order.shipping_address for order in client.orders.list(filter=f'customer = "{customer.name}"')]


def test_address_that_the_customer_does_not_have_is_refused(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=5).sku
    for customer in (create_customer(client, work="1 Mill Road"), create_customer(client)):
        page = show_price(admin, sku, customer, chosen_address="Home")
        assert "no address 'Home'" in get_wrong(page)["chosen_address"]
        priced = show_price(admin, sku, customer)
        for step in ("place", "quote"):
            page = send(admin, priced, chosen_address="Home", step=step)
            assert set(get_wrong(page)) == {"chosen_address"}
        assert list_orders(client, customer) == []


@pytest.mark.parametrize("step", ["place", "quote"])
def test_address_that_was_edited_after_its_price_was_shown_is_shown_anew(
    admin: Visitor, client: Storekeep, shop: Shop, step: str
):
    sku, customer = shop.variant(stock=5).sku, create_customer(client, home="12 Quay Street")
    page = show_price(admin, sku, customer, chosen_address="home")
    assert "12 Quay Street" in page.text.partition("What it costs now")[2].partition("Address of the customer")[0]
    customer.addresses[0].address.address_lines[:] = ["99 Other Street"]
    client.customers.update(customer, update_mask=["addresses"])
    refused = send(admin, page, step=step)
    assert refused.status == 409
    assert set(get_wrong(refused)) == {"chosen_address"}
    assert "99 Other Street" in refused.text
    assert list_orders(client, customer) == []
    assert not list(client.quotes.list(filter=f'customer = "{customer.name}"'))
    again = send(admin, refused, step="price")
    placed = send(admin, again, step="place")
    assert "has been placed" in placed.text
    assert list_orders(client, customer) == [build_address("99 Other Street")]


def test_address_chosen_after_the_price_was_shown_is_checked_first(admin: Visitor, client: Storekeep, shop: Shop):
    sku, customer = shop.variant(stock=5).sku, create_customer(client, home="12 Quay Street", work="1 Mill Road")
    page = show_price(admin, sku, customer, chosen_address="home")
    assert set(get_wrong(send(admin, page, chosen_address="work", step="place"))) == {"chosen_address"}
    assert "has been placed" in send(admin, page, step="place").text
    assert list_orders(client, customer) == [build_address("12 Quay Street")]


def test_addresses_with_one_label_are_told_apart(admin: Visitor, client: Storekeep, shop: Shop):
    sku, streets = shop.variant(stock=5).sku, ("1 Mill Road", "2 Mill Road", "3 Mill Road")
    labels = ("home", "home", "")
    customer = create_customer(client)
    for label, street in zip(labels, streets, strict=True):
        customer.addresses.append(CustomerAddress(label=label, address=build_address(street)))
    client.customers.update(customer, update_mask=["addresses"])
    for choice, street in zip(("home", "home 2", "3"), streets, strict=True):
        page = show_price(admin, sku, customer, chosen_address=choice)
        assert "has been placed" in send(admin, page, step="place").text
        assert build_address(street) in list_orders(client, customer)
