"""Product search: all words must match, the last one as a prefix; products off sale are not found."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storekeep.v1 import products_pb2
from tests.support.refusals import refusal, refused
from tests.support.resources import PRODUCT, VARIANT
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


@pytest.mark.parametrize("page_size", [-1, 101])
def test_page_size_out_of_bounds_is_refused(shop: Shop, page_size: int):
    with refused("INVALID_FIELD"):
        search(shop, "tea", page_size=page_size)


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
