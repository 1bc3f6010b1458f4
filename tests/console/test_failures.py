"""A server that fails while a page is made: the page shows the failure, and takes it for no answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from storekeep.client import Customer, WhoAmIResponse
from storekeep.v1 import customers_pb2, inventory_pb2, orders_pb2
from tests.support.gateways import GatewayProcess
from tests.support.scripted_server import ScriptedServer, refuses, replies, run_scripted_server
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="no database; the server is scripted")
PERMISSIONS = ["customers.read", "customers.personal.read", "orders.read", "orders.write", "stock.read"]
TIMED_OUT = refuses("DEADLINE_EXCEEDED", code=code_pb2.DEADLINE_EXCEEDED, message="the time is up")


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    """Run a scripted server."""
    with run_scripted_server() as server:
        yield server


@pytest.fixture
def clerk(scripted: ScriptedServer, tmp_path: Path) -> Iterator[Visitor]:
    """Return a visitor who is signed in at a console in front of the scripted server."""
    caller = WhoAmIResponse(subject="serviceAccounts/clerk", permissions=PERMISSIONS)
    scripted.scripts["WhoAmI"] = [replies(caller)] * 100
    gateway = GatewayProcess(tmp_path, server_address=scripted.address, api_key="sk_clerk")
    visitor = Visitor(gateway.address)
    visitor.sign_in(gateway.api_key)
    yield visitor
    gateway.process.kill()


def test_customer_who_cannot_be_read_is_not_taken_for_another_one(scripted: ScriptedServer, clerk: Visitor):
    other = customers_pb2.SearchCustomersResponse(customers=[Customer(name="customers/other", display_name="ada")])
    scripted.scripts["GetCustomer"] = [TIMED_OUT] * 100
    scripted.scripts["SearchCustomers"] = [replies(other)] * 100
    form = clerk.get("/orders/new").form("/orders/new")
    page = clerk.submit(form, customer="ada", sku__1="TEA", units__1="1")
    assert page.status == 503
    assert "The time is up" in page.text
    assert "No customer has the id" not in page.text
    assert dict(page.form("/orders/new").fields)["customer"] == "ada"
    assert not scripted.calls_of("QuoteOrder")


def test_part_of_a_page_that_cannot_be_read_is_not_shown_as_empty(scripted: ScriptedServer, clerk: Visitor):
    scripted.scripts["GetCustomer"] = [replies(Customer(name="customers/ada"))]
    scripted.scripts["ListOrders"] = [TIMED_OUT] * 100
    page = clerk.get("/customers/ada")
    assert page.status == 503
    assert "The time is up" in page.text


def test_dashboard_shows_the_rest_and_names_what_cannot_be_read(scripted: ScriptedServer, clerk: Visitor):
    few = orders_pb2.ListOrdersResponse(total_size=7)
    scripted.scripts["ListOrders"] = [*[replies(few)] * 6, TIMED_OUT]  # the tiles, and the newest orders
    scripted.scripts["ListLowStock"] = [TIMED_OUT]
    page = clerk.get("/")
    assert page.status == 200
    assert "could not be read just now: newest orders, low stock." in page.text
    assert page.body.count("<b>7</b>") == 6
    assert "Nothing is low" not in page.text
    scripted.scripts["ListOrders"] = [replies(few)] * 7
    scripted.scripts["ListLowStock"] = [replies(inventory_pb2.ListLowStockResponse())]
    page = clerk.get("/")
    assert "could not be read" not in page.text
    assert "Nothing is low" in page.text
