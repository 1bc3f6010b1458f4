"""Pages of resources that do not exist."""

from __future__ import annotations

import pytest

from storekeep.client import Location, Storekeep
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def test_stock_of_an_unknown_sku_or_location_is_not_found(admin: Visitor, client: Storekeep, shop: Shop) -> None:
    sku, place = shop.variant(stock=5).sku, new_id("north")
    client.inventory.create_location(Location(display_name="North"), location_id=place)
    assert admin.get("/stock/main/NOPE").status == 404
    assert admin.get(f"/stock/nope/{sku}").status == 404
    assert admin.get(f"/stock/{place}/{sku}").status == 200


def test_unknown_category_of_a_list_is_told(admin: Visitor) -> None:
    assert "There is no category nope." in admin.get("/products?category=nope").text
