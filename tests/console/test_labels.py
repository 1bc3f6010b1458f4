"""Labels: the same part of a form for every resource that has some; nothing is lost on the way through it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storekeep.client import Customer, Location, Product, Storekeep, Variant
from storekeep.console.forms import LABELS
from storekeep.console.requests import BadRequest
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
ODD = {"a=b": "c=d", " space ": " x ", '"quoted"': '"', "lines": "one\ntwo\r\nthree", "empty": "", "\u2028": "é\x00"}


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=20), max_size=5))
def test_labels_survive_the_form(labels: dict[str, str]):
    product = Product(labels=labels)
    text = LABELS.read(product).replace("\n", "\r\n")  # as browsers send it
    copy = Product(labels={"old": "label"})
    LABELS.write(copy, text)
    assert dict(copy.labels) == labels


@pytest.mark.parametrize(
    "text", ["nothing", "=value", "a=1\na=2", '"a=1', '"a"', '"a"b=1', 'a="b"c', 'a="\\ud800"', '""=x']
)
def test_text_that_is_no_label_is_refused(text: str):
    with pytest.raises(BadRequest, match="Labels: "):
        LABELS.write(Product(), text)


def test_plain_labels_are_written_plainly():
    assert LABELS.read(Product(labels={"season": "autumn", "café": "été"})) == "café=été\nseason=autumn"


def test_labels_of_each_resource_are_edited(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant(stock=9, prices={"EUR": "1"})
    product = variant.name.partition("/variants/")[0]
    customer = client.customers.create(Customer(display_name="Ada"))
    order = shop.order((variant.sku, 1))
    reservation = client.inventory.reserve_stock([(variant.sku, 1)])
    location = client.inventory.create_location(Location(display_name="North"), location_id=new_id("north"))
    gets = {
        product: client.products.get,
        variant.name: client.variants.get,
        customer.name: client.customers.get,
        order.name: client.orders.get,
        reservation.name: client.inventory.get_reservation,
        location.name: client.inventory.get_location,
    }
    for name, get in gets.items():
        path = f"/{name}/details" if name == order.name else f"/{name}"
        page = admin.submit(admin.get(path).form(path), labels="season=autumn\r\nshelf=b 7")
        assert page.status == 200, (name, page.text[:300])
        assert dict(get(name).labels) == {"season": "autumn", "shelf": "b 7"}, name
        admin.submit(admin.get(path).form(path), labels="")
        assert not get(name).labels, name


def test_refused_label_is_explained_beside_the_field(admin: Visitor, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Ada"))
    path = f"/{customer.name}"
    for text in ("nothing", f"{'k' * 64}=v", f"k={'v' * 256}"):
        page = admin.submit(admin.get(path).form(path), labels=text)
        assert page.status == 400
        assert "Nothing was saved. Correct Labels." in page.text
        assert dict(page.form(path).fields)["labels"] == text
    assert not client.customers.get(customer.name).labels


def test_odd_labels_are_shown_and_kept(admin: Visitor, client: Storekeep):
    labels = {key: value.replace("\x00", "") for key, value in ODD.items()}
    product = client.products.create(Product(display_name="Tea", labels=labels))
    path = f"/{product.name}"
    admin.submit(admin.get(path).form(path), display_name="Green tea")
    assert dict(client.products.get(product.name).labels) == labels
    text = dict(admin.get(path).form(path).fields)["labels"]
    admin.submit(admin.get(path).form(path), labels=f"{text}\r\nmore=1")
    assert dict(client.products.get(product.name).labels) == labels | {"more": "1"}


def test_variant_keeps_its_labels_when_its_prices_change(admin: Visitor, client: Storekeep, shop: Shop):
    variant = shop.variant(labels={"season": "autumn"})
    path = f"/{variant.name}"
    admin.submit(admin.get(path).form(path), amount="9.90", currency="EUR")
    found: Variant = client.variants.get(variant.name)
    assert dict(found.labels) == {"season": "autumn"}
