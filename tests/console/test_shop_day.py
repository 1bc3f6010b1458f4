"""What people of a shop do in a day: deliveries, counts, part shipments, papers, erasures, and what they mistype."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storekeep.client import Address, Customer, CustomerAddress, Location, Storekeep, User
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, new_id
from tests.support.visitors import Page, Visitor, get_wrong, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def get_fields(page: Page, action: str) -> dict[str, str]:
    return dict(page.form(action).fields)


def read_on_hand(client: Storekeep, sku: str) -> int:
    return client.inventory.get_stock_level(f"locations/main/stockLevels/{sku}").on_hand


# -- stock


def test_delivery_of_several_skus_is_received_together_and_once(admin: Visitor, client: Storekeep, shop: Shop):
    barcode = new_id("40").replace("-", "")
    tea, tin = shop.variant(stock=1), shop.variant(stock=1, barcode=barcode)
    variant = admin.get(f"/{tea.name}")
    assert f"/stock/main/{tea.sku}" in variant.links
    assert f"/stock/receive?sku={tea.sku}" in variant.links
    fields = get_fields(admin.get(f"/stock/receive?sku={tea.sku}"), "/stock/receive")
    assert fields["code.1"] == tea.sku
    fields |= {"units.1": "12", "code.2": barcode, "units.2": "3", "reason": "DN-77"}
    for _ in range(2):  # a double click
        assert "Received at main: 15 units in all." in admin.post("/stock/receive", fields).text
    assert [read_on_hand(client, sku) for sku in (tea.sku, tin.sku)] == [13, 4]


def test_delivery_with_a_wrong_row_changes_nothing_and_says_where(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=1).sku
    fields = get_fields(admin.get("/stock/receive"), "/stock/receive")
    wrong = {"code.1": sku, "units.1": "5", "code.2": "NO-SUCH", "units.2": "0", "reason": "DN-78"}
    page = admin.post("/stock/receive", fields | wrong)
    assert set(get_wrong(page)) == {"code.2", "units.2"}
    assert get_fields(page, "/stock/receive")["reason"] == "DN-78"
    assert read_on_hand(client, sku) == 1
    assert set(get_wrong(admin.post("/stock/receive", fields))) == {"code.1"}


def test_wrong_count_is_explained_beside_its_field(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=5).sku
    form = admin.get("/stock/count").form("/stock/count")
    assert set(get_wrong(admin.submit(form, code="", units="x"))) == {"code", "units"}
    assert set(get_wrong(admin.submit(form, code="NO-SUCH", units="5"))) == {"code"}
    client.inventory.reserve_stock([(sku, 2)], reference="phone")
    assert set(get_wrong(admin.submit(form, code=sku, units="1"))) == {"units"}
    assert set(get_wrong(admin.submit(form, code=sku, units="5", location="no-such"))) == {"location"}
    assert read_on_hand(client, sku) == 5


def test_wrong_transfer_is_explained_beside_its_fields(admin: Visitor, client: Storekeep, shop: Shop):
    place, sku = new_id("north"), shop.variant(stock=5).sku
    client.inventory.create_location(Location(display_name="North"), location_id=place)
    form = admin.get("/stock/transfer").form("/stock/transfer")
    values = {"source": "main", "destination": place, "sku__3": sku}
    assert set(get_wrong(admin.submit(form, **values, units__3="x", sku__4="NO", units__4="y"))) == {
        "units.3",
        "units.4",
    }
    page = admin.submit(form, **values, units__3="99")
    assert get_wrong(page) == {"units.3": "99 requested, 5 available"}
    page = admin.submit(form, **values, units__3="1", sku__4="NO-SUCH", units__4="1")
    assert set(get_wrong(page)) == {"sku.4"}
    assert get_fields(page, "/stock/transfer")["units.3"] == "1"
    assert set(get_wrong(admin.submit(form))) == {"sku.1"}
    assert set(get_wrong(admin.submit(form, **values | {"destination": "main"}, units__3="1"))) == {"destination"}


# -- orders


def test_wrong_change_of_lines_is_explained_beside_its_fields(admin: Visitor, client: Storekeep, shop: Shop):
    sku, other = shop.variant(stock=5).sku, shop.variant(stock=5).sku
    order = client.orders.place(customer=shop.customer().name, lines=[(sku, 1), (other, 1)], currency_code="EUR")
    path = f"/{order.name}/edit"
    form = admin.get(path).form(path)
    assert set(get_wrong(admin.submit(form, quantity__1="x", sku="TEA", sku_units="y"))) == {"quantity.1", "sku_units"}
    assert get_wrong(admin.submit(form, quantity__2="99")) == {"quantity.2": "99 requested, 5 available"}
    assert set(get_wrong(admin.submit(form, sku="NO-SUCH"))) == {"sku"}
    assert set(get_wrong(admin.submit(form, quantity__2="-4"))) == {"quantity.2"}
    assert set(get_wrong(admin.submit(form, sku="no such", sku_units="0"))) == {"sku", "sku_units"}


def test_part_shipment_has_its_own_delivery_note_and_keeps_wrong_input(admin: Visitor, client: Storekeep, shop: Shop):
    sku, other = shop.variant(stock=5).sku, shop.variant(stock=5).sku
    order = client.orders.place(customer=shop.customer().name, lines=[(sku, 3), (other, 1)], currency_code="EUR")
    client.orders.confirm(order.name)
    path = f"/{order.name}/fulfillments"
    form = admin.get(f"/{order.name}").form(path)
    assert set(get_wrong(admin.submit(form, units__1="x"))) == {"units.1"}
    page = admin.submit(form, units__1="1", units__2="9")
    assert set(get_wrong(page)) == {"units.2"}
    assert get_fields(page, path)["units.1"] == "1"
    page = admin.submit(form, units__1="2", units__2="0")
    note = next(link for link in page.links if "print?fulfillment=" in link)
    shown = admin.get(note)
    assert "This is a part of the order." in shown.text
    assert (sku in shown.text, other in shown.text) == (True, False)
    assert other in admin.get(f"/{order.name}/print").text
    ship = note.replace("/print?fulfillment=", "/fulfillments/")
    page = admin.submit(page.form(ship), carrier="DHL", tracking_number="x" * 2_000)
    assert page.status == 400
    assert get_fields(page, ship)["carrier"] == "DHL"


def test_invoice_has_seller_lines_and_total(server: ServerProcess, shop: Shop, client: Storekeep, tmp_path: Path):
    sku = shop.variant(stock=5, prices={"JPY": "1200"}).sku
    order = client.orders.place(customer=shop.customer().name, lines=[(sku, 2)], currency_code="JPY")
    gateway = GatewayProcess(
        tmp_path, server_address=server.address, api_key=server.admin_key, console_seller="Kettle & Crumb; VAT 1<2"
    )
    visitor = Visitor(gateway.address)
    visitor.sign_in(gateway.api_key)
    page = visitor.get(f"/{order.name}/invoice")
    gateway.process.kill()
    assert "<b>Kettle &amp; Crumb</b><br>VAT 1&lt;2" in page.body
    assert f"Invoice {order.number}" in page.text
    assert page.text.count("\u00a52,400") == 2  # a currency without decimals: the line, and the total
    assert "CONSOLE_SELLER" not in page.text


def test_invoice_without_a_seller_says_what_to_set(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=5, prices={"KWD": "1.234"}).sku
    order = client.orders.place(customer=shop.customer().name, lines=[(sku, 1)], currency_code="KWD")
    page = admin.get(f"/{order.name}/invoice")
    assert "STOREKEEP_GATEWAY_CONSOLE_SELLER" in page.text
    assert "1.234" in page.text
    assert f"/{order.name}/invoice" in admin.get(f"/{order.name}").links


def test_order_by_phone_has_labels_and_an_address_of_the_customer(admin: Visitor, client: Storekeep, shop: Shop):
    sku = shop.variant(stock=5).sku
    home = Address(recipient="Ada Marsh", address_lines=["12 Quay Street"], locality="Galway", region_code="IE")
    customer = client.customers.create(
        Customer(
            display_name="Ada Marsh",
            email=f"{new_id()}@example.com",
            addresses=[CustomerAddress(label="home", address=home)],
        )
    )
    form = admin.get(f"/orders/new?customer={customer.name}").form("/orders/new")
    page = admin.submit(form, sku__1=sku, labels="no label", chosen_address="home")
    assert set(get_wrong(page)) == {"labels"}
    page = admin.submit(form, sku__1=sku, labels="channel=phone", chosen_address="home")
    admin.post("/orders/new", get_fields(page, "/orders/new") | {"step": "place"})
    (order,) = client.orders.list(filter=f'customer = "{customer.name}"')
    assert dict(order.labels) == {"channel": "phone"}
    assert order.shipping_address == home


# -- people


def test_customer_is_deleted_restored_and_erased_for_good(admin: Visitor, client: Storekeep, shop: Shop):
    customer = client.customers.create(Customer(display_name="Ida Loewe", email=f"{new_id()}@example.com"))
    sku, path = shop.variant(stock=5).sku, f"/{customer.name}"
    order = client.orders.place(customer=customer.name, lines=[(sku, 1)], currency_code="EUR")
    page = admin.submit(admin.get(path).form(f"{path}/state", button="Delete"))
    assert client.customers.get(customer.name).HasField("delete_time")
    admin.submit(page.form(f"{path}/state", button="Restore"))
    assert not client.customers.get(customer.name).HasField("delete_time")
    page = admin.get(f"{path}/erase")
    assert f"/{order.name}" in page.links
    assert client.customers.get(customer.name).email == customer.email
    refused = admin.submit(page.form(f"{path}/erase"))  # not ticked: a browser would not send it
    assert refused.status == 409
    page = admin.submit_with(page.form(f"{path}/erase"), force="yes")
    assert "has been erased" in page.text
    assert "Ida Loewe" not in page.text
    assert client.customers.get(customer.name).HasField("erase_time")


def test_erasure_is_offered_to_those_who_may_erase_only(gateway: GatewayProcess, client: Storekeep, shop: Shop):
    path = f"/{shop.customer().name}"
    clerk = sign_in(gateway, client, "customers.read", "customers.write")
    assert f"{path}/erase" not in clerk.get(path).links
    assert clerk.get(f"{path}/erase").status == 403
    fields = get_fields(clerk.get(path), path)
    assert clerk.post(f"{path}/erase", fields).status == 403


def test_deleted_user_is_listed_and_restored(admin: Visitor, client: Storekeep):
    name = new_id("ann")
    user = client.users.create_user(User(display_name=name, email=f"{name}@example.com", roles=["roles/viewer"]))
    client.users.delete_user(user.name)
    assert name not in admin.get("/users").text
    assert f"/{user.name}" in admin.get("/users?deleted=yes").links
    page = admin.submit(admin.get(f"/{user.name}").form(f"/{user.name}/restore"))
    assert "The user is restored." in page.text
    assert not client.users.get_user(user.name).HasField("delete_time")


def test_wrong_invitation_and_account_are_explained_beside_their_fields(admin: Visitor):
    page = admin.submit(admin.get("/users/new").form("/users/new"), display_name="Ann", email="ann")
    assert set(get_wrong(page)) == {"email"}
    page = admin.submit(admin.get("/access/new").form("/access/new"), display_name="Till", account_id="no id!")
    assert set(get_wrong(page)) == {"account_id"}
    page = admin.submit(admin.get("/locations/new").form("/locations/new"), display_name="Shop", resource_id="no id!")
    assert set(get_wrong(page)) == {"resource_id"}


# -- the look


def test_variant_names_its_product_in_the_breadcrumb(admin: Visitor, client: Storekeep, shop: Shop):
    product = shop.product(display_name="Assam Broken Gate")
    page = admin.get(f"/{shop.variant(parent=product.name).name}")
    crumbs = re.search(r'<p class="crumbs">(.*?)</p>', page.body)
    assert crumbs is not None
    assert "Assam Broken Gate" in crumbs[1]


@pytest.mark.parametrize(
    ("languages", "amount"),
    [
        ("de", "1.234,50\u00a0€"),
        ("en;q=0.2, de-DE;q=0.9, *;q=0.1", "1.234,50\u00a0€"),
        ("xx, de;q=0, en", "€1,234.50"),
        ("de;q=nonsense", "€1,234.50"),
        ("", "€1,234.50"),
    ],
)
def test_amounts_follow_the_language_that_the_browser_likes_best(
    admin: Visitor, client: Storekeep, shop: Shop, languages: str, amount: str
):
    sku = shop.variant(stock=1_234, prices={"EUR": "1234.50"}).sku
    order = client.orders.place(customer=shop.customer().name, lines=[(sku, 1)], currency_code="EUR")
    assert amount in admin.send("GET", f"/{order.name}", accept_language=languages).body
    level = admin.send("GET", f"/stock/main/{sku}", accept_language=languages).text
    assert ("1.234" if amount.startswith("1.") else "1,234") in level
