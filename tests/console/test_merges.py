"""Two customers become one: first a dry run, then the merge of what was shown, once."""

from __future__ import annotations

import pytest

from storekeep.client import Customer, Storekeep
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor, get_wrong

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")


def create_customer(client: Storekeep) -> Customer:
    name = new_id("ada")
    return client.customers.create(Customer(display_name=name, email=f"{name}@example.com"))


def test_customer_is_merged_after_a_dry_run(admin: Visitor, client: Storekeep, shop: Shop):
    stays, goes, other = (create_customer(client) for _ in range(3))
    client.orders.place(customer=goes.name, lines=[(shop.variant(stock=5).sku, 1)], currency_code="EUR")
    path = f"/{stays.name}/merge"
    assert path in admin.get(f"/{stays.name}").links
    fields = dict(admin.get(path).form(path).fields) | {"customer": goes.email}
    page = admin.post(path, fields | {"step": "check"})
    assert "with 1 order can be merged into this customer. Nothing has been changed yet." in page.text
    checked = dict(page.form(path).fields)
    for change in ({"customer": other.name}, {"checked": ""}):  # what was not shown is shown first
        assert "Nothing has been changed yet." in admin.post(path, checked | change | {"step": "apply"}).text
    assert not client.customers.get(goes.name).merged_into
    page = admin.post(path, checked | {"step": "apply"})
    assert "The customers have been merged." in page.text
    assert client.customers.get(goes.name).merged_into == stays.name
    assert not client.customers.get(other.name).HasField("delete_time")
    assert len(list(client.orders.list(filter=f'customer = "{stays.name}"'))) == 1


def test_customer_that_cannot_be_merged_is_explained_beside_the_field(admin: Visitor, client: Storekeep):
    customer = create_customer(client)
    path = f"/{customer.name}/merge"
    fields = dict(admin.get(path).form(path).fields) | {"step": "check"}
    for text in ("", customer.name, "nobody-here"):
        assert set(get_wrong(admin.post(path, fields | {"customer": text}))) == {"customer"}
