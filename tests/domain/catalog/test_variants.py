"""Variants: unique SKUs, one price per currency, and no deletion of variants with stock."""

from __future__ import annotations

import pytest

from storekeep.v1 import products_pb2
from tests.support.mutations import copy_message
from tests.support.refusals import refused
from tests.support.resources import PRODUCT, VARIANT
from tests.support.shops import Shop, get_amount, money, new_id

AMOUNTS = {"EUR": "19.99", "JPY": "1999", "KWD": "1.999", "USD": "0.01", "ISK": "0", "BHD": "0.001"}


def list_variants(shop: Shop, parent: str, **fields) -> list[products_pb2.Variant]:
    return list(shop.products.ListVariants(products_pb2.ListVariantsRequest(parent=parent, **fields)).variants)


def test_prices_come_back_exact_and_sorted_by_currency(shop: Shop):
    variant = VARIANT.get(shop, shop.variant(prices=AMOUNTS).name)
    assert [price.currency_code for price in variant.prices] == sorted(AMOUNTS)
    assert {price.currency_code: str(get_amount(price).normalize()) for price in variant.prices} == AMOUNTS


def test_update_of_prices_replaces_all_of_them(shop: Shop):
    variant = shop.variant(prices=AMOUNTS)
    new = products_pb2.Variant(name=variant.name, prices=[money("5", "CHF")])
    assert [price.currency_code for price in VARIANT.update(shop, new, "prices").prices] == ["CHF"]
    assert [price.currency_code for price in VARIANT.get(shop, variant.name).prices] == ["CHF"]


def test_highest_price_is_kept_exactly(shop: Shop):
    variant = shop.variant(prices={"EUR": "10000000000", "JPY": "1000000000000", "KWD": "1000000000"})
    assert [price.units for price in VARIANT.get(shop, variant.name).prices] == [10**10, 10**12, 10**9]


def test_second_price_in_a_currency_is_named(shop: Shop):
    variant = products_pb2.Variant(name=shop.variant().name, prices=[money("1"), money("1", "USD"), money("2")])
    with refused("CURRENCY_MISMATCH") as refusal:
        VARIANT.update(shop, variant, "prices")
    assert "EUR" in refusal.text
    assert len(refusal.violations) == 1


def test_sku_of_another_product_is_taken(shop: Shop):
    first = shop.variant()
    with refused("SKU_TAKEN") as refusal:
        shop.variant(sku=first.sku)
    assert refusal.metadata == {"sku": first.sku, "variant": first.name}


def test_sku_of_a_deleted_variant_stays_taken(shop: Shop):
    first = shop.variant()
    VARIANT.do(shop, "Delete", first.name)
    with refused("SKU_TAKEN"):
        shop.variant(sku=first.sku)


@pytest.mark.parametrize("sku", ["a b", "é", "-1", "a/b", "S" * 65, "a\x00", "a\n", "*"])
def test_sku_that_cannot_be_is_refused(shop: Shop, sku: str):
    with refused("INVALID_FIELD") as refusal:
        shop.variant(sku=sku)
    assert list(refusal.violations) == ["variant.sku"]


def test_skus_that_differ_in_case_are_two(shop: Shop):
    low = new_id("sku")
    assert shop.variant(sku=low).sku != shop.variant(sku=low.upper()).sku


def test_weight_of_zero_is_not_an_absent_one(shop: Shop):
    assert shop.variant(weight_g=0).HasField("weight_g")
    assert not shop.variant().HasField("weight_g")


@pytest.mark.parametrize("weight_g", [-1, 10**9 + 1])
def test_weight_out_of_bounds_is_refused(shop: Shop, weight_g: int):
    with refused("INVALID_FIELD"):
        shop.variant(weight_g=weight_g)


def test_list_of_a_product_has_its_variants_alone(shop: Shop):
    product = shop.product().name
    made = [shop.variant(parent=product) for _ in range(2)]
    shop.variant()
    assert list_variants(shop, product) == made
    assert {one.name for one in made} < {one.name for one in list_variants(shop, "products/-", page_size=1000)}


def test_batch_of_one_parent_refuses_the_names_of_another(shop: Shop):
    mine, other = shop.variant(), shop.variant()
    parent = mine.name.partition("/variants/")[0]
    request = products_pb2.BatchGetVariantsRequest(parent=parent, names=[mine.name, other.name])
    with refused("INVALID_FIELD") as refusal:
        shop.products.BatchGetVariants(request)
    assert list(refusal.violations) == ["names[1]"]


def test_batch_of_any_parent_takes_the_names_of_all(shop: Shop):
    variants = [shop.variant(), shop.variant()]
    request = products_pb2.BatchGetVariantsRequest(parent="products/-", names=[variant.name for variant in variants])
    assert list(shop.products.BatchGetVariants(request).variants) == variants


def test_variant_with_stock_is_deleted_only_without_it(shop: Shop):
    variant = shop.variant(stock=2)
    with refused("RESOURCE_IN_USE") as refusal:
        VARIANT.do(shop, "Delete", variant.name)
    assert refusal.metadata["user"] == f"locations/main/stockLevels/{variant.sku}"
    shop.adjust(variant.sku, -2)
    assert VARIANT.do(shop, "Delete", variant.name).HasField("delete_time")


@pytest.mark.parametrize("by", ["order", "reservation"])
def test_variant_with_backordered_units_is_not_deleted(shop: Shop, by: str):
    variant = shop.variant()
    shop.backorder(variant.sku, units=3)
    promise = shop.promise(variant.sku, by=by)
    assert shop.level(variant.sku).on_hand == 0
    with refused("RESOURCE_IN_USE") as refusal:
        VARIANT.do(shop, "Delete", variant.name)
    assert refusal.metadata["user"] == f"locations/main/stockLevels/{variant.sku}"
    shop.end_promise(promise)
    assert VARIANT.do(shop, "Delete", variant.name).HasField("delete_time")


@pytest.mark.parametrize("verb", ["Archive", "Delete"])
@pytest.mark.parametrize("whose", ["variant", "product"])
def test_variant_off_sale_cannot_be_ordered(shop: Shop, verb: str, whose: str):
    variant = shop.variant(stock=0 if verb == "Delete" else 1)
    if whose == "variant":
        VARIANT.do(shop, verb, variant.name)
    else:
        PRODUCT.do(shop, verb, variant.name.partition("/variants/")[0])
    with refused("NOT_FOR_SALE") as refusal:
        shop.order((variant.sku, 1))
    assert refusal.metadata == {"sku": variant.sku}


def test_variant_back_on_sale_can_be_ordered(shop: Shop):
    variant = shop.variant(stock=1)
    for verb in ("Archive", "Unarchive"):
        VARIANT.do(shop, verb, variant.name)
    assert shop.order((variant.sku, 1)).name


def test_other_fields_keep_when_only_prices_change(shop: Shop):
    variant = shop.variant(display_name="Large", options={"size": "L"}, barcode="1")
    changed = VARIANT.update(shop, copy_message(variant, etag=variant.etag), "prices")
    assert changed == variant
