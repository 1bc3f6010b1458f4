"""Errors of the command line say what to type or to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from storekeep.cli.webhooks import DELIVERY_COLUMNS
from storekeep.cli.widths import break_cell, fit_columns
from storekeep.client import (
    Product,
    Promotion,
    PromotionAction,
    ShippingMethod,
    ShippingPrice,
    Storekeep,
    TaxArea,
    TaxZone,
    to_money,
)
from tests.support.command_line import CommandLine
from tests.support.shops import Shop, new_id

WIDTH = 80
"""Characters in a line of a terminal."""


def test_state_says_what_to_do_first(cli: CommandLine, client: Storekeep, shop: Shop) -> None:
    lines = [(shop.variant(stock=5).sku, 2)]
    order = client.orders.place(customer=shop.customer().name, lines=lines, currency_code="EUR")
    assert "confirm it first" in cli("orders", "fulfill", order.name).err
    assert "confirm it and ship its units first" in cli("orders", "complete", order.name).err
    client.orders.confirm(order.name)
    assert "ship its units first" in cli("orders", "complete", order.name).err
    fulfillment = client.fulfillments.create(order.name, units={1: 1})
    assert "ship it first" in cli("fulfillments", "deliver", fulfillment.name).err
    assert "cancel it instead" in cli("fulfillments", "restock", fulfillment.name).err
    client.fulfillments.ship(fulfillment.name)
    assert "restock it instead" in cli("fulfillments", "cancel", fulfillment.name).err
    assert "cancel its open lines instead" in cli("orders", "cancel", order.name).err


def test_state_of_other_resources_says_what_to_do(cli: CommandLine, client: Storekeep, shop: Shop) -> None:
    sku = shop.variant(stock=5).sku
    reservation = client.inventory.reserve_stock([(sku, 1)])
    client.inventory.release_reservation(reservation.name)
    assert "create another reservation" in cli("reservations", "commit", reservation.name).err
    assert cli("reservations", "release", reservation.name).err.count(";") == 0  # it is already RELEASED
    action = PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=100_000)
    promotion = client.promotions.create(Promotion(action=action)).name
    client.promotions.end(promotion)
    for command in (("activate", promotion), ("update", promotion, "--priority", "1")):
        assert "this state is final; create another promotion" in cli("promotions", *command).err
    draft = client.products.create(Product(display_name="Tea"), draft=True).name
    assert "publish it first or delete it" in cli("products", "archive", draft).err
    assert "publish it instead" in cli("products", "unarchive", draft).err
    client.products.publish(draft)
    late = cli("products", "update", draft, "--publish-time", "2030-01-01")
    assert "archive it to take it off sale" in late.err
    client.products.archive(draft)
    assert "unarchive it to put it back on sale" in cli("products", "publish", draft).err


def test_order_without_an_address_is_told_how_to_give_one(cli: CommandLine, client: Storekeep, shop: Shop) -> None:
    zone = client.tax_zones.create(TaxZone(areas=[TaxArea(region_code="LI", postal_code_prefix=new_id("a"))]))
    method = client.shipping_methods.create(
        ShippingMethod(tax_zones=[zone.name], prices=[ShippingPrice(amount=to_money("5", currency_code="EUR"))]),
        shipping_method_id=new_id("m"),
    )
    sold = ("--line", f"{shop.variant(stock=5).sku}=1", "--currency", "EUR", "--shipping-method", method.name)
    nowhere = cli("quote", *sold)
    assert "the order has no address; set --country" in nowhere.err
    assert "does not ship to this address" in cli("quote", *sold, "--country", "FR").err


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (
            ("stock", "adjust", "X", "-500"),
            "-500 looks like an option; for a negative number, write --by -500 or -- -500",
        ),
        (("stock", "set", "X", "-5"), "-5 looks like an option; for a negative number, write -- -5"),
        (
            ("orders", "place", "--customer", "a", "--currency", "EUR", "--line", "X=x"),
            "--line X=x: 'x' is not a whole number",
        ),
        (
            ("orders", "place", "--customer", "a", "--currency", "EUR", "--line", "X"),
            "--line 'X' must be SKU=UNITS, such as X=1",
        ),
        (("orders", "edit", "a", "--change", "1=x"), "--change 1=x: 'x' is not a whole number"),
        (("orders", "edit", "a", "--add", "X=x"), "--add X=x: 'x' is not a whole number"),
        (("stock", "transfer", "X=x", "--from", "a", "--to", "b"), "storekeep: X=x: 'x' is not a whole number"),
        (
            ("zones", "create", "--area", "Germny"),
            "--area: 'Germny' is not a country of ISO 3166; did you mean Germany?",
        ),
        (("orders", "update", "a", "--country", "Atlantis"), "--country: 'Atlantis' is not a country of ISO 3166"),
        (
            (
                "orders",
                "place",
                "--customer",
                "a",
                "--currency",
                "EUR",
                "--line",
                "X=1",
                "--bill-to",
                "country=Atlantis",
            ),
            "--bill-to country: 'Atlantis' is not a country of ISO 3166",
        ),
        (("webhooks", "create", "--url", "https://example.com", "--event", "order placed"), "--event: "),
        (("events", "tail", "--type", "order placed"), "--type: "),
        (("customers", "create", "--name", "Ada", "--country", "XX"), "--country: XX is not a country of ISO 3166"),
    ],
)
def test_error_names_what_was_typed(cli: CommandLine, command: tuple[str, ...], hint: str) -> None:
    run = cli(*command)
    assert run.code in (1, 2)
    assert hint in run.err


def test_number_of_the_wrong_line_is_told(cli: CommandLine, shop: Shop) -> None:
    sku = shop.variant(stock=5).sku
    customer = shop.customer().name
    lines = ("--line", f"{sku}=1", "--line", f"{sku}=0")
    assert "--line no. 2: " in cli("orders", "place", "--customer", customer, *lines, "--currency", "EUR").err


def test_import_says_that_a_constant_replaced_a_column(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "tea.csv"
    file.write_text("sku,name,price,currency,colour\nA,Tea,1,EUR,red\n")
    told = cli("import", "products", str(file), "--set", "currency=USD").err
    assert "because --set replaces them: the columns currency." in told
    assert "because they are no targets: the columns colour." in told


def test_import_names_columns_and_not_fields(cli: CommandLine, client: Storekeep, shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"id,name,email\n{new_id('c')},Ada,no address\n")
    assert "line 2: email: " in cli("import", "customers", str(file)).err
    file.write_text(f"sku,name,price,currency\n{new_id('S')},Tea,1.234,EUR\n")
    assert "line 2: price: EUR allows" in cli("import", "products", str(file)).err
    sku = shop.variant(stock=5).sku
    client.orders.place(customer=shop.customer().name, lines=[(sku, 4)], currency_code="EUR")
    file.write_text(f"sku,quantity\n{sku},3\n")
    told = cli("import", "stock", str(file)).err
    assert "line 2: quantity: less than the 4 units that are reserved and allocated" in told
    assert "backorder_shortage" not in told


def test_missing_file_is_all_that_is_told(cli: CommandLine, tmp_path: Path) -> None:
    for kind in ("products", "orders"):
        run = cli("import", kind, str(tmp_path / "none.csv"))
        assert run.code == 2
        assert "dry run" not in run.err


def test_problem_of_a_delivery_and_discount_of_a_line_stay_on_a_narrow_terminal() -> None:
    delivery = (
        "webhookEndpoints/erp/deliveries/0123456789abcdef",
        "FAILED",
        "order.placed",
        "orders/01a22ab1-5ee4-77fc-b342-60c4e0381558",
        "12",
        "500",
        "the reply has the status 500 (Internal Server Error)",
        "2026-01-31 12:00:00Z",
    )
    cells = [break_cell(text, column=column) for column, text in zip(DELIVERY_COLUMNS, delivery, strict=True)]
    assert "last_problem" in fit_columns(DELIVERY_COLUMNS, [cells], width=WIDTH).widths
    columns = ("line", "sku", "display_name", "ordered", "shipped", "open", "unit_price", "discount", "total")
    line = ("1", "TEA-ASSAM-100G", "Assam second flush", "12", "10", "2", "1204.50 EUR", "204.50 EUR", "10204.50 EUR")
    layout = fit_columns(columns, [line], width=WIDTH)
    assert {"discount", "total"} <= layout.widths.keys()
    assert "open" in layout.left_out
