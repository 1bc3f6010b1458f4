"""Transfers between locations, and the comparison of stock with its ledger: each first without a change."""

from __future__ import annotations

import pytest

from storekeep.client import Location, Storekeep
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor, get_wrong

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def test_transfer_is_checked_and_then_made_once(admin: Visitor, client: Storekeep, shop: Shop):
    place = new_id("north")
    client.inventory.create_location(Location(display_name="North"), location_id=place)
    skus = [shop.variant(stock=10).sku for _ in range(2)]
    form = admin.get("/stock/transfer").form("/stock/transfer")
    values = {
        "source": "main",
        "destination": place,
        "sku.1": skus[0],
        "units.1": "3",
        "sku.2": skus[1],
        "units.2": "4",
    }
    fields = dict(form.fields) | values | {"reason": "shelf"}
    page = admin.post("/stock/transfer", fields | {"step": "check"})
    assert "7 units of 2 lines can be transferred. Nothing has been changed yet." in page.text
    level = f"locations/main/stockLevels/{skus[0]}"
    assert client.inventory.get_stock_level(level).on_hand == 10
    fields = dict(page.form("/stock/transfer").fields)
    for _ in range(2):
        assert "7 units have been transferred" in admin.post("/stock/transfer", fields | {"step": "apply"}).text
    assert client.inventory.get_stock_level(level).on_hand == 7
    page = admin.post("/stock/transfer", fields | {"units.1": "99", "step": "check"})
    assert "OUT_OF_STOCK" in page.text
    assert dict(page.form("/stock/transfer").fields)["sku.2"] == skus[1]


def test_transfer_that_differs_from_what_was_checked_is_checked_again(admin: Visitor, client: Storekeep, shop: Shop):
    place, sku = new_id("south"), shop.variant(stock=10).sku
    client.inventory.create_location(Location(display_name="South"), location_id=place)
    fields = dict(admin.get("/stock/transfer").form("/stock/transfer").fields)
    assert fields["source"] != fields["destination"]
    fields |= {"source": "main", "destination": place, "sku.1": sku, "units.1": "2"}
    page = admin.post("/stock/transfer", fields | {"step": "check"})
    assert "2 units of 1 line can be transferred." in page.text
    level = f"locations/main/stockLevels/{sku}"
    for change in ({"units.1": "7"}, {"source": place, "destination": "main"}, {"checked": ""}):
        checked = dict(page.form("/stock/transfer").fields)
        admin.post("/stock/transfer", checked | change | {"step": "apply"})
        assert client.inventory.get_stock_level(level).on_hand == 10
    page = admin.post("/stock/transfer", checked | {"units.1": "7", "step": "apply"})
    assert "checked again: 7 units of 1 line" in page.text
    page = admin.post("/stock/transfer", dict(page.form("/stock/transfer").fields) | {"step": "apply"})
    assert "7 units have been transferred" in page.text
    assert client.inventory.get_stock_level(level).on_hand == 3
    page = admin.post("/stock/transfer", fields | {"destination": "main", "step": "check"})
    assert "two different locations" in page.text


def test_thresholds_are_set_and_the_ledger_shows_signs(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=5).sku
    path = f"/stock/main/{sku}"
    page = admin.get(path)
    assert "+5" in page.text
    form = next(one for one in page.forms if ("step", "thresholds") in one.fields)
    admin.submit(form, low_stock_threshold="4")
    assert client.inventory.get_stock_level(f"locations/main/stockLevels/{sku}").low_stock_threshold == 4


@pytest.mark.parametrize("step", ["receive", "return"])
def test_receipt_of_a_negative_number_is_refused_and_a_write_off_always_removes(
    admin: Visitor, client: Storekeep, shop: Shop, step: str
):
    sku = shop.variant(stock=5).sku
    path, level = f"/stock/main/{sku}", f"locations/main/stockLevels/{sku}"
    form = next(one for one in admin.get(path).forms if "reason" in dict(one.fields) and "units" in dict(one.fields))
    page = admin.post(path, dict(form.fields) | {"step": step, "units": "-3"})
    assert "To remove units, choose Adjust by or Write off" in page.text
    assert client.inventory.get_stock_level(level).on_hand == 5
    admin.post(path, dict(form.fields) | {"step": "write_off", "units": "2"})
    assert client.inventory.get_stock_level(level).on_hand == 3


def test_ledger_names_the_order_and_the_history_speaks_plainly(admin: Visitor, shop: Shop):
    sku = shop.variant(stock=5, prices={"EUR": "4.5"}).sku
    order = shop.order((sku, 1))
    assert f"Order {order.number}" in admin.get(f"/stock/main/{sku}").text
    assert "Place order" in admin.get(f"/{order.name}").text


def test_reconcile_compares_and_finds_nothing_in_a_sound_store(admin: Visitor, shop: Shop):
    sku = shop.variant(stock=3).sku
    form = admin.get("/stock/reconcile").form("/stock/reconcile")
    page = admin.submit(form, skus=sku)
    assert "1 SKUs were compared" in page.text
    assert "No differences" in page.text
    assert "SKU_NOT_FOUND" in admin.submit(form, skus="NO-SUCH").text


def test_wrong_number_stands_beside_its_input_of_its_form(admin: Visitor, shop: Shop):
    sku = shop.variant(stock=5).sku
    path = f"/stock/main/{sku}"
    page = admin.get(path)
    for step, values in (("receive", {"units": "2x"}), ("count", {"units": "-3"}), ("count", {"units": ""})):
        form = next(one for one in page.forms if step in dict(one.fields).get("step", ""))
        refused = admin.submit(form, **values)
        assert set(get_wrong(refused)) == {"units"}, step
        assert "Correct Units." in refused.text
        shown = [dict(one.fields) for one in refused.forms if one.action == path]
        assert [one["units"] for one in shown if one["step"] == step] == [values["units"]]
        assert all(not one.get("units") for one in shown if one["step"] != step)
    form = next(one for one in page.forms if ("step", "thresholds") in one.fields)
    refused = admin.submit(form, backorder_limit="a", low_stock_threshold="b")
    assert set(get_wrong(refused)) == {"backorder_limit", "low_stock_threshold"}
