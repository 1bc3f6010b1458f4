"""Every page of the console in Chromium: for everybody, in light and dark, no wider than a telephone, without errors.

The routes decide which pages there are. `SCREENSHOTS=build/screenshots make test ARGS=tests/console` also saves what
they look like.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from storekeep.client import Storekeep
from tests.support.browsers import NEEDS_CHROMIUM, WIDE, check_look, collect_errors, open_window
from tests.support.console_pages import fill_pattern, list_patterns, make_one_of_each
from tests.support.gateways import GatewayProcess

pytestmark = [
    pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database"),
    NEEDS_CHROMIUM,
]
CSV = b"code,title,price\nTEA-1,Assam,4.50\nTEA-2,Sencha,6.90\n"
PUBLIC = ("/sign-in", "/password?token=none", "/no-such-page")
"""Pages without a session."""
SPECIAL = (
    "/orders/no-such-order",
    "/orders?q=nothing",
    "/orders?sku=nothing",
    "/promotions?state=nothing",
    "/categories?deleted=yes",
)
"""Pages of errors and of empty lists."""


@pytest.fixture(scope="module")
def ids(client: Storekeep, window: Page) -> dict[str, str]:
    """Make one resource of each kind, and a file to import, which is in the session of the window."""
    window.goto("/import")
    window.get_by_label("File").set_input_files({"name": "tea.csv", "mimeType": "text/csv", "buffer": CSV})
    window.get_by_role("button", name="Continue").click()
    window.wait_for_url("**/import/*")
    return make_one_of_each(client, "Assam Broken Gate, 100 g") | {"/import": window.url.rpartition("/")[2]}


def check_page(page: Page, path: str, errors: list[str], *, name: str) -> None:
    """Load a page once, and check it in light, in dark and narrow."""
    errors.clear()
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(WIDE)
    reply = page.goto(path)
    assert reply is not None
    if reply.headers["content-type"].startswith("application/json"):  # for scripts: nothing to look at
        return
    assert reply.headers["content-type"].startswith("text/html"), path
    check_look(page, name)
    expected = [] if reply.ok else [f"Failed to load resource: the server responded with a status of {reply.status}"]
    assert [error for error in errors if not expected or not error.startswith(expected[0])] == []


@pytest.mark.parametrize("pattern", list_patterns())
def test_page_is_for_everybody(window: Page, errors: list[str], ids: dict[str, str], pattern: str):
    name = pattern.strip("/").replace("/", "-").replace("{", "").replace("}", "") or "dashboard"
    check_page(window, fill_pattern(pattern, ids), errors, name=name)


@pytest.mark.parametrize("path", SPECIAL)
def test_page_of_an_error_or_an_empty_list_is_for_everybody(window: Page, errors: list[str], path: str):
    check_page(window, path, errors, name="-".join(filter(None, map(str.strip, path.replace("?", "/").split("/")))))


@pytest.mark.parametrize("path", PUBLIC)
def test_page_without_a_session_is_for_everybody(browser: Browser, gateway: GatewayProcess, path: str):
    page = open_window(browser, f"http://{gateway.address[0]}:{gateway.address[1]}")
    check_page(page, path, collect_errors(page), name=path.strip("/").partition("?")[0])
    page.context.close()
