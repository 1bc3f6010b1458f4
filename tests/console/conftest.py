"""A console for each test file, in front of the file's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from storekeep.client import Customer, Order, Storekeep
from tests.support.browsers import WIDE, OpenPage, collect_errors, open_window, run_chromium, sign_in
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor


@pytest.fixture(scope="module")
def gateway(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve the console, with a link that signs in."""
    folder: Path = tmp_path_factory.mktemp("console")
    key_file = folder / "admin.key"
    key_file.write_text(f"{server.admin_key}\n")
    process = GatewayProcess(
        folder, server_address=server.address, api_key=server.admin_key, console_key_file=str(key_file)
    )
    yield process
    process.process.kill()


@pytest.fixture
def visitor(gateway: GatewayProcess) -> Visitor:
    """Return a visitor who is not signed in."""
    return Visitor(gateway.address)


@pytest.fixture
def admin(gateway: GatewayProcess, visitor: Visitor) -> Visitor:
    """Return a visitor who is signed in as administrator."""
    visitor.sign_in(gateway.api_key)
    return visitor


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    with run_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def window(browser: Browser, gateway: GatewayProcess) -> Iterator[Page]:
    """Open one window for a test file, signed in."""
    page = open_window(browser, f"http://{gateway.address[0]}:{gateway.address[1]}", viewport=WIDE)
    sign_in(page, gateway.api_key)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def errors(window: Page) -> list[str]:
    """Collect the errors of the window."""
    return collect_errors(window)


@pytest.fixture
def open_page(browser: Browser, gateway: GatewayProcess) -> Iterator[OpenPage]:
    """Return a function that opens a browser window and signs in. An error of a script fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_signed_in(**options: Any) -> Page:
        page = open_window(browser, f"http://{gateway.address[0]}:{gateway.address[1]}", **options)
        contexts.append(page.context)
        page.on("pageerror", lambda error: errors.append(str(error)))
        sign_in(page, gateway.api_key)
        return page

    yield open_signed_in
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def order(shop: Shop, client: Storekeep) -> Order:
    """Place an order of two units of one SKU."""
    variant = shop.variant()
    shop.adjust(variant.sku, 10)
    customer = client.customers.create(Customer(display_name="Ada Marsh", email=f"{new_id()}@example.com"))
    return client.orders.place(customer=customer.name, lines=[(variant.sku, 2)], currency_code="EUR")
