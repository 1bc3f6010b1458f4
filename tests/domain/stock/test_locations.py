"""Locations: one with stock cannot be deleted; a deleted one neither receives nor supplies stock."""

from __future__ import annotations

import pytest

from storekeep.v1 import inventory_pb2
from tests.support.refusals import refused
from tests.support.resources import ADDRESS, LOCATION
from tests.support.shops import MAIN, Shop


def test_main_location_is_there_from_the_start(shop: Shop):
    assert LOCATION.get(shop, MAIN).name == MAIN


def test_address_comes_back_as_it_went(shop: Shop):
    location = shop.location(address=ADDRESS)
    assert LOCATION.get(shop, location.name).address == location.address
    assert location.address.locality == ADDRESS["locality"]


def test_absent_address_stays_absent(shop: Shop):
    location = LOCATION.get(shop, shop.location().name)
    assert not location.HasField("address")


def test_address_without_a_country_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.location(address={"locality": "Berlin"})
    assert list(refusal.violations) == ["location.address.region_code"]


def test_location_with_stock_is_deleted_only_without_it(shop: Shop):
    location = shop.location().name
    sku = shop.variant(stock=3, location=location).sku
    with refused("RESOURCE_IN_USE") as refusal:
        LOCATION.do(shop, "Delete", location)
    assert refusal.metadata == {"resource": location, "user": f"{location}/stockLevels/{sku}"}
    shop.adjust(sku, -3, location=location)
    assert LOCATION.do(shop, "Delete", location).HasField("delete_time")


@pytest.mark.parametrize("by", ["order", "reservation"])
def test_location_with_backordered_units_is_not_deleted(shop: Shop, by: str):
    location = shop.location().name
    sku = shop.create_backordered_sku(units=3, location=location)
    promise = shop.promise(sku, by=by, location=location)
    assert shop.level(sku, location=location).on_hand == 0
    with refused("RESOURCE_IN_USE") as refusal:
        LOCATION.do(shop, "Delete", location)
    assert refusal.metadata == {"resource": location, "user": f"{location}/stockLevels/{sku}"}
    shop.end_promise(promise)
    assert LOCATION.do(shop, "Delete", location).HasField("delete_time")


def test_order_takes_stock_at_its_location_alone(shop: Shop):
    location = shop.location().name
    sku = shop.variant(stock=5).sku
    shop.adjust(sku, 2, location=location)
    order = shop.order((sku, 2), location=location)
    assert order.location == location
    assert shop.level(sku).allocated == 0
    with refused("OUT_OF_STOCK") as refusal:
        shop.order((sku, 1), location=location)
    assert refusal.metadata["available-1"] == "0"


def test_deleted_location_takes_no_order(shop: Shop):
    location = shop.location().name
    sku = shop.variant().sku
    LOCATION.do(shop, "Delete", location)
    with refused("RESOURCE_DELETED") as refusal:
        shop.order((sku, 1), location=location)
    assert refusal.metadata == {"resource": location}
    with refused("RESOURCE_DELETED"):
        shop.adjust(sku, 1, location=location)


def test_location_that_is_back_takes_stock_again(shop: Shop):
    location = shop.location().name
    for verb in ("Delete", "Undelete"):
        LOCATION.do(shop, verb, location)
    assert shop.adjust(shop.variant().sku, 1, location=location).on_hand == 1


def test_levels_are_listed_by_location(shop: Shop):
    locations = [shop.location().name for _ in range(2)]
    sku = shop.variant().sku
    levels = [shop.adjust(sku, 1 + place, location=location) for place, location in enumerate(locations)]
    for location, level in zip(locations, levels, strict=True):
        request = inventory_pb2.ListStockLevelsRequest(parent=location)
        assert list(shop.inventory.ListStockLevels(request).stock_levels) == [level]
