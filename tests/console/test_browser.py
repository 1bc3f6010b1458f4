"""The console in a real Chromium: what people do there, with and without scripts, by keyboard and narrow.

Skipped where no Chromium is installed (Debian: `apt-get install chromium-headless-shell`).
"""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Route, expect

from storekeep.client import (
    Customer,
    Location,
    Order,
    PlaceOrderLine,
    Price,
    Quote,
    ServiceAccount,
    Storekeep,
    to_money,
)
from tests.support.browsers import (
    NARROW_PX,
    NEEDS_CHROMIUM,
    OpenPage,
    await_title,
    collect_errors,
    find_obstacles,
    open_window,
)
from tests.support.gateways import GatewayProcess
from tests.support.shops import new_id

pytestmark = [
    pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database"),
    NEEDS_CHROMIUM,
]


def test_person_sells_a_new_product(open_page: OpenPage, client: Storekeep):
    page = open_page()
    sku, name = new_id("TEA").upper(), new_id("Tea")
    customer = client.customers.create(Customer(display_name="Ada Marsh"))
    page.get_by_role("link", name="Products").click()
    page.get_by_role("link", name="New product").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create product").click()
    page.get_by_role("textbox", name="SKU").fill(sku)
    page.get_by_label("Price").fill("4.50")
    page.get_by_role("button", name="Create variant").click()
    page.get_by_role("link", name=sku).click()
    page.get_by_label("Amount").first.fill("4.90")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("cell", name="€4.90")).to_be_visible()
    page.goto(f"/stock/main/{sku}")
    page.get_by_label("Units", exact=True).first.fill("5")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("status")).to_have_text("The stock has been changed.")
    page.goto("/orders/new")
    page.locator("[name=customer]").fill(customer.name)
    page.get_by_label("SKU 1").fill(sku)
    page.get_by_label("Units 1").fill("2")
    page.get_by_role("button", name="Show the price").last.click()
    expect(page.get_by_role("cell", name="€9.80").last).to_be_visible()
    page.get_by_role("button", name="Place order").click()
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("button", name="Create fulfilment").click()
    page.get_by_label("Carrier").fill("Post")
    page.get_by_role("button", name="Ship").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Fulfilled")
    assert client.inventory.get_stock_level(f"locations/main/stockLevels/{sku}").on_hand == 3


def test_double_click_has_one_effect(open_page: OpenPage, client: Storekeep, order: Order):
    page = open_page()
    page.goto(f"/{order.name}")
    page.get_by_placeholder("Internal note").fill("once")
    page.get_by_role("button", name="Add note").dblclick()
    expect(page.get_by_role("status")).to_be_visible()
    assert len(list(client.orders.list_notes(order.name))) == 1


