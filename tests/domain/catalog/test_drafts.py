"""Drafts: not on sale and hidden from callers that cannot change products, until they are published."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import inventory_pb2, products_pb2
from tests.support.hostile.accounts import make_account, sign_in
from tests.support.order_cases import apply
from tests.support.refusals import refused
from tests.support.resources import PRODUCT, VARIANT
from tests.support.shops import Shop, new_id, new_request_id

DRAFT, ACTIVE = products_pb2.PRODUCT_STATE_DRAFT, products_pb2.PRODUCT_STATE_ACTIVE
HOUR_S = 3_600


@pytest.fixture(scope="module")
def storefront(shop: Shop, channel: grpc.Channel) -> Shop:
    """A caller that may read products and place orders, but not change products."""
    held = ["products.read", "stock.read", "reservations.write", "orders.write"]
    return sign_in(channel, shop, make_account(shop, permissions=held))


def make_time(delta_s: float) -> Timestamp:
    """Return a time relative to now."""
    stamp = Timestamp()
    stamp.FromNanoseconds(time.time_ns() + int(delta_s * 10**9))
    return stamp


def search(caller: Shop, query: str, **fields: Any) -> list[str]:
    request = products_pb2.SearchProductsRequest(query=query, **fields)
    return [product.name for product in caller.products.SearchProducts(request).products]


def is_for_sale(caller: Shop, sku: str) -> bool:
    request = inventory_pb2.CheckAvailabilityRequest(skus=[sku])
    return caller.inventory.CheckAvailability(request).availabilities[0].for_sale


def publish(shop: Shop, name: str) -> products_pb2.Product:
    return shop.products.PublishProduct(products_pb2.PublishProductRequest(name=name))


def test_draft_is_not_sold_until_it_is_published(shop: Shop):
    draft = shop.draft()
    sku = shop.variant(parent=draft.name, stock=5).sku
    assert draft.state == DRAFT
    assert not is_for_sale(shop, sku)
    for call in (lambda: shop.order((sku, 1)), lambda: shop.reserve((sku, 1))):
        with refused("NOT_FOR_SALE") as refusal:
            call()
        assert refusal.metadata == {"sku": sku}
    published = publish(shop, draft.name)
    assert (published.state, published.publish_time) == (ACTIVE, published.update_time)
    assert is_for_sale(shop, sku)
    assert shop.order((sku, 1)).lines[0].sku == sku
    assert shop.reserve((sku, 1)).lines[0].sku == sku


def test_draft_cannot_be_added_to_an_order(shop: Shop):
    sku = shop.variant(parent=shop.draft().name, stock=5).sku
    with refused("NOT_FOR_SALE"):
        shop.orders.ApplyOrderEdit(apply(shop.order(), add={sku: 1}))


def test_publish_time_acts_at_its_instant_without_a_write(shop: Shop, storefront: Shop):
    mark = new_id("w").replace("-", "")
    draft = shop.draft(display_name=mark, publish_time=make_time(0.5))
    sku = shop.variant(parent=draft.name, stock=5).sku
    location = shop.location().name
    low = shop.variant(parent=draft.name, stock=1, location=location).sku
    low_stock = inventory_pb2.ListLowStockRequest(location=location, available_max=1)
    while PRODUCT.get(shop, draft.name).state == DRAFT:
        time.sleep(0.05)
    assert time.time_ns() >= draft.publish_time.ToNanoseconds()
    product = PRODUCT.get(storefront, draft.name)
    assert (product.state, product.etag) == (ACTIVE, "v1")
    assert search(storefront, mark) == [draft.name]
    assert is_for_sale(storefront, sku)
    assert [level.sku for level in shop.inventory.ListLowStock(low_stock).stock_levels] == [low]
    assert shop.order((sku, 1)).lines[0].sku == sku
    listed = PRODUCT.names(PRODUCT.list(storefront, filter=f'display_name = "{mark}" AND state = ACTIVE'))
    assert listed == [draft.name]
    assert PRODUCT.list(shop, filter=f'display_name = "{mark}" AND state = DRAFT').products == []
    archived = PRODUCT.do(shop, "Archive", draft.name)
    assert archived.state == products_pb2.PRODUCT_STATE_ARCHIVED
    assert PRODUCT.do(shop, "Unarchive", draft.name).state == ACTIVE


def test_publish_time_of_the_past_publishes_at_once(shop: Shop):
    assert shop.product(publish_time=make_time(-HOUR_S)).state == ACTIVE
    draft = shop.product(publish_time=make_time(HOUR_S))
    assert draft.state == DRAFT
    draft.publish_time.CopyFrom(make_time(-HOUR_S))
    assert PRODUCT.update(shop, draft, "publish_time").state == ACTIVE


def test_publish_time_of_a_draft_can_be_moved_and_removed(shop: Shop):
    draft = shop.product(publish_time=make_time(HOUR_S))
    draft.publish_time.CopyFrom(make_time(2 * HOUR_S))
    moved = PRODUCT.update(shop, draft, "publish_time")
    assert moved.publish_time.ToMicroseconds() == draft.publish_time.ToMicroseconds()
    moved.ClearField("publish_time")
    waiting = PRODUCT.update(shop, moved, "publish_time")
    assert (waiting.state, waiting.HasField("publish_time")) == (DRAFT, False)
    assert publish(shop, draft.name).state == ACTIVE


def test_update_of_all_fields_keeps_the_publish_time_of_a_published_product(shop: Shop):
    product = publish(shop, shop.draft().name)
    product.description = "new"
    assert PRODUCT.update(shop, product, "*").publish_time == product.publish_time


@pytest.mark.parametrize("verb", ["Archive", "Unarchive"])
def test_draft_is_neither_archived_nor_unarchived(shop: Shop, verb: str):
    with refused("ILLEGAL_STATE") as refusal:
        PRODUCT.do(shop, verb, shop.draft().name)
    assert refusal.metadata["state"] == "DRAFT"


def test_drafts_are_hidden_from_callers_that_cannot_change_products(shop: Shop, storefront: Shop):
    mark = new_id("w").replace("-", "")
    draft = shop.draft(display_name=mark)
    variant = shop.variant(parent=draft.name)
    named = f'display_name = "{mark}"'
    hidden: list[tuple[str, Callable[[Shop], Any]]] = [
        ("PRODUCT_NOT_FOUND", lambda caller: PRODUCT.get(caller, draft.name)),
        ("PRODUCT_NOT_FOUND", lambda caller: caller.products.BatchGetProducts(PRODUCT.batch_request([draft.name]))),
        ("VARIANT_NOT_FOUND", lambda caller: VARIANT.get(caller, variant.name)),
        ("VARIANT_NOT_FOUND", lambda caller: caller.products.BatchGetVariants(VARIANT.batch_request([variant.name]))),
    ]
    for reason, call in hidden:
        call(shop)
        with refused(reason) as refusal:
            call(storefront)
        assert refusal.metadata == {"resource": variant.name if reason.startswith("VARIANT") else draft.name}
    lists = [
        lambda caller: PRODUCT.names(PRODUCT.list(caller, filter=named)),
        lambda caller: PRODUCT.names(PRODUCT.list(caller, filter=f"{named} AND state = DRAFT")),
        lambda caller: VARIANT.names(VARIANT.list(caller, filter=f"sku = {variant.sku}")),
        lambda caller: VARIANT.names(VARIANT.list(caller, parent=draft.name)),
        lambda caller: search(caller, mark, show_drafts=True),
    ]
    assert [len(names(shop)) for names in lists] == [1] * len(lists)
    assert [names(storefront) for names in lists] == [[]] * len(lists)
    assert search(shop, mark) == []
    publish(shop, draft.name)
    assert [len(names(storefront)) for names in lists] == [1, 0, 1, 1, 1]
    for _, call in hidden:
        call(storefront)


def test_batch_of_a_hidden_draft_names_the_first_name_whether_it_exists_or_not(shop: Shop, storefront: Shop):
    draft = shop.draft()
    variant = shop.variant(parent=draft.name)
    products = [draft.name, "products/zzz-missing"], ["products/zzz-absent", draft.name]
    variants = [variant.name, f"{draft.name}/variants/zzz"], ["products/zzz-absent/variants/a", variant.name]
    for names in products:
        with refused("PRODUCT_NOT_FOUND") as refusal:
            storefront.products.BatchGetProducts(PRODUCT.batch_request(names))
        assert refusal.metadata == {"resource": names[0]}
    for names in variants:
        with refused("VARIANT_NOT_FOUND") as refusal:
            storefront.products.BatchGetVariants(VARIANT.batch_request(names))
        assert refusal.metadata == {"resource": names[0]}


def test_publish_is_safe_to_repeat_and_to_try(shop: Shop):
    request = products_pb2.PublishProductRequest(name=shop.draft().name, request_id=new_request_id())
    assert shop.products.PublishProduct(request) == shop.products.PublishProduct(request)
    dry = products_pb2.PublishProductRequest(name=shop.draft().name, validate_only=True)
    assert shop.products.PublishProduct(dry).state == ACTIVE
    assert PRODUCT.get(shop, dry.name).state == DRAFT
