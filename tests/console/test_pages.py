"""The pages: each loads, each change has its effect once, conflicts and errors are shown with the input."""

from __future__ import annotations

import re
import uuid

import pytest

from storekeep.client import Address, Customer, Order, Storekeep, TaxArea, TaxComponent, TaxRate, TaxZone
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
PAGES_MAX = 150


@pytest.fixture
def order(shop: Shop, client: Storekeep) -> Order:
    """Place an order of two units of one SKU."""
    variant = shop.variant()
    shop.adjust(variant.sku, 10)
    return client.orders.place(customer=shop.customer().name, lines=[(variant.sku, 2)], currency_code="EUR")


def test_every_link_of_the_console_leads_to_a_page(admin: Visitor, order: Order):
    seen: set[str] = set()
    waiting = ["/", f"/{order.name}", f"/{order.name}/edit", f"/{order.name}/details"]
    while waiting and len(seen) < PAGES_MAX:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        page = admin.get(path)
        assert page.status == 200, (path, page.text[:300])
        waiting += [link for link in page.links if link.startswith("/")]
    assert len(seen) > 30


def test_order_goes_through_its_life(admin: Visitor, client: Storekeep, order: Order):
    path = f"/{order.name}"
    page = admin.submit(admin.get(path).form(f"{path}/confirm"))
    assert "The order is confirmed." in page.text
    page = admin.submit(page.form(f"{path}/fulfillments"))
    fulfillment = next(iter(client.fulfillments.list(order.name)))
    page = admin.submit(page.form(f"/{fulfillment.name}", button="Ship"), carrier="Post", tracking_number="AT1")
    assert "AT1" in page.text
    page = admin.submit(page.form(f"/{fulfillment.name}", button="Delivered"))
    page = admin.submit(page.form(f"{path}/complete"))
    assert "Completed" in page.text
    assert "Place order" in page.text


def test_order_shows_its_tax_and_the_list_has_it(admin: Visitor, client: Storekeep, shop: Shop):
    client.tax_zones.create(TaxZone(areas=[TaxArea(region_code="FO")]), tax_zone_id="fo")
    vat = TaxComponent(display_name="VAT", rate_ppm=88_750)
    client.tax_rates.create(TaxRate(tax_zone="taxZones/fo", components=[vat]))
    order = client.orders.place(
        customer=shop.customer().name,
        lines=[(shop.variant(stock=1, prices={"EUR": "10"}).sku, 1)],
        currency_code="EUR",
        shipping_address=Address(region_code="FO"),
    )
    text = admin.get(f"/{order.name}").text
    assert "VAT 8.875%" in text
    assert "€0.89" in text
    assert "Ship to" in text
    assert order.number in admin.get("/orders").text


def test_form_sent_twice_has_one_effect(admin: Visitor, client: Storekeep, order: Order):
    form = admin.get(f"/{order.name}").form(f"/{order.name}/notes")
    for _ in range(2):
        assert admin.submit(form, content="Deliver on Friday.").status == 200
    assert len(list(client.orders.list_notes(order.name))) == 1


def test_order_that_changed_meanwhile_is_shown_as_it_is_now(admin: Visitor, client: Storekeep, order: Order):
    form = admin.get(f"/{order.name}").form(f"/{order.name}/confirm")
    client.orders.hold(order.name, reason="check the address")
    page = admin.submit(form)
    assert page.status == 409
    assert "ETAG_MISMATCH" in page.text
    assert "check the address" in page.text


def test_preview_of_a_change_changes_nothing(admin: Visitor, client: Storekeep, order: Order):
    form = admin.get(f"/{order.name}/edit").form(f"/{order.name}/edit")
    page = admin.submit(form, quantity__1="3")
    assert "Nothing has been changed yet" in page.text
    assert client.orders.get(order.name).etag == order.etag
    page = admin.submit(page.form(f"/{order.name}/edit"))
    assert "The order has been changed." in page.text
    assert client.orders.get(order.name).lines[0].quantity == 3


def test_input_that_is_refused_stays_in_the_form(admin: Visitor, order: Order):
    form = admin.get("/orders/new").form("/orders/new")
    page = admin.submit(form, customer="nobody-here", sku__1="NO-SUCH", units__1="2", note="keep me")
    assert page.status == 404
    assert "No customer has the id" in page.text
    kept = dict(page.form("/orders/new").fields)
    assert kept["sku.1"] == "NO-SUCH"
    assert kept["note"] == "keep me"


@pytest.mark.parametrize("units", ["", "two", "1.5", "1e3", "99999999999999999999999999", "-1", "٣"])
def test_wrong_number_of_units_is_refused(admin: Visitor, client: Storekeep, shop: Shop, units: str):
    variant, customer = shop.variant(), shop.customer()
    form = admin.get("/orders/new").form("/orders/new")
    page = admin.submit(form, customer=customer.name, sku__1=variant.sku, units__1=units)
    assert page.status in (400, 409, 502)
    assert not list(client.orders.list(filter=f'customer = "{customer.name}"'))