def test_two_people_who_change_one_customer_see_both_versions(open_page: OpenPage, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Ada"))
    first, second = open_page(), open_page()
    for page in (first, second):
        page.goto(f"/{customer.name}")
    first.get_by_label("Company").fill("First Ltd")
    first.get_by_role("button", name="Save").click()
    expect(first.get_by_role("status")).to_be_visible()
    second.get_by_label("Company").fill("Second Ltd")
    second.get_by_role("button", name="Save").click()
    expect(second.get_by_text("Someone else has changed this meanwhile")).to_be_visible()
    expect(second.get_by_role("cell", name="First Ltd")).to_be_visible()
    second.get_by_role("button", name="Save").click()
    expect(second.get_by_role("status")).to_be_visible()
    assert client.customers.get(customer.name).company == "Second Ltd"


def test_console_works_without_scripts(open_page: OpenPage, client: Storekeep, order: Order):
    page = open_page(java_script_enabled=False)
    page.goto(f"/{order.name}")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Confirmed")
    page.locator("summary", has_text="Cancel order").click()
    page.locator("form[action$='/cancel'] button").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled")


def test_console_works_by_keyboard_alone(open_page: OpenPage, order: Order):
    page = open_page()
    page.keyboard.press("g")
    page.keyboard.press("o")
    await_title(page, "Orders")
    page.keyboard.press("j")
    expect(page.locator("tr.chosen a").first).to_be_focused()
    page.keyboard.press("Enter")
    await_title(page, "Order ")
    page.keyboard.press("/")
    page.keyboard.type(order.number)
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders?*")
    expect(page.get_by_role("link", name=order.number)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.goto("/orders")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()


def test_narrow_order_shows_its_total_and_where_one_is(open_page: OpenPage, client: Storekeep, order: Order):
    page = open_page(viewport={"width": NARROW_PX, "height": 740})
    lines = [PlaceOrderLine(sku=order.lines[0].sku, quantity=2)]
    quote = client.quotes.create(Quote(customer=order.customer, currency_code="EUR", lines=lines))
    for name in (order.name, quote.name):
        page.goto(f"/{name}")
        box = page.locator(".items .total td").last.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= NARROW_PX
        page.goto("/users")
        link = page.locator(".side [aria-current]").bounding_box()
        assert link is not None
        assert 0 <= link["x"] <= NARROW_PX - link["width"]


def test_promotion_form_shows_and_sends_the_fields_of_its_kind(open_page: OpenPage, client: Storekeep):
    page, name = open_page(), new_id("Five off")
    page.goto("/promotions/new")
    page.locator("[name='action.percentage_ppm']").fill("10")
    expect(page.get_by_label("Units to buy")).to_be_hidden()
    page.get_by_label("Kind").select_option("PROMOTION_ACTION_KIND_AMOUNT")
    expect(page.locator("[name='action.percentage_ppm']")).to_be_hidden()
    page.locator("[name='action.amount']").fill("5 EUR")
    page.locator("[name='currency_code']").fill("EUR")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Create promotion").last.click()
    expect(page.get_by_role("status").first).to_have_text("The promotion has been created.")
    stored = next(iter(client.promotions.list(filter=f'display_name = "{name}"')))
    assert stored.action.percentage_ppm == 0


def test_transfer_offers_two_different_locations(open_page: OpenPage, client: Storekeep):
    for name in ("north", "south"):
        client.inventory.create_location(Location(display_name=name), location_id=new_id(name))
    page = open_page()
    page.goto("/stock/transfer")
    source, destination = page.locator("[name=source]"), page.locator("[name=destination]")
    expect(destination.locator("option:disabled")).to_have_attribute("value", source.input_value())
    other = destination.locator("option:enabled").last.get_attribute("value") or ""
    destination.select_option(other)
    expect(source.locator("option:disabled")).to_have_attribute("value", other)


def test_file_that_is_too_large_is_refused_before_it_is_sent(open_page: OpenPage):
    page = open_page()
    page.goto("/import")
    file = {"name": "big.csv", "mimeType": "text/csv", "buffer": b"x" * (1024 * 1024 + 1)}
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Continue").click()
    assert "too large" in page.locator("[name=file]").evaluate("input => input.validationMessage")


def test_times_are_shown_in_the_zone_of_the_browser(open_page: OpenPage, order: Order):
    page = open_page(timezone_id="Asia/Tokyo")
    page.goto(f"/{order.name}")
    shown = page.locator("time").first
    moment = order.create_time.ToDatetime()
    assert shown.get_attribute("title") == f"{moment:%Y-%m-%d %H:%M} UTC"
    assert f"{(moment.hour + 9) % 12 or 12}:{moment:%M}" in shown.inner_text()
    page.goto("/audit")
    shown = page.locator("time").first
    utc = str(shown.get_attribute("title"))
    assert f":{utc.removesuffix(' UTC')[-5:]} " in shown.inner_text().replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("zone", "typed", "stored"),
    [
        ("Australia/Adelaide", "2027-01-01T00:15", "2026-12-31T13:45:00Z"),
        ("America/New_York", "2027-07-01T20:00", "2027-07-02T00:00:00Z"),
    ],
)
def test_times_of_forms_are_in_the_zone_of_the_browser(
    open_page: OpenPage, client: Storekeep, order: Order, zone: str, typed: str, stored: str
):
    price = Price(sku=order.lines[0].sku, amount=to_money("4.20", currency_code="EUR"), minimum_quantity=10)
    price.end_time.FromJsonString("2030-01-01T00:00:07Z")
    price = client.prices.create(price)
    page = open_page(timezone_id=zone)
    page.goto(f"/{price.name}")
    expect(page.get_by_label("Begins")).to_have_accessible_name(re.compile(zone.replace("_", " ")))
    page.get_by_label("Begins").fill(typed)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.get_by_label("Begins")).to_have_value(typed)
    changed = client.prices.get(price.name)
    assert changed.start_time.ToJsonString() == stored
    assert changed.end_time == price.end_time  # to the second: nobody has touched it
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Nothing was changed.")).to_be_visible()


