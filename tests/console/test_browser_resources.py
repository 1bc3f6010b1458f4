"""Fields that offer matches, and the pages of categories, locations, webhooks and access, in a real Chromium.

Skipped where no Chromium is installed (Debian: `apt-get install chromium-headless-shell`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from storekeep.client import Category, Customer, Product, Storekeep
from tests.support.browsers import NEEDS_CHROMIUM, find_obstacles, open_window, sign_in
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop, new_id

SCRIPT = "<img src=x onerror=alert(2)>"
pytestmark = [
    pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database"),
    NEEDS_CHROMIUM,
]


@pytest.fixture(scope="module")
def signed_in(browser: Browser, gateway: GatewayProcess) -> Iterator[Page]:
    """Open a browser window and sign in; all tests of the file use it."""
    opened = open_window(browser, "http://{}:{}".format(*gateway.address))
    sign_in(opened, gateway.api_key)
    yield opened
    opened.context.close()


@pytest.fixture
def page(signed_in: Page) -> Iterator[Page]:
    """Return the window; a script error fails the test."""
    errors: list[str] = []

    def record(error: object) -> None:
        errors.append(str(error))

    signed_in.on("pageerror", record)
    yield signed_in
    signed_in.remove_listener("pageerror", record)
    assert not errors


def test_match_is_chosen_by_keyboard(page: Page, client: Storekeep, shop: Shop):
    word, key = new_id("marsh").replace("-", ""), new_id("ada")
    client.customers.create(Customer(display_name=f"Ada {word} {SCRIPT}"), customer_id=key)
    sku = shop.variant(stock=5, prices={"EUR": "4"}).sku
    page.goto("/orders/new")
    customer = page.get_by_role("combobox", name="Customer")
    customer.press_sequentially(word)
    option = page.get_by_role("option", name=re.compile(key))
    expect(option).to_contain_text(SCRIPT)
    expect(customer).to_have_attribute("aria-expanded", "true")
    assert find_obstacles(page) == []
    customer.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    assert customer.get_attribute("aria-activedescendant") == option.get_attribute("id")
    customer.press("Enter")
    expect(customer).to_have_value(key)
    expect(customer.locator("xpath=following-sibling::*[1]")).to_contain_text(f"Ada {word}")  # not its id alone
    expect(option).to_be_hidden()
    field = page.get_by_label("SKU 1")
    field.press_sequentially(sku[:-3].lower())
    expect(page.get_by_role("option", name=re.compile(sku))).to_be_visible()
    field.press("Escape")
    expect(page.locator(".matches:visible")).to_have_count(0)
    field.press("ArrowDown")
    page.get_by_role("option", name=re.compile(sku)).click()
    expect(field).to_have_value(sku)
    expect(field).to_be_focused()
    field.press("Enter")
    expect(page.get_by_role("heading", name="What it costs now")).to_be_visible()


def test_scanner_is_not_held_up(page: Page, client: Storekeep, shop: Shop):
    barcode = new_id("4006381")
    sku = shop.variant(barcode=barcode).sku
    page.goto("/stock/count")
    page.get_by_label("SKU or barcode").press_sequentially(barcode)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Units counted")).to_be_focused()
    page.keyboard.type("17")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="17 on hand")).to_be_visible()
    assert client.inventory.get_stock_level(f"locations/main/stockLevels/{sku}").on_hand == 17


def test_text_area_offers_matches_for_the_line(page: Page, client: Storekeep):
    name, key = new_id("Green"), new_id("tea")
    client.categories.create(Category(display_name=name), category_id=key)
    page.goto("/promotions/new")
    area = page.locator("[name='action.items.categories']")
    area.fill("first\n")
    area.press_sequentially(name[:-2])
    expect(page.get_by_role("option", name=re.compile(key))).to_be_visible()
    area.press("ArrowDown")
    area.press("Enter")
    expect(area).to_have_value(f"first\n{key}")


def test_product_gets_a_category_and_a_chosen_value_counts_as_a_change(page: Page, client: Storekeep):
    name, key = new_id("Green"), new_id("tea")
    client.categories.create(Category(display_name=name), category_id=key)
    product = client.products.create(Product(display_name="Sencha"))
    page.goto(f"/{product.name}")
    page.get_by_role("combobox", name="Category").press_sequentially(name[:-2])
    page.get_by_role("option", name=re.compile(key)).click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("link", name=name)).to_be_visible()
    assert client.products.get(product.name).category == f"categories/{key}"


def test_endpoint_is_created_without_scripts(page: Page, gateway: GatewayProcess):
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, storage_state=page.context.storage_state())
    plain = context.new_page()
    plain.goto(f"http://{gateway.address[0]}:{gateway.address[1]}/webhookEndpoints/new")
    plain.get_by_label("URL").fill("https://example.invalid/hooks")
    plain.get_by_label("Events").fill("order.*")
    plain.get_by_role("button", name="Create webhook endpoint").click()
    expect(plain.locator("#secret")).to_have_text(re.compile("whsec_"))
    expect(plain.get_by_role("button", name="Copy")).to_be_hidden()
    context.close()
