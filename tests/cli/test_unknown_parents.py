"""A list of a resource that does not exist is an error, and not an empty list."""

from __future__ import annotations

import pytest

from storekeep.client import Customer, Location, Product, Storekeep
from tests.support.command_line import CommandLine
from tests.support.shops import Shop, new_id

pytestmark = pytest.mark.engine("sqlite", reason="the command line does not know the engine")


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("SKU_NOT_FOUND", ("stock", "show", "NOPE")),
        ("SKU_NOT_FOUND", ("stock", "movements", "NOPE")),
        ("SKU_NOT_FOUND", ("prices", "history", "NOPE")),
        ("LOCATION_NOT_FOUND", ("stock", "list", "--location", "nrth")),
        ("CUSTOMER_NOT_FOUND", ("orders", "list", "--customer", "nobody")),
        ("ORDER_NOT_FOUND", ("fulfillments", "list", "--order", "SK-99")),
        ("PRODUCT_NOT_FOUND", ("variants", "list", "nope")),
        ("WEBHOOK_ENDPOINT_NOT_FOUND", ("webhooks", "deliveries", "nope")),
    ],
)
def test_list_of_unknown_resource_is_an_error(cli: CommandLine, reason: str, arguments: tuple[str, ...]) -> None:
    run = cli(*arguments)
    assert (run.code, run.out) == (1, ""), run
    assert f"[{reason}" in run.err
    assert "Nothing found" not in run.err


def test_stock_of_unknown_location_is_an_error(cli: CommandLine, shop: Shop) -> None:
    run = cli("stock", "show", shop.variant(stock=5).sku, "--location", "nrth")
    assert run.code == 1
    assert "no such location: locations/nrth [LOCATION_NOT_FOUND" in run.err


def test_empty_list_of_a_resource_is_no_error(cli: CommandLine, client: Storekeep, shop: Shop) -> None:
    place, customer, product = new_id("north"), new_id("ann"), new_id("p")
    client.inventory.create_location(Location(display_name="North"), location_id=place)
    client.customers.create(Customer(display_name="Ann"), customer_id=customer)
    client.products.create(Product(display_name="Tea"), product_id=product)
    sku = shop.variant(stock=5).sku
    for arguments in (
        ("stock", "list", "--location", place),
        ("orders", "list", "--customer", customer),
        ("variants", "list", product),
        ("stock", "show", sku, "--location", place),
    ):
        run = cli(*arguments)
        assert run.code == 0, run.err
        assert "Nothing found." in run.err
    assert f"No stock level exists for {sku} at locations/{place}." in run.err
