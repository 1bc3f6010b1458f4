"""Pages that only a form leads to, in Chromium: for everybody, in light and dark, no wider than a telephone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page

from storekeep.client import Customer, Storekeep
from tests.support.browsers import NEEDS_CHROMIUM, check_look, open_window, sign_in
from tests.support.console_pages import make_one_of_each
from tests.support.gateways import GatewayProcess
from tests.support.shops import new_id

pytestmark = [
    pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database"),
    NEEDS_CHROMIUM,
]
Ids = dict[str, str]
Step = Callable[[Page, Storekeep, Ids], None]
CSV = b"code,title,price\nTEA-1,Assam,4.50\n,Sencha,6.90\n"


@pytest.fixture(scope="module")
def ids(client: Storekeep) -> Ids:
    """Make one resource of each kind."""
    return make_one_of_each(client, "Assam Broken Gate, 100 g")


def press(page: Page, name: str) -> None:
    """Press the last button with a name, whose form leads to a page."""
    with page.expect_navigation():
        page.get_by_role("button", name=name, exact=True).last.click()


def fill(page: Page, **values: str) -> None:
    """Fill in fields by their name; `sku__1` is `sku.1`."""
    for name, text in values.items():
        page.locator(f"main [name='{name.replace('__', '.')}']").last.fill(text)


# -- pages that show what a step would do


def price_order(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto(f"/orders/new?customer={ids['/customers']}")
    fill(page, sku__1=ids["/stock/main"], codes="NO-SUCH")
    press(page, "Show the price")


def preview_edit(page: Page, client: Storekeep, ids: Ids) -> None:
    order = client.orders.place(
        customer=f"customers/{ids['/customers']}", lines=[(ids["/stock/main"], 1)], currency_code="EUR"
    )
    page.goto(f"/{order.name}/edit")
    fill(page, quantity__1="2")
    press(page, "Preview")


def check_transfer(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto("/stock/transfer")
    fill(page, sku__1=ids["/stock/main"], units__1="1")
    page.locator("[name=source]").select_option("main")
    press(page, "Check")


def compare_stock(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto("/stock/reconcile")
    press(page, "Compare")


def check_import(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto("/import")
    page.get_by_label("File").set_input_files({"name": "tea.csv", "mimeType": "text/csv", "buffer": CSV})
    press(page, "Continue")
    page.get_by_label("Column of SKU").select_option("code")
    page.get_by_label("Column of Name").select_option("title")
    press(page, "Check")
    page.get_by_role("heading", name="Outcome of the check").wait_for()


def count_events(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto(f"/webhookEndpoints/{ids['/webhookEndpoints']}")
    fill(page, start="2026-01-01T00:00")
    press(page, "Check")


def check_audit(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto("/audit")
    press(page, "Check the chain")


# -- pages that show a secret once


def create_key(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto(f"/access/{ids['/access']}")
    page.get_by_text("New API key").first.click()
    fill(page, display_name="till")
    press(page, "Create key")


def rotate_secret(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto(f"/webhookEndpoints/{ids['/webhookEndpoints']}")
    page.get_by_text("New secret…").click()
    press(page, "New secret")


def invite(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto("/users/new")
    fill(page, display_name="Ada", email=f"{new_id('ada')}@example.com")
    press(page, "Invite")


def generate_coupons(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto(f"/coupons/generate?promotion={ids['/promotions']}")
    fill(page, count="12")
    press(page, "Create coupons")


# -- pages of what is refused


def meet_conflict(page: Page, client: Storekeep, ids: Ids) -> None:
    customer = client.customers.create(Customer(display_name="Ada", email=f"{new_id()}@example.com"))
    page.goto(f"/{customer.name}")
    client.customers.update(Customer(name=customer.name, company="Marsh"), update_mask=["company"])
    fill(page, company="Kettle")
    press(page, "Save")
    page.get_by_text("Someone else has changed this meanwhile").wait_for()


def mistype_transfer(page: Page, client: Storekeep, ids: Ids) -> None:
    page.goto("/stock/transfer")
    fill(page, sku__1=ids["/stock/main"], units__1="some", sku__2="NO-SUCH")
    press(page, "Check")


def mistype_fulfilment(page: Page, client: Storekeep, ids: Ids) -> None:
    order = client.orders.place(
        customer=f"customers/{ids['/customers']}", lines=[(ids["/stock/main"], 1)], currency_code="EUR"
    )
    client.orders.confirm(order.name)
    page.goto(f"/{order.name}")
    fill(page, units__1="99")
    press(page, "Create fulfilment")
    page.locator("[aria-invalid][name='units.1']").wait_for()


STEPS: tuple[Step, ...] = (
    price_order,
    preview_edit,
    check_transfer,
    compare_stock,
    check_import,
    count_events,
    check_audit,
    create_key,
    rotate_secret,
    invite,
    generate_coupons,
    meet_conflict,
    mistype_transfer,
    mistype_fulfilment,
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_page_after_a_form_is_for_everybody(window: Page, client: Storekeep, ids: Ids, step: Step):
    step(window, client, ids)
    check_look(window, f"after-{step.__name__.replace('_', '-')}")


def test_pages_of_a_sign_in_are_for_everybody(browser: Browser, gateway: GatewayProcess):
    page = open_window(browser, f"http://{gateway.address[0]}:{gateway.address[1]}")
    page.goto("/sign-in")
    fill(page, email="ada@example.com", password="wrong horse battery")
    press(page, "Sign in")
    check_look(page, "after-refused-sign-in")
    sign_in(page, gateway.api_key)
    page.goto("/customers/new")
    fill(page, display_name="Ada Marsh", email="ada@example.com")
    page.context.clear_cookies()
    press(page, "Create customer")
    check_look(page, "after-ended-session")
    fill(page, api_key=gateway.api_key)
    press(page, "Sign in with the key")
    page.get_by_text("This is what you had entered").wait_for()
    check_look(page, "after-signing-in-again")
    page.context.close()
