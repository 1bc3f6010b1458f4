"""The language of an order: the customer's, or one of its own; its lines are named in it."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.v1 import customers_pb2, orders_pb2
from tests.support.order_cases import apply
from tests.support.refusals import refused
from tests.support.shops import Shop, new_request_id

GERMAN = {"de": {"display_name": "Tee"}, "pt-BR": {"display_name": "Chá"}}
LARGE = {"de": {"display_name": "Groß"}, "fr": {"options": {"size": "grand"}}}


def make_variant(shop: Shop) -> Any:
    """Return a variant on stock, whose names are in German and in part in Portuguese."""
    product = shop.product(display_name="Tea", translations=GERMAN)
    return shop.variant(parent=product.name, display_name="Large", translations=LARGE, stock=100)


def place(shop: Shop, variant: Any, **fields: Any) -> orders_pb2.Order:
    return shop.order((variant.sku, 1), **fields)


def quote(shop: Shop, variant: Any, **fields: Any) -> str:
    lines = [orders_pb2.PlaceOrderLine(sku=variant.sku, quantity=1)]
    request = orders_pb2.QuoteOrderRequest(lines=lines, currency_code="EUR", **fields)
    return str(shop.orders.QuoteOrder(request).lines[0].display_name)


@pytest.mark.parametrize(
    ("language", "stored", "name"),
    [
        ("de", "de", "Tee, Groß"),
        ("DE-at", "de-AT", "Tee, Groß"),
        ("pt-br", "pt-BR", "Chá, Large"),  # the variant has no name in Portuguese
        ("pt", "pt", "Tea, Large"),  # a longer tag is no match (RFC 4647, 3.4)
        ("fr", "fr", "Tea, Large"),  # a translation without a name
        ("en", "en", "Tea, Large"),
        ("iw", "he", "Tea, Large"),
        ("", "", "Tea, Large"),
    ],
)
def test_lines_are_named_in_the_language_of_the_order(shop: Shop, language: str, stored: str, name: str):
    variant = make_variant(shop)
    order = place(shop, variant, language_code=language)
    assert (order.language_code, order.lines[0].display_name) == (stored, name)
    assert shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=order.name)) == order
    assert quote(shop, variant, language_code=language) == name


def test_order_has_the_language_of_its_customer_unless_it_names_another(shop: Shop):
    variant, customer = make_variant(shop), shop.customer(language_code="de-ch")
    assert customer.language_code == "de-CH"
    own, other = (
        place(shop, variant, customer=customer.name),
        place(shop, variant, customer=customer.name, language_code="pt-BR"),
    )
    assert (own.language_code, own.lines[0].display_name) == ("de-CH", "Tee, Groß")
    assert (other.language_code, other.lines[0].display_name) == ("pt-BR", "Chá, Large")
    assert quote(shop, variant, customer=customer.name) == "Tee, Groß"
    assert quote(shop, variant, customer=customer.name, language_code="en") == "Tea, Large"
    changed = customers_pb2.Customer(name=customer.name, language_code="fr")
    shop.customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=changed, request_id=new_request_id()))
    assert shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=own.name)) == own


def test_language_that_changes_names_new_lines_only(shop: Shop):
    first, second = make_variant(shop), make_variant(shop)
    order = place(shop, first, customer=shop.customer(language_code="de").name)
    changed = orders_pb2.Order(name=order.name, language_code="PT-br")
    order = shop.orders.UpdateOrder(orders_pb2.UpdateOrderRequest(order=changed, request_id=new_request_id()))
    order = shop.orders.ApplyOrderEdit(apply(order, add={second.sku: 1}))
    assert [line.display_name for line in order.lines] == ["Tee, Groß", "Chá, Large"]


def test_edit_of_an_order_without_a_language_takes_none_from_its_customer(shop: Shop):
    variant, customer = make_variant(shop), shop.customer()
    order = place(shop, variant, customer=customer.name)
    changed = customers_pb2.Customer(name=customer.name, language_code="de")
    shop.customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=changed, request_id=new_request_id()))
    order = shop.orders.ApplyOrderEdit(apply(order, add={variant.sku: 1}))
    assert [line.display_name for line in order.lines] == ["Tea, Large"] * 2


@pytest.mark.parametrize("tag", ["german", "de_AT", "d", "de-", "x" * 36, "de\n", "d\u0435"])
def test_language_that_is_no_tag_is_refused(shop: Shop, tag: str):
    variant = make_variant(shop)
    with refused("INVALID_FIELD") as order:
        place(shop, variant, language_code=tag)
    with refused("INVALID_FIELD") as customer:
        shop.customer(language_code=tag)
    with refused("INVALID_FIELD"):
        quote(shop, variant, language_code=tag)
    assert list(order.refusal.violations) == ["language_code"]
    assert list(customer.refusal.violations) == ["customer.language_code"]