def test_end_of_a_key_names_the_zone_once(open_page: OpenPage, client: Storekeep):
    account = client.auth.create_service_account(ServiceAccount(display_name="Till"))
    page = open_page(timezone_id="Europe/Berlin")
    page.goto(account.name.replace("serviceAccounts", "/access"))
    page.locator("summary", has_text="New API key").click()
    expect(page.get_by_label("Expires")).to_have_accessible_name("Expires Europe/Berlin; empty: never")


def test_times_of_forms_are_in_utc_without_scripts(open_page: OpenPage, client: Storekeep, order: Order):
    price = Price(sku=order.lines[0].sku, amount=to_money("4.20", currency_code="EUR"), minimum_quantity=10)
    price = client.prices.create(price)
    page = open_page(timezone_id="Asia/Tokyo", java_script_enabled=False)
    page.goto(f"/{price.name}")
    page.get_by_label("Begins UTC").fill("2027-01-01T00:15")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Begins UTC")).to_have_value("2027-01-01T00:15")
    assert client.prices.get(price.name).start_time.ToJsonString() == "2027-01-01T00:15:00Z"


def test_days_of_a_filter_are_those_of_the_browser(open_page: OpenPage, client: Storekeep, order: Order):
    page = open_page(timezone_id="Pacific/Kiritimati")  # 14 hours ahead
    moment = order.create_time.ToDatetime() + timedelta(hours=14)
    page.goto("/orders")
    for day, is_shown in ((moment, True), (moment + timedelta(days=1), False)):
        page.get_by_label("From").fill(f"{day:%Y-%m-%d}")
        page.get_by_role("button", name="Filter").click()
        before = f"{day.date() - timedelta(days=1)}T10:00:00Z"
        page.wait_for_url(f"**since={quote(before)}*")
        expect(page.get_by_label("From")).to_have_value(f"{day:%Y-%m-%d}")
        expect(page.get_by_role("link", name=order.number)).to_have_count(int(is_shown))
    page.goto(f"/orders?until={moment:%Y-%m-%d}")  # a day in UTC, as a page without scripts sends it
    expect(page.get_by_label("To UTC")).to_have_value(f"{moment:%Y-%m-%d}")


def test_promotion_is_priced_on_the_sample_basket_while_one_types(open_page: OpenPage, order: Order):
    page = open_page()
    page.goto("/promotions/new")
    page.get_by_label("Only these SKUs").fill(order.lines[0].sku)
    page.locator("[name='basket.sku.0']").fill(order.lines[0].sku)
    page.locator("[name='basket.currency']").fill("EUR")
    percentage = page.locator("[name='action.percentage_ppm']")
    percentage.fill("25")
    expect(page.locator(".verdict")).to_contain_text("It takes")
    percentage.fill("2x")
    expect(page.locator(".preview")).to_contain_text("not a percentage")
    percentage.fill("25")
    page.get_by_label("Name", exact=True).fill("Quarter off")
    page.get_by_label("Name", exact=True).press("Enter")
    expect(page.get_by_role("status").first).to_have_text("The promotion has been created.")


def test_file_is_imported_with_and_without_scripts(open_page: OpenPage, client: Storekeep):
    for scripts in (True, False):
        page, sku = open_page(java_script_enabled=scripts, bypass_csp=True), new_id("CSV").upper()
        page.goto("/import")
        content = f"code,title,price\n{sku},Tea,4.50\n".encode()
        page.get_by_label("What it contains").select_option("products")
        page.get_by_label("File").set_input_files({"name": "tea.csv", "mimeType": "text/csv", "buffer": content})
        page.get_by_role("button", name="Continue").click()
        page.get_by_label("Column of SKU").select_option("code")
        page.get_by_label("Column of Name").select_option("title")
        page.get_by_label("Value of Currency").fill("EUR")
        page.get_by_role("button", name="Check").click()
        button = page.get_by_role("button", name="Import", exact=True)
        expect(button).to_be_visible()  # the page loads again until it is there
        assert not scripts or find_obstacles(page) == []
        button.click()
        expect(page.get_by_text("Done.")).to_be_visible()
        assert len(list(client.variants.list("products/-", filter=f'sku = "{sku}"'))) == 1


