"""What fields offer while a person types: matches within rights, bounded, and no personal data for the wrong eyes."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from storekeep.client import Category, Customer, Location, Product, Storekeep
from storekeep.console.requests import COMPLETIONS
from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop, new_id
from tests.support.visitors import Visitor, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
ODD_TEXTS = ['"', "\\", "*", '" OR sku != "', "a" * 5_000, "\U0001f375", "%", "<script>", "-", "AND", "\t\n"]


def complete(visitor: Visitor, kind: str, text: str) -> dict[str, str]:
    """Return the description of each match by its value."""
    page = visitor.get(f"/complete/{kind}?q={quote(text)}")
    assert page.status == 200, page.text
    assert page.headers["content-type"].startswith("application/json")
    return {match["value"]: match["text"] for match in json.loads(page.body)}


def test_sku_is_found_by_its_start_barcode_and_product(admin: Visitor, client: Storekeep, shop: Shop):
    word, barcode = new_id("assam").replace("-", ""), new_id("9")
    product = client.products.create(Product(display_name=f"Leaf {word}"))
    sku = new_id("TEA").upper()
    shop.variant(parent=product.name, sku=sku, display_name="100 g", barcode=barcode)
    assert complete(admin, "skus", sku[:-2]) == {sku: "100 g"}
    assert complete(admin, "skus", sku[:-2].lower()) == {sku: "100 g"}
    assert complete(admin, "skus", barcode) == {sku: "100 g"}
    assert complete(admin, "skus", word) == {sku: f"Leaf {word} · 100 g"}
    assert complete(admin, "skus", "  ") == {}


def test_customer_is_found_by_id_and_name(admin: Visitor, client: Storekeep):
    word, key = new_id("marsh").replace("-", ""), new_id("ada")
    client.customers.create(Customer(display_name=f"Ada {word}", email=f"{word}@example.com"), customer_id=key)
    described = f"Ada {word} · {word}@example.com"
    assert complete(admin, "customers", word) == {key: described}
    assert complete(admin, "customers", key)[key] == described


def test_category_and_location_are_found_by_id_and_name(admin: Visitor, client: Storekeep):
    name, key = new_id("Green Tea"), new_id("tea")
    client.categories.create(Category(display_name=name), category_id=key)
    client.inventory.create_location(Location(display_name=name), location_id=key)
    for kind in ("categories", "locations"):
        assert complete(admin, kind, name[2:].lower()) == {key: name}
        assert complete(admin, kind, key)[key] == name
    client.categories.delete(f"categories/{key}")
    assert complete(admin, "categories", key) == {}


def test_matches_are_at_most_ten(admin: Visitor, client: Storekeep, shop: Shop):
    word = new_id("many").replace("-", "")
    for number in range(12):
        client.categories.create(Category(display_name=f"{word} {number}"))
    product = client.products.create(Product(display_name=f"Box {word}"))
    for number in range(12):
        shop.variant(parent=product.name, sku=f"{word}-{number:02}")
    assert len(complete(admin, "categories", word)) == 10
    assert len(complete(admin, "skus", word)) == 10


@pytest.mark.parametrize("kind", COMPLETIONS)
@pytest.mark.parametrize(
    "text", ['"', "\\", "*", '" OR sku != "', "a" * 5_000, "\U0001f375", "%", "<script>", "-", "AND", "\t\n"]
)
def test_odd_text_is_only_text(admin: Visitor, kind: str, text: str):
    assert len(complete(admin, kind, text)) <= 10


def test_each_kind_needs_its_permission(gateway: GatewayProcess, client: Storekeep):
    nobody = sign_in(gateway, client, "orders.read", "orders.write")
    for kind in COMPLETIONS:
        page = nobody.get(f"/complete/{kind}?q=a")
        assert page.status == 403
    assert not [values for _, values in nobody.get("/orders/new").tags if "data-complete" in values]
    assert Visitor(gateway.address).get("/complete/customers?q=a", follow=False).status == 303


def test_personal_data_is_not_shown_to_those_who_may_not_read_it(gateway: GatewayProcess, client: Storekeep):
    word, key = new_id("marsh").replace("-", ""), new_id("ada")
    client.customers.create(Customer(display_name=f"Ada {word}", email=f"{word}@example.com"), customer_id=key)
    reader = sign_in(gateway, client, "customers.read")
    for text in (word, key):
        page = reader.get(f"/complete/customers?q={text}")
        assert page.status == 200
        assert "Ada" not in page.text
        assert "example.com" not in page.text
        assert "***" not in page.text
    assert complete(reader, "customers", key) == {key: ""}


def test_completion_changes_nothing_and_cannot_be_posted(admin: Visitor):
    token = dict(admin.get("/").form("/sign-out").fields)
    assert admin.post("/complete/skus", token).status == 405
