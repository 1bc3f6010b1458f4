"""The export of all data about one customer: after a dry run, recorded once, as JSON and as a page for people."""

from __future__ import annotations

import json

import pytest

from storekeep.client import Customer, CustomerRecord, Order, Storekeep
from storekeep.console.customer_exports import BYTES_MAX, limit_records
from storekeep.console.requests import BadRequest
from tests.support.browsers import NEEDS_CHROMIUM, OpenPage
from tests.support.gateways import GatewayProcess
from tests.support.visitors import Visitor, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def count_exports(client: Storekeep, customer: str) -> int:
    return len(list(client.audit.list(filter=f'resource = "{customer}/exports/*"')))


def test_export_is_a_dry_run_first_and_recorded_once(admin: Visitor, client: Storekeep, order: Order):
    path = f"/{order.customer}/export"
    assert path in admin.get(f"/{order.customer}").links
    page = admin.get(path)
    assert "1 order with notes" in page.text
    assert count_exports(client, order.customer) == 0
    form = page.form(path, button="Download the JSON file")
    replies = [admin.submit_with(form, step="json") for _ in range(2)]
    assert count_exports(client, order.customer) == 1
    key = order.customer.removeprefix("customers/")
    assert replies[0].headers["content-disposition"] == f'attachment; filename="{key}.json"'
    document = json.loads(replies[0].body)
    assert document == json.loads(replies[1].body)
    assert [one["name"] for one in document["data"]["order"]] == [order.name]
    assert document["data"]["customer"][0]["display_name"] == "Ada Marsh"


def test_export_as_a_page_shows_markup_as_text(admin: Visitor, client: Storekeep):
    customer = client.customers.create(Customer(display_name="<script>alert(1)</script>"))
    path = f"/{customer.name}/export"
    page = admin.submit_with(admin.get(path).form(path), step="page")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-disposition"].endswith('.html"')
    assert "<script" not in page.body
    assert "<script>alert(1)</script>" in page.text


def test_export_of_an_erased_customer_has_no_personal_data(admin: Visitor, client: Storekeep, order: Order):
    client.orders.cancel(order.name)
    client.customers.erase(order.customer)
    path = f"/{order.customer}/export"
    assert path in admin.get(f"/{order.customer}").links
    assert "was erased" in admin.get(path).text
    assert "Ada Marsh" not in admin.submit_with(admin.get(path).form(path), step="json").body


def test_export_is_offered_to_those_who_may_export_and_masked_without_personal_data(
    gateway: GatewayProcess, client: Storekeep, order: Order
):
    path = f"/{order.customer}/export"
    clerk = sign_in(gateway, client, "customers.read", "customers.erase")
    for shown in (f"/{order.customer}", f"/{order.customer}/erase"):
        assert path not in clerk.get(shown).links
    assert clerk.get(path).status == 403
    other = sign_in(gateway, client, "customers.read", "customers.export")
    page = other.get(path)
    assert "***" in page.text
    document = json.loads(other.submit_with(page.form(path), step="json").body)
    assert document["data"]["customer"][0]["display_name"] == "***"


def test_export_without_a_known_step_or_customer_is_refused(admin: Visitor, order: Order):
    path = f"/{order.customer}/export"
    assert admin.submit_with(admin.get(path).form(path), step="pdf").status == 400
    assert admin.get("/customers/none/export").status == 404


def test_export_that_is_too_large_names_the_command():
    record = CustomerRecord(customer=Customer(display_name="x" * 1024 * 1024))
    assert len(list(limit_records([record] * 7, "storekeep"))) == 7
    with pytest.raises(BadRequest, match="Use the command `storekeep customers export`"):
        list(limit_records([record] * (BYTES_MAX // 1024 // 1024), "storekeep customers export"))


@NEEDS_CHROMIUM
def test_both_files_are_downloaded_from_one_page(open_page: OpenPage, order: Order):
    page = open_page()
    page.goto(f"/{order.customer}")
    page.get_by_role("link", name="Export data…").click()
    for button, ending in (("Download the page", ".html"), ("Download the JSON file", ".json")) * 2:
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename.endswith(ending)
        download.value.delete()