def test_change_by_another_is_announced_and_moves_nothing(open_page: OpenPage, client: Storekeep, order: Order):
    page = open_page()
    page.goto(f"/{order.name}")
    page.get_by_placeholder("Internal note").fill("half a sentence")
    with page.expect_response("**/feed/stream*"):
        page.reload()
    page.get_by_placeholder("Internal note").fill("half a sentence")
    client.orders.hold(order.name, reason="by phone")
    expect(page.get_by_role("button", name="Load it again")).to_be_visible()
    assert page.get_by_placeholder("Internal note").input_value() == "half a sentence"
    feed = open_page()
    feed.goto("/feed")
    rows = feed.locator("#feed tr")
    count = rows.count()
    client.orders.resume(order.name)
    feed.get_by_role("button", name="Show 1 new").click()
    expect(rows).to_have_count(count + 1)
    expect(rows.first).to_contain_text("order.resumed")


def test_quote_becomes_an_order_by_keyboard_and_mouse(open_page: OpenPage, order: Order):
    page = open_page(bypass_csp=True)
    page.goto("/orders/new")
    page.locator("[name=customer]").fill(order.customer)
    page.get_by_label("SKU 1").fill(order.lines[0].sku)
    page.get_by_label("SKU 1").press("Enter")
    expect(page.get_by_role("button", name="Save as a quote")).to_be_visible()
    assert find_obstacles(page) == []
    page.get_by_role("button", name="Save as a quote").click()
    page.locator("summary", has_text="Send").click()
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator("summary", has_text="Accept").click()
    page.get_by_role("button", name="Accept", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Placed")


def test_lost_connection_keeps_the_input(open_page: OpenPage, order: Order):
    page = open_page()
    page.goto(f"/{order.name}")
    note = page.get_by_placeholder("Internal note")
    note.fill("typed before the line went dead")
    page.context.set_offline(True)
    page.get_by_role("button", name="Add note").click()
    expect(page.get_by_role("alert")).to_contain_text("The server can't be reached.")
    expect(note).to_have_value("typed before the line went dead")
    page.context.set_offline(False)
    page.get_by_role("button", name="Add note").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.locator("main")).to_contain_text("typed before the line went dead")


def test_server_that_does_not_answer_keeps_the_input(open_page: OpenPage, order: Order):
    page = open_page()
    pending: list[Route] = []
    page.goto(f"/{order.name}")
    page.route("**/livez", lambda route: pending.append(route))  # never answered
    note = page.get_by_placeholder("Internal note")
    note.fill("typed before the server hung")
    page.get_by_role("button", name="Add note").click()
    expect(page.get_by_role("alert")).to_contain_text("The server can't be reached.")
    expect(note).to_have_value("typed before the server hung")
    page.unroute("**/livez")
    page.get_by_role("button", name="Add note").click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.locator("main")).to_contain_text("typed before the server hung")
    assert len(pending) == 1


def test_api_page_shows_operations_with_their_examples_and_breaks_no_policy(
    browser: Browser, gateway: GatewayProcess
) -> None:
    page = open_window(browser, f"http://{gateway.address[0]}:{gateway.address[1]}")
    problems = collect_errors(page)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto("/docs#/OrderService/PlaceOrder")
    operation = page.locator("#operations-OrderService-PlaceOrder")
    expect(operation.get_by_text("customers/ada-marsh").first).to_be_visible()
    expect(page.get_by_role("button", name="Authorize").first).to_be_visible()
    page.context.close()
    assert problems == []
    assert {url.partition("/docs")[0].partition("/openapi.json")[0] for url in requested} == {
        f"http://{gateway.address[0]}:{gateway.address[1]}"
    }
