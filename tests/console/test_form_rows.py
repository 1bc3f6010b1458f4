"""Forms with several rows: a row that is half filled in is refused beside its field, and a SKU may be in two rows."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from storekeep.client import Location, Storekeep
from storekeep.console.rendering import format_count, format_delta, format_share
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor, get_wrong, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
ALONE = "Enter what the units are of, or remove the units."


def get_fields(visitor: Visitor, path: str) -> dict[str, str]:
    return dict(visitor.get(path).form(path).fields)


def read_on_hand(client: Storekeep, sku: str) -> int:
    return client.inventory.get_stock_level(f"locations/main/stockLevels/{sku}").on_hand


def test_delivery_row_with_units_alone_is_refused(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=1).sku
    fields = get_fields(admin, "/stock/receive") | {"code.1": sku, "units.1": "1", "units.3": "500"}
    page = admin.post("/stock/receive", fields)
    assert get_wrong(page) == {"code.3": ALONE}
    assert dict(page.form("/stock/receive").fields)["units.3"] == "500"
    assert "Correct SKU or barcode 3." in page.text
    page = admin.post("/stock/receive", fields | {"units.3": "", "code.13": sku, "units.13": "5"})
    assert get_wrong(page) == {"code.12": "There are at most 12 rows."}
    assert read_on_hand(client, sku) == 1


def test_transfer_row_with_units_alone_is_refused(admin: Visitor, client: Storekeep, shop: Shop):
    sku, place = shop.variant(stock=9).sku, new_id("east")
    client.inventory.create_location(Location(display_name="East"), location_id=place)
    fields = get_fields(admin, "/stock/transfer") | {"source": "main", "destination": place, "step": "check"}
    page = admin.post("/stock/transfer", fields | {"sku.1": sku, "units.1": "1", "units.4": "0"})
    assert get_wrong(page) == {"sku.4": ALONE}
    page = admin.post("/stock/transfer", fields | {"sku.1": sku, "units.1": "1", "sku.2": sku, "units.2": "2"})
    assert "3 units of 2 lines can be transferred." in page.text


def test_order_row_with_units_alone_is_refused(admin: Visitor, shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    fields = get_fields(admin, "/orders/new") | {"customer": shop.customer().name, "sku.1": sku, "units.1": "1"}
    page = admin.post("/orders/new", fields | {"units.2": "7", "step": "price"})
    assert get_wrong(page) == {"sku.2": ALONE}
    page = admin.post("/orders/new", fields | {"sku.2": sku, "units.2": "2", "step": "price"})
    assert "\u20ac30.00" in page.text


def test_added_line_with_units_alone_is_refused(admin: Visitor, shop: Shop):
    order = shop.order()
    path = f"/{order.name}/edit"
    page = admin.post(path, get_fields(admin, path) | {"sku": "", "sku_units": "5"})
    assert get_wrong(page) == {"sku": ALONE}


def test_basket_row_with_units_alone_is_refused(admin: Visitor, shop: Shop):
    shop.variant(prices={"EUR": "10"})
    fields = get_fields(admin, "/promotions/new")
    values = {"action.kind": "PROMOTION_ACTION_KIND_PERCENTAGE", "action.percentage_ppm": "10", "step": "preview"}
    page = admin.post("/promotions/new", fields | values | {"basket.sku.3": "", "basket.units.3": "6"})
    assert "SKU 4" in page.text
    assert "what the units are of" in page.text
    reply = admin.post("/promotions/new/preview", fields | values | {"basket.sku.3": "", "basket.units.3": "6"})
    assert "SKU 4: " in reply.body


def test_price_row_with_a_new_currency_alone_is_refused(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant(prices={"EUR": "10"})
    form = admin.get(f"/{variant.name}").form(f"/{variant.name}")
    fields = [(name, value) for name, value in form.fields if name not in ("amount", "currency")]
    for rows in (
        [("amount", "10"), ("currency", "EUR"), ("amount", ""), ("currency", "USD")],
        [("amount", "10"), ("currency", "EUR"), ("amount", "12"), ("currency", "")],
    ):
        assert set(get_wrong(admin.post(form.action, [*fields, *rows]))) == {"prices.1"}
    assert [price.currency_code for price in client.variants.get(variant.name).prices] == ["EUR"]
    rows = [("amount", ""), ("currency", "EUR"), ("amount", "12"), ("currency", "USD")]
    admin.post(form.action, [*fields, *rows])
    assert [price.currency_code for price in client.variants.get(variant.name).prices] == ["USD"]


def test_sku_in_two_rows_of_a_delivery_is_received_once(admin: Visitor, client: Storekeep, shop: Shop):
    barcode = new_id("41").replace("-", "")
    variant = shop.variant(stock=1, barcode=barcode)
    fields = get_fields(admin, "/stock/receive")
    rows = {"code.2": variant.sku, "units.2": "3", "code.5": barcode, "units.5": "4"}
    assert "Received at main: 7 units in all." in admin.post("/stock/receive", fields | rows).text
    assert read_on_hand(client, variant.sku) == 8
    fields = get_fields(admin, "/stock/receive") | {"code.1": variant.sku, "units.1": "1"}
    assert "Received at main: 1 unit in all." in admin.post("/stock/receive", fields).text


def test_delivery_to_no_location_is_explained_beside_it(admin: Visitor, shop: Shop):
    sku = shop.variant(stock=1).sku
    fields = get_fields(admin, "/stock/receive") | {"code.1": sku, "units.1": "1"}
    for place in ("no-such-place", "no such place"):
        wrong = get_wrong(admin.post("/stock/receive", fields | {"location": place}))
        assert set(wrong) == {"location"}
        assert "requests" not in wrong["location"].lower()


def test_delivery_is_received_by_sku_without_the_right_to_read_products(
    gateway: GatewayProcess, client: Storekeep, shop: Shop
):
    sku = shop.variant(stock=1).sku
    clerk = sign_in(gateway, client, "stock.read", "stock.write")
    fields = get_fields(clerk, "/stock/receive") | {"code.1": sku, "units.1": "2"}
    assert "Received at main: 2 units in all." in clerk.post("/stock/receive", fields).text
    fields = get_fields(clerk, "/stock/count") | {"code": sku, "units": "5"}
    assert f"{sku}: 5 on hand." in clerk.post("/stock/count", fields).text
    fields = get_fields(clerk, "/stock/receive") | {"code.1": sku, "units.1": "2", "code.2": "NO-SUCH", "units.2": "1"}
    assert set(get_wrong(clerk.post("/stock/receive", fields))) == {"code.2"}
    assert read_on_hand(client, sku) == 5


@pytest.mark.parametrize(
    ("number", "locale", "text"),
    [(0, "en", "0 units"), (1, "en", "1 unit"), (2, "en", "2 units"), (12345, "de", "12.345 units")],
)
def test_counts_are_singular_for_one(number: int, locale: str, text: str):
    assert format_count(number, locale, noun="unit") == text


def test_plural_of_a_noun_in_y():
    assert format_count(2, "en", noun="entry") == "2 entries"
    assert format_count(2, "en", noun="day") == "2 days"


@pytest.mark.parametrize(("locale", "text"), [("en", "8.8755%"), ("de", "8,8755\xa0%"), ("tr", "%8,8755")])
def test_share_follows_the_locale(locale: str, text: str):
    assert format_share(88_755, locale) == text


@pytest.mark.parametrize(
    ("units", "locale", "text"), [(0, "en", ""), (1204, "en", "+1,204"), (-1204, "de", "\N{MINUS SIGN}1.204")]
)
def test_change_of_a_number_has_its_sign_and_follows_the_locale(units: int, locale: str, text: str):
    assert format_delta(units, locale) == text


def test_missing_units_follow_the_locale(admin: Visitor, shop: Shop):
    fields = {"customer": shop.customer().name, "currency": "EUR", "sku.1": shop.variant(stock=1).sku}
    form = admin.get("/orders/new").form("/orders/new")
    body = urlencode([*form.fields, *fields.items(), ("units.1", "1234"), ("step", "price")]).encode()
    kind = "application/x-www-form-urlencoded"
    priced = admin.send("POST", "/orders/new", body, content_type=kind, origin=admin.origin)
    form = admin.get(priced.headers["location"]).form("/orders/new")
    body = urlencode([*form.fields, ("step", "place")]).encode()
    page = admin.send("POST", "/orders/new", body, content_type=kind, origin=admin.origin, accept_language="de")
    assert get_wrong(page) == {"units.1": "1.234 requested, 1 available"}
