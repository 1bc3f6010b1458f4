"""New orders and quotes with their price before they are placed, orders by number, and pages that do not exist."""

from __future__ import annotations

import pytest

from storekeep.client import (
    Coupon,
    Customer,
    Promotion,
    PromotionAction,
    QuoteState,
    ShippingMethod,
    ShippingPrice,
    Storekeep,
    to_decimal,
    to_money,
)
from storekeep.console.sessions import DRAFTS_MAX
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop, new_id
from tests.support.visitors import Page, Visitor, get_wrong, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def price(visitor: Visitor, sku: str, customer: str, **values: str) -> Page:
    """Show the price of two units."""
    form = visitor.get("/orders/new").form("/orders/new")
    return visitor.submit(form, customer=customer, sku__1=sku, units__1="2", **values)


def get_steps(page: Page) -> list[str]:
    """Return the steps that the buttons of the form take."""
    return [values["value"] for tag, values in page.tags if tag == "button" and values.get("name") == "step"]


def test_price_has_an_address_until_its_order_is_placed(admin: Visitor, client: Storekeep, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    form = admin.get("/orders/new").form("/orders/new")
    reply = admin.submit(form, follow=False, customer=customer, sku__1=sku, units__1="2", note="by phone")
    assert reply.status == 303
    path = reply.headers["location"]
    for _ in range(2):  # the browser goes back, or loads it again
        page = admin.get(path)
        assert "\u20ac20.00" in page.text
        assert dict(page.form("/orders/new").fields)["note"] == "by phone"
    placed = admin.post("/orders/new", dict(page.form("/orders/new").fields) | {"step": "place"})
    assert "has been placed" in placed.text
    page = admin.get(path)
    assert page.status == 404
    assert "This form has been sent, or is too old." in page.text
    assert len(list(client.orders.list(filter=f'customer = "{customer}"'))) == 1


def test_draft_of_another_account_is_not_shown(admin: Visitor, gateway: GatewayProcess, client: Storekeep, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    form = admin.get("/orders/new").form("/orders/new")
    path = admin.submit(form, follow=False, customer=customer, sku__1=sku).headers["location"]
    other = sign_in(gateway, client, "orders.read", "orders.write", "customers.read")
    assert sku not in other.get(path).body
    for _ in range(DRAFTS_MAX):
        admin.submit(form, follow=False, customer=customer, sku__1=sku)
    assert admin.get(path).status == 404


def test_draft_outlives_a_session_that_ended_but_no_sign_out(admin: Visitor, gateway: GatewayProcess, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    form = admin.get("/orders/new").form("/orders/new")
    path = admin.submit(form, follow=False, customer=customer, sku__1=sku, note="by phone").headers["location"]
    admin.cookie = ""  # what an expired session is to the browser
    asked = admin.get(path)
    page = admin.submit(asked.form("/sign-in"), api_key=gateway.api_key)
    assert page.status == 200
    assert dict(page.form("/orders/new").fields)["note"] == "by phone"
    admin.post("/sign-out", page.form("/sign-out").fields)
    admin.sign_in(gateway.api_key)
    assert "This form has been sent, or is too old." in admin.get(path).text


def test_all_that_is_wrong_stands_beside_its_input(admin: Visitor, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    form = admin.get("/orders/new").form("/orders/new")
    page = admin.submit(
        form, customer=f"nobody-{new_id()}", sku__1=sku, units__1="2x", sku__3=sku, units__3="y", shipping="5x"
    )
    assert set(get_wrong(page)) == {"customer", "units.1", "units.3", "shipping"}
    assert "Correct Customer, Units 1, Units 3, Shipping cost." in page.text
    page = admin.submit(form, customer=customer, sku__1="", sku__2=sku, units__2="0", address__region_code="Austria")
    assert set(get_wrong(page)) == {"units.2", "address.region_code"}
    assert "Correct Units 2, Country code." in page.text


def test_customer_is_found_by_id_alone_without_personal_data(gateway: GatewayProcess, client: Storekeep, shop: Shop):
    sku, word = shop.variant(stock=9, prices={"EUR": "10"}).sku, new_id("marsh").replace("-", "")
    ada = client.customers.create(Customer(display_name=f"Ada {word}"), customer_id=new_id("ada"))
    clerk = sign_in(gateway, client, "customers.read", "orders.read", "orders.write", "products.read")
    key = ada.name.removeprefix("customers/")
    page = price(clerk, sku, word)
    assert (page.status, get_wrong(page)) == (404, {"customer": f"No customer has the id '{word}'."})
    assert dict(price(clerk, sku, key).form("/orders/new").fields)["customer"] == ada.name
    page = clerk.get(f"/customers?q={word}")
    assert page.status == 200
    assert "No customer matches." in page.text
    assert f"/{ada.name}" in clerk.get(f"/customers?q={key}").links


def test_order_with_address_method_and_code_is_placed_at_the_price_shown(admin: Visitor, client: Storekeep, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    action = PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=500_000)  # type: ignore[arg-type]
    action.items.skus.append(sku)
    promotion = client.promotions.create(Promotion(display_name="Half", requires_coupon=True, action=action))
    client.promotions.activate(promotion.name)
    code, method = new_id("HALF").upper(), new_id("parcel")
    client.coupons.create(Coupon(promotion=promotion.name), coupon_id=code)
    client.shipping_methods.create(
        ShippingMethod(display_name="Parcel", prices=[ShippingPrice(amount=to_money("4.90", currency_code="EUR"))]),
        shipping_method_id=method,
    )
    page = price(
        admin,
        sku,
        customer,
        codes=f"{code.lower()}, NO-SUCH",
        shipping_method=f"shippingMethods/{method}",
        address__recipient="Ada Marsh",
        address__address_lines="1 Main Street",
        address__locality="Linz",
        address__region_code="AT",
    )
    assert "€14.90" in page.text
    assert "The code NO-SUCH does not apply: unknown." in page.text
    assert get_steps(page) == ["price"]
    assert not list(client.orders.list(filter=f'customer = "{customer}"'))
    fields = dict(page.form("/orders/new").fields) | {"codes": code}
    assert get_steps(admin.post("/orders/new", fields | {"step": "price"})) == ["place", "quote", "price"]
    page = admin.post("/orders/new", fields | {"step": "place"})
    assert "has been placed" in page.text
    order = next(iter(client.orders.list(filter=f'customer = "{customer}"')))
    shown = admin.get(f"/{order.name}")
    assert f"Half {code.lower()}" in shown.text
    assert "\N{MINUS SIGN}€10.00" in shown.text
    assert str(to_decimal(order.total)) == "14.9"
    assert order.shipping_address.locality == "Linz"
    admin.post("/orders/new", fields | {"step": "place"})
    assert len(list(client.orders.list(filter=f'customer = "{customer}"'))) == 1


def test_shipping_cost_may_repeat_the_currency_of_the_order(admin: Visitor, shop: Shop):
    sku, customer = shop.variant(stock=5, prices={"EUR": "10"}).sku, shop.customer().name
    assert "€24.90" in price(admin, sku, customer, shipping="EUR 4.90").text
    wrong = price(admin, sku, customer, shipping="4.90 USD")
    assert get_wrong(wrong) == {"shipping": "Enter an amount such as 4.90 EUR."}


def test_order_whose_price_has_changed_is_not_placed(admin: Visitor, client: Storekeep, shop: Shop):
    variant, customer = shop.variant(stock=9, prices={"EUR": "10"}), shop.customer().name
    page = price(admin, variant.sku, customer)
    stored = client.variants.get(variant.name)
    stored.prices[0].units = 11
    client.variants.update(stored, update_mask=["prices"])
    fields = dict(page.form("/orders/new").fields)
    refused = admin.post("/orders/new", fields | {"step": "place"})
    assert "PRICE_CHANGED" in refused.text
    assert dict(refused.form("/orders/new").fields)["sku.1"] == variant.sku
    assert not list(client.orders.list(filter=f'customer = "{customer}"'))


def test_order_that_was_never_priced_is_not_placed(admin: Visitor, client: Storekeep, shop: Shop):
    variant, customer = shop.variant(stock=9, prices={"EUR": "10"}), shop.customer().name
    page = price(admin, variant.sku, customer, step="place")
    fields = dict(page.form("/orders/new").fields) | {"step": "place", "expected_total": ""}
    assert "Show the price first" in admin.post("/orders/new", fields).text
    assert not list(client.orders.list(filter=f'customer = "{customer}"'))


def test_input_of_an_ended_session_is_shown_by_its_labels(admin: Visitor, shop: Shop):
    fields = dict(admin.get("/orders/new").form("/orders/new").fields)
    fields |= {"csrf_token": "of another session", "sku.1": "TEA", "units.1": "4", "address.region_code": "AT"}
    page = admin.post("/orders/new", fields | {"step": "price"})
    assert "You are signed in again." in page.text
    assert "Currency EUR SKU 1 TEA Units 1 4 Address, Country code AT" in page.text
    assert "Units 2" not in page.text  # a row without a SKU
    assert dict(page.form("/orders/new").fields)["units.2"] == "1"


def test_history_of_a_shipped_order_speaks_as_the_page_does(admin: Visitor, client: Storekeep, shop: Shop):
    order = shop.confirm(shop.order((shop.variant(stock=9).sku, 5)))
    client.fulfillments.ship(client.fulfillments.create(order.name).name)
    text = admin.get(f"/{order.name}").text
    assert "Ship fulfilment" in text
    assert "Line 1, open units" in text
    assert "fulfillment" not in text
    assert "lines[" not in text


def test_fulfilment_offers_only_units_that_no_other_has(admin: Visitor, client: Storekeep, shop: Shop):
    order = shop.confirm(shop.order((shop.variant(stock=9).sku, 5)))
    path = f"/{order.name}/fulfillments"
    for units, left in (("3", "2"), ("2", "")):
        page = admin.submit(admin.get(f"/{order.name}").form(path), units__1=units)
        forms = [form for form in page.forms if form.action == path]
        assert [dict(form.fields)["units.1"] for form in forms] == ([left] if left else [])
    assert "All open units are in a pending fulfilment." in page.text


def test_customer_is_found_by_name_and_address_and_chosen_of_several(admin: Visitor, client: Storekeep, shop: Shop):
    sku, word = shop.variant(stock=9, prices={"EUR": "10"}).sku, new_id("marsh").replace("-", "")
    ada = client.customers.create(Customer(display_name=f"Ada {word}", email=f"ada@{word}.example"))
    for text in (f"ada {word}", f"ADA@{word}.example", ada.name, ada.name.removeprefix("customers/")):
        page = price(admin, sku, text)
        assert dict(page.form("/orders/new").fields)["customer"] == ada.name, page.text
        assert "€20.00" in page.text
    bob = client.customers.create(Customer(display_name=f"Bob {word}"))
    page = price(admin, sku, word)
    assert "Several customers match." in page.text
    offered = [values["value"] for tag, values in page.tags if tag == "option" and "customers/" in values["value"]]
    assert sorted(offered) == sorted([ada.name, bob.name])
    page = admin.submit(page.form("/orders/new"), chosen_customer=bob.name)
    assert dict(page.form("/orders/new").fields)["customer"] == bob.name
    page = admin.post("/orders/new", dict(page.form("/orders/new").fields) | {"step": "place"})
    assert "has been placed" in page.text
    client.customers.delete(ada.name)
    assert f"Bob {word}" in admin.get("/orders").text  # the list has names
    page = price(admin, sku, f"nobody{word}")
    assert page.status == 404
    assert "No customer has the id" in page.text


def test_new_order_suggests_skus_and_a_new_quote_is_called_so(admin: Visitor, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    path = next(link for link in admin.get("/quotes").links if link.startswith("/orders/new"))
    page = admin.get(path)
    assert "New quote" in page.text
    assert [tag for tag, values in page.tags if values.get("data-complete") == "/complete/skus"]
    page = admin.submit(page.form("/orders/new"), customer=customer, sku__1=sku)
    assert "New quote" in page.text
    primary = [values.get("value") for tag, values in page.tags if tag == "button" and values.get("class") == "primary"]
    assert primary == ["quote"]


def test_quote_is_saved_sent_and_accepted(admin: Visitor, client: Storekeep, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    page = price(admin, sku, customer, note="Until Friday")
    page = admin.post("/orders/new", dict(page.form("/orders/new").fields) | {"step": "quote"})
    quote = next(iter(client.quotes.list(filter=f'customer = "{customer}"')))
    path = f"/{quote.name}"
    assert "€20.00" in page.text
    assert "Until Friday" in page.text
    page = admin.submit(page.form(path, button="Send"))
    assert client.quotes.get(quote.name).state == QuoteState.QUOTE_STATE_SENT
    listed = admin.get(f"/quotes?state=SENT&customer={customer.removeprefix('customers/')}")
    assert path in listed.links
    page = admin.submit(page.form(path, button="Accept"))
    assert "has been placed" in page.text
    order = client.quotes.get(quote.name).order
    assert order
    page = admin.get(path)
    assert f"/{order}" in page.links
    assert not [form for form in page.forms if form.action == path]


def test_quote_is_withdrawn_once(admin: Visitor, client: Storekeep, shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer().name
    page = price(admin, sku, customer)
    admin.post("/orders/new", dict(page.form("/orders/new").fields) | {"step": "quote"})
    quote = next(iter(client.quotes.list(filter=f'customer = "{customer}"')))
    form = admin.get(f"/{quote.name}").form(f"/{quote.name}", button="Withdraw")
    for _ in range(2):
        assert "Expired" in admin.submit(form).text
    assert client.quotes.get(quote.name).state == QuoteState.QUOTE_STATE_EXPIRED


def test_order_is_found_by_its_number_in_the_address(admin: Visitor, shop: Shop):
    order = shop.order((shop.variant(stock=1).sku, 1))
    reply = admin.get(f"/orders/{order.number}", follow=False)
    assert (reply.status, reply.headers["location"]) == (303, f"/{order.name}")
    missing = admin.get("/orders/SK-999999999")
    assert missing.status == 404
    assert "There is no order SK-999999999." in missing.text


@pytest.mark.parametrize("path", ["/nowhere", "/orders/a/b/c/d", "/wp-admin", "/index.html"])
def test_unknown_path_is_a_page_for_browsers(gateway: GatewayProcess, admin: Visitor, visitor: Visitor, path: str):
    for who in (admin, Visitor(gateway.address)):
        page = who.send("GET", path, accept="text/html,*/*")
        assert page.status == 404
        assert page.headers["content-type"].startswith("text/html")
        assert "There is no such page." in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_unknown_path_is_json_for_programs(visitor: Visitor):
    reply = visitor.send("GET", "/v1/nothing", accept="application/json")
    assert reply.status == 404
    assert reply.headers["content-type"].startswith("application/json")


def test_long_list_inside_a_page_says_that_it_is_cut(admin: Visitor, client: Storekeep, shop: Shop):
    customer, sku = shop.customer().name, shop.variant(stock=50, prices={"EUR": "1"}).sku
    for _ in range(21):
        client.orders.place(customer=customer, lines=[(sku, 1)], currency_code="EUR")
    assert "Only the newest 20 are shown." in admin.get(f"/{customer}").text
