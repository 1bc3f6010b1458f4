"""Search of products and customers: all words must match, for products the last one as a prefix; pages hold still."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storekeep.v1 import addresses_pb2, customers_pb2, products_pb2
from tests.support.records import Records
from tests.support.refusals import refusal, refused
from tests.support.resources import CUSTOMER, PRODUCT, VARIANT
from tests.support.shops import Shop


def make_word() -> str:
    """Return a word that occurs nowhere else."""
    return "w" + uuid.uuid4().hex[:10]


def search(shop: Shop, query: str, **fields) -> products_pb2.SearchProductsResponse:
    return shop.products.SearchProducts(products_pb2.SearchProductsRequest(query=query, **fields))


def list_found_names(shop: Shop, query: str, **fields) -> list[str]:
    return [product.name for product in search(shop, query, **fields).products]


def test_product_is_found_by_name_description_sku_and_barcode(shop: Shop):
    name, description, barcode, display_name = make_word(), make_word(), make_word(), make_word()
    product = shop.product(display_name=f"The {name}", description=f"some {description}.")
    variant = shop.variant(parent=product.name, barcode=barcode, display_name=display_name)
    for query in (name, description, variant.sku, variant.sku.lower(), barcode, display_name, name.upper()):
        assert list_found_names(shop, query) == [product.name]


def test_found_product_is_what_get_gives(shop: Shop):
    name = make_word()
    product = shop.product(display_name=name)
    assert list(search(shop, name).products) == [product]


def test_all_words_must_occur_in_any_order(shop: Shop):
    one, two, three = make_word(), make_word(), make_word()
    both = shop.product(display_name=f"{one} {two}").name
    shop.product(display_name=one)
    assert list_found_names(shop, f"{two} {one}") == [both]
    assert list_found_names(shop, f"{one} {three}") == []


def test_only_the_last_word_may_be_a_beginning(shop: Shop):
    one, two = make_word(), make_word()
    product = shop.product(display_name=f"{one} {two}").name
    assert list_found_names(shop, f"{one} {two[:6]}") == [product]
    assert list_found_names(shop, f"{one[:6]} {two}") == []


def test_accents_and_case_do_not_matter(shop: Shop):
    mark = make_word()
    product = shop.product(display_name=f"Rössle Sauerkraut {mark}").name
    assert list_found_names(shop, f"rossle {mark}") == [product]
    assert list_found_names(shop, f"RÖSSLE {mark}") == [product]


def test_change_is_found_at_once_and_the_old_words_are_not(shop: Shop):
    old, new = make_word(), make_word()
    product = shop.product(display_name=old)
    product.display_name = new
    PRODUCT.update(shop, product, "display_name")
    assert list_found_names(shop, old) == []
    assert list_found_names(shop, new) == [product.name]


def test_change_of_a_variant_is_found_at_once(shop: Shop):
    variant = shop.variant()
    variant.barcode = make_word()
    VARIANT.update(shop, variant, "barcode")
    product = variant.name.partition("/variants/")[0]
    assert list_found_names(shop, variant.barcode) == [product]
    VARIANT.do(shop, "Delete", variant.name)
    assert list_found_names(shop, variant.sku) == []


def test_deleted_product_is_not_found_until_it_is_back(shop: Shop):
    name = make_word()
    product = shop.product(display_name=name).name
    PRODUCT.do(shop, "Delete", product)
    assert list_found_names(shop, name, show_archived=True) == []
    PRODUCT.do(shop, "Undelete", product)
    assert list_found_names(shop, name) == [product]


def test_archived_product_is_found_only_when_asked_for(shop: Shop):
    name = make_word()
    product = shop.product(display_name=name).name
    PRODUCT.do(shop, "Archive", product)
    assert list_found_names(shop, name) == []
    assert list_found_names(shop, name, show_archived=True) == [product]


def test_better_match_comes_first(shop: Shop):
    mark = make_word()
    shop.product(display_name="Something else", description="x " * 200 + mark)
    best = shop.product(display_name=f"{mark} {mark}").name
    assert list_found_names(shop, mark)[0] == best


@pytest.mark.parametrize("page_size", [1, 2, 3])
def test_pages_give_every_hit_once(shop: Shop, page_size: int):
    mark = make_word()
    made = {shop.product(display_name=mark, description="x " * (number % 2)).name for number in range(7)}
    names: list[str] = []
    token = ""
    while token or not names:
        page = search(shop, mark, page_size=page_size, page_token=token)
        names += [product.name for product in page.products]
        token = page.next_page_token
    assert len(names) == len(made)
    assert set(names) == made


def test_pages_hold_still_while_other_products_change(shop: Shop):
    mark = make_word()
    made = [shop.product(display_name=mark).name for _ in range(10)]
    names: list[str] = []
    token = ""
    while token or not names:
        page = search(shop, mark, page_size=3, page_token=token)
        names += [product.name for product in page.products]
        token = page.next_page_token
        shop.product(display_name="An unrelated product", description=f"{make_word()} " * 30)
        shop.product(display_name=f"{mark} {make_word()} and more", description=mark)
        PRODUCT.do(shop, "Delete", shop.product(display_name=mark).name)
    assert names[:10] == made
    assert len(names) == len(set(names))


def test_words_in_the_name_come_first_then_short_names(shop: Shop):
    mark = make_word()
    described = shop.product(display_name="Cup", description=mark).name
    long = shop.product(display_name=f"A long name of a {mark}").name
    short = shop.product(display_name=f"Red {mark}").name
    assert list_found_names(shop, mark) == [short, long, described]


def test_change_of_a_price_leaves_the_index_alone(shop: Shop, records: Records):
    variant = shop.variant()
    before = records.rows("SELECT * FROM product_documents ORDER BY id")
    variant.tax_class = "reduced"
    VARIANT.update(shop, variant, "tax_class")
    assert records.rows("SELECT * FROM product_documents ORDER BY id") == before
    assert list_found_names(shop, variant.sku) == [variant.name.partition("/variants/")[0]]


def test_page_token_of_another_query_is_refused(shop: Shop):
    mark = make_word()
    for _ in range(2):
        shop.product(display_name=mark)
    token = search(shop, mark, page_size=1).next_page_token
    for fields in ({"query": mark[:-1]}, {"query": mark, "show_archived": True}):
        with refused("INVALID_PAGE_TOKEN"):
            shop.products.SearchProducts(products_pb2.SearchProductsRequest(page_token=token, **fields))


@pytest.mark.parametrize("query", ["", "q" * 201])
def test_query_out_of_bounds_is_refused(shop: Shop, query: str):
    with refused("INVALID_FIELD") as refusal:
        search(shop, query)
    assert list(refusal.violations) == ["query"]


def test_negative_page_size_is_refused_and_one_above_the_largest_is_reduced(shop: Shop):
    with refused("INVALID_FIELD"):
        search(shop, "tea", page_size=-1)
    assert search(shop, "tea", page_size=101) == search(shop, "tea", page_size=100)


OPERATORS = (
    '"',
    "*",
    "tea*",
    "AND",
    "a AND",
    "NOT",
    "NEAR(a b)",
    "name:x",
    "^tea",
    "-tea",
    "(",
    "_",
    "a_b",
    "%",
    "'",
    "+",
)


@pytest.mark.parametrize("query", OPERATORS)
def test_operators_of_the_index_are_plain_text(shop: Shop, query: str):
    assert search(shop, query) is not None


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.text(min_size=1, max_size=200))
def test_any_query_is_answered(shop: Shop, query: str):
    assert refusal(search, shop, query) is None


# -- customers


def list_found_customers(shop: Shop, query: str, **fields) -> list[str]:
    request = customers_pb2.SearchCustomersRequest(query=query, **fields)
    return [customer.name for customer in shop.customers.SearchCustomers(request).customers]


def test_customer_is_found_by_name_id_email_phone_and_address(shop: Shop):
    mark = make_word()
    address = addresses_pb2.Address(
        recipient=f"R{mark}", address_lines=[f"Straße{mark} 5"], locality=f"L{mark}", region_code="DE"
    )
    customer = shop.customer(
        display_name=f"Zoë O'{mark}",
        email=f"zoe.{mark}@example.com",
        phone=f"+49 30 {mark}-77",
        addresses=[customers_pb2.CustomerAddress(label="home", address=address)],
    )
    queries = (
        f"zoe o{mark}",
        f"zoe.{mark}@example.com",
        f"{mark} example",
        f"49 30 {mark}77",
        customer.name.removeprefix("customers/"),
        f"strasse{mark} l{mark}",
        f"r{mark}",
    )
    for query in queries:
        assert list_found_customers(shop, query) == [customer.name], query


def test_customer_is_found_by_what_it_is_now_and_not_when_deleted(shop: Shop):
    old, new = make_word(), make_word()
    customer = shop.customer(display_name=old)
    customer.email = f"{new}@example.com"
    customer.display_name = "Changed"
    CUSTOMER.update(shop, customer, "display_name", "email")
    assert list_found_customers(shop, old) == []
    assert list_found_customers(shop, new) == [customer.name]
    CUSTOMER.do(shop, "Delete", customer.name)
    assert list_found_customers(shop, new) == []
    assert list_found_customers(shop, new, show_deleted=True) == [customer.name]
    CUSTOMER.do(shop, "Undelete", customer.name)
    assert list_found_customers(shop, new) == [customer.name]


def test_pages_of_customers_give_each_once(shop: Shop):
    mark = make_word()
    made = [shop.customer(display_name=f"Ada {mark}").name for _ in range(5)]
    names: list[str] = []
    token = ""
    while token or not names:
        request = customers_pb2.SearchCustomersRequest(query=f"ada {mark}", page_size=2, page_token=token)
        page = shop.customers.SearchCustomers(request)
        names += [customer.name for customer in page.customers]
        token = page.next_page_token
        shop.customer(display_name=f"Other {make_word()}")
    assert names == made