def test_conflict_shows_both_versions_and_saves_the_chosen_one(admin: Visitor, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Ada", email="ada@example.com"))
    path = f"/{customer.name}"
    form = admin.get(path).form(path)
    client.customers.update(Customer(name=customer.name, display_name="Ada Marsh"), update_mask=["display_name"])
    page = admin.submit(form, display_name="Ada Lovelace")
    assert page.status == 409
    assert "Someone else has changed this meanwhile" in page.text
    assert "Ada Marsh" in page.text
    assert dict(page.form(path).fields)["display_name"] == "Ada Lovelace"
    page = admin.submit(page.form(path))
    assert client.customers.get(customer.name).display_name == "Ada Lovelace"


def test_update_changes_only_the_edited_fields(admin: Visitor, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Ada", email="ada@example.com", groups=["vip"]))
    path = f"/{customer.name}"
    admin.submit(admin.get(path).form(path), phone="+43 1 234")
    stored = client.customers.get(customer.name)
    assert (stored.display_name, stored.phone, list(stored.groups)) == ("Ada", "+43 1 234", ["vip"])


def test_price_is_changed_to_the_cent(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant()
    path = f"/{variant.name}"
    form = admin.get(path).form(path)
    fields = [(name, "19.99" if name == "amount" and value else value) for name, value in form.fields]
    page = admin.post(path, fields)
    assert page.status == 200, page.text
    prices = client.variants.get(variant.name).prices
    assert [(price.units, price.nanos) for price in prices] == [(19, 990_000_000)] * len(prices)


def test_price_is_shown_with_its_cents(admin: Visitor, shop: Shop):
    variant = shop.variant(prices={"EUR": "4.5"})
    path = f"/{variant.name}"
    assert ("amount", "4.50") in admin.get(path).form(path).fields


def test_shelf_is_counted_by_barcode(admin: Visitor, client: Storekeep, shop: Shop):
    barcode = str(uuid.uuid4().int)[:13]
    variant = shop.variant(barcode=barcode)
    form = admin.get("/stock/count").form("/stock/count")
    page = admin.submit(form, code=barcode, units="17", location="main")
    assert "17 on hand" in page.text
    assert client.inventory.get_stock_level(f"locations/main/stockLevels/{variant.sku}").on_hand == 17
    page = admin.submit(form, code="no-such-code", units="1", location="main")
    assert page.status == 404


def test_stock_is_received_and_stands_in_the_ledger(admin: Visitor, shop: Shop):
    variant = shop.variant()
    path = f"/stock/main/{variant.sku}"
    page = admin.submit(admin.get(path).forms[2], units="12", reason="delivery 7")
    assert "delivery 7" in page.text
    assert "Receive" in page.text


def test_secret_of_a_new_key_is_shown_once(admin: Visitor, client: Storekeep):
    from storekeep.client import ServiceAccount

    account = client.auth.create_service_account(ServiceAccount(display_name="shop"), service_account_id=new_id("shop"))
    path = f"/access/{account.name.rpartition('/')[2]}"
    page = admin.submit(admin.get(path).form(f"{path}/keys"), display_name="till")
    assert "It is not shown again" in page.text
    secret = re.search(r"sk_[\w-]{20,}", page.text)
    assert secret is not None
    assert secret[0] not in admin.get(path).text


def test_audit_entry_shows_before_and_after(admin: Visitor, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Before"))
    client.customers.update(Customer(name=customer.name, display_name="After"), update_mask=["display_name"])
    page = admin.get(f"/audit?resource={customer.name}")
    entry = next(link for link in page.links if link.startswith("/audit/"))
    text = admin.get(entry).text
    assert "Before" in text
    assert "After" in text


def test_chain_of_the_audit_log_is_checked(admin: Visitor):
    assert "Intact" in admin.submit(admin.get("/audit").form("/audit/check")).text


def test_list_pages_follow_by_cursor(admin: Visitor, client: Storekeep):
    for number in range(60):
        client.customers.create(Customer(display_name=f"Customer {number:03}"))
    first = admin.get("/customers?order=create_time")
    following = next(link for link in first.links if "page=" in link)
    second = admin.get(f"/customers{following}")
    assert second.status == 200
    assert set(first.links) != set(second.links)
    assert admin.get("/customers?page=not-a-cursor").status == 200


@pytest.mark.parametrize(
    "path", ["/orders?filter=)(", "/orders?since=yesterday", "/products?filter=nonsense%20%3D%201"]
)
def test_wrong_filter_is_explained(admin: Visitor, path: str):
    page = admin.get(path)
    assert page.status == 400
    assert "INVALID_FILTER" in page.text


@pytest.mark.parametrize(
    "path", ["/orders/none", "/products/none", "/customers/none", "/audit/999999999", "/access/none"]
)
def test_missing_resource_is_a_page_with_its_reason(admin: Visitor, path: str):
    page = admin.get(path)
    assert page.status in (400, 404)
    assert "Back to the dashboard" in page.text
