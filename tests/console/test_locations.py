"""Locations: create, change, delete what is empty, and restore."""

from __future__ import annotations

import pytest

from storekeep.client import Storekeep
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def test_location_is_created_changed_and_listed(admin: Visitor, client: Storekeep):
    key = new_id("north")
    page = admin.submit(
        admin.get("/locations/new").form("/locations/new"),
        display_name="North",
        priority="-5",
        resource_id=key,
        address__locality="Oslo",
        address__region_code="NO",
    )
    assert "The location has been created." in page.text
    location = client.inventory.get_location(f"locations/{key}")
    assert (location.display_name, location.priority, location.address.locality) == ("North", -5, "Oslo")
    page = admin.submit(
        page.form(f"/locations/{key}"), display_name="South", priority="", address__locality="", address__region_code=""
    )
    location = client.inventory.get_location(f"locations/{key}")
    assert (location.display_name, location.priority, location.HasField("address")) == ("South", 0, False)
    assert f"/locations/{key}" in admin.get("/locations").links


@pytest.mark.parametrize("priority", ["high", "1.5", "99999999999", "1001"])
def test_wrong_priority_is_refused_beside_the_field(admin: Visitor, priority: str):
    form = admin.get("/locations/new").form("/locations/new")
    page = admin.submit(form, display_name="North", priority=priority)
    assert page.status == 400
    assert "Nothing was saved. Correct Priority." in page.text
    assert ("display_name", "North") in page.form("/locations/new").fields


def test_location_with_stock_is_not_deleted(admin: Visitor, client: Storekeep, shop: Shop):
    key = new_id("north")
    admin.submit(admin.get("/locations/new").form("/locations/new"), display_name="North", resource_id=key)
    level = f"locations/{key}/stockLevels/{shop.variant().sku}"
    client.inventory.set_stock(level, quantity=3)
    page = admin.get(f"/locations/{key}/delete")
    assert "RESOURCE_IN_USE" in page.text
    assert "SKUs on hand1" in page.text
    assert f"/stock?location={key}" in page.links
    client.inventory.set_stock(level, quantity=0)
    other = new_id("empty")
    admin.submit(admin.get("/locations/new").form("/locations/new"), display_name="Empty", resource_id=other)
    page = admin.submit(admin.get(f"/locations/{other}/delete").form(f"/locations/{other}/state"))
    assert "The location has been deleted." in page.text
    assert client.inventory.get_location(f"locations/{other}").HasField("delete_time")
    page = admin.submit(page.form(f"/locations/{other}/state"))
    assert "The location has been restored." in page.text


def test_stock_level_in_the_audit_log_leads_to_its_page(admin: Visitor, shop: Shop):
    sku = shop.variant(stock=3).sku
    page = admin.get(f"/audit?resource=locations/main/stockLevels/{sku}")
    assert f"/stock/main/{sku}" in page.links
