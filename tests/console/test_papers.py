"""Papers of what was cancelled are marked as void, before anything else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from storekeep.client import Order, Storekeep
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def test_papers_of_a_valid_order_are_not_void(admin: Visitor, client: Storekeep, order: Order):
    for paper in ("print", "invoice"):
        assert "void" not in admin.get(f"/{order.name}/{paper}").text.lower()


def test_invoice_has_the_date_of_its_print_as_date_of_issue(admin: Visitor, client: Storekeep, order: Order):
    earliest = datetime.now(UTC).replace(second=0, microsecond=0)
    text = admin.get(f"/{order.name}/invoice").text
    issued = text.partition("Date of issue")[2].strip()[:16]
    assert earliest <= datetime.strptime(issued, "%Y-%m-%d %H:%M").replace(tzinfo=UTC) <= datetime.now(UTC)
    assert "Date of issue" not in admin.get(f"/{order.name}/print").text


def test_papers_of_a_cancelled_order_are_void(admin: Visitor, client: Storekeep, order: Order):
    client.orders.cancel(order.name)
    for paper, title in (("print", "Void: delivery note"), ("invoice", "Void: invoice")):
        page = admin.get(f"/{order.name}/{paper}")
        assert f"{title} {order.number}" in page.text
        assert "The order was cancelled. Nothing is shipped, and nothing is owed." in page.text
        assert "<table" not in page.body


def test_delivery_note_of_a_cancelled_or_restocked_fulfilment_is_void(admin: Visitor, client: Storekeep, order: Order):
    client.orders.confirm(order.name)
    ended, shipped = (client.fulfillments.create(order.name, units={1: 1}) for _ in range(2))
    client.fulfillments.ship(shipped.name)
    note = f"/{order.name}/print?fulfillment="
    for one in (ended, shipped):
        assert "void" not in admin.get(note + one.name.rpartition("/")[2]).text.lower()
    client.fulfillments.cancel(ended.name)
    client.fulfillments.restock(shipped.name)
    for one, reason in ((ended, "The fulfilment was cancelled. Do not ship it."), (shipped, "was taken back")):
        page = admin.get(note + one.name.rpartition("/")[2])
        assert f"Void: delivery note {order.number}" in page.text
        assert reason in page.text
    assert "Back into stock: 2 open units." in admin.get(f"/{order.name}").text
