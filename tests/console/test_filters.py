"""Filters of lists: the server accepts each of them, and the numbers of the dashboard lead to them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from storekeep.client import Order, Storekeep
from tests.support.console_pages import list_patterns, make_one_of_each
from tests.support.shops import Shop
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
LISTS = [pattern for pattern in list_patterns() if pattern.count("/") == 1 and "{" not in pattern]
DAY = "2026-11-30"


def list_filters(page: Page) -> Iterator[tuple[str, str]]:
    """Yield the name and a value of each filter of a page; of a selection each value."""
    within, selected = False, ""
    for tag, values in page.tags:
        if tag == "form":
            within = "filters" in values.get("class", "").split()
        elif within and tag == "input" and values.get("name"):
            yield values["name"], DAY if values.get("type") == "date" else "tea-1"
        elif within and tag == "select":
            selected = values["name"]
        elif within and tag == "option" and values.get("value"):
            yield selected, values["value"]


@pytest.mark.parametrize("path", LISTS)
def test_each_filter_of_a_list_is_accepted(admin: Visitor, path: str):
    wrong = []
    for name, value in list_filters(admin.get(path)):
        page = admin.get(f"{path}?{urlencode({name: value})}")
        status = 404 if (path, name) == ("/products", "category") else 200  # there is no such category
        if page.status != status or "INVALID" in page.text:
            wrong.append((name, value, page.status))
    assert wrong == []


def test_lists_have_filters(admin: Visitor):
    counts = {path: len(list(list_filters(admin.get(path)))) for path in LISTS}
    assert counts["/orders"] > 10
    assert sum(count > 0 for count in counts.values()) > 10


def test_orders_are_filtered_by_sku_and_a_search_for_a_sku_leads_there(admin: Visitor, order: Order, shop: Shop):
    sku, other = order.lines[0].sku, shop.order()
    page = admin.get(f"/orders?sku={sku}")
    assert f"/{order.name}" in page.links
    assert f"/{other.name}" not in page.links
    assert admin.get(f"/orders?q={sku}", follow=False).headers["location"] == f"/orders?sku={sku}"
    assert "No order matches" in admin.get("/orders?q=nothing").text
    assert order.number in admin.get(f"/export/orders?sku={sku}").body


def test_each_number_of_the_dashboard_leads_to_its_list(admin: Visitor, client: Storekeep):
    make_one_of_each(client, "Assam")
    links = [link for link in admin.get("/").links if "?" in link]
    assert {"/stock?low=yes", "/webhookEndpoints?failing=true", "/orders?held=yes", "/orders?overdue=yes"} <= {*links}
    assert any(link.startswith("/orders?since=") for link in links)
    pages = {link: admin.get(link) for link in links}
    assert [link for link, page in pages.items() if page.status != 200 or "INVALID" in page.text] == []
