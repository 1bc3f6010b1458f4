"""`storekeep quote` shows a receipt, and `orders place` takes what was quoted."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

from storekeep.client import (
    Customer,
    ItemSelection,
    Product,
    Promotion,
    PromotionAction,
    Storekeep,
    TaxArea,
    TaxComponent,
    TaxRate,
    TaxZone,
    Variant,
)
from tests.cli.test_groups import make_tea
from tests.support.command_line import CommandLine
from tests.support.shops import money, new_id


def assert_receipt_adds_up(receipt: str) -> None:
    """Check that the facts below the lines add up to the total: the discounts of lines count once."""
    amounts = {line[:25].strip(): Decimal(line.split()[-2]) for line in receipt.splitlines() if line.endswith(" EUR")}
    assert {"subtotal before discounts", "- Spring", "shipping", "VAT 20 %", "total"} <= amounts.keys(), receipt
    assert amounts.pop("net") == amounts["total"] - amounts["VAT 20 %"]
    assert sum(amounts.values()) == 2 * amounts["total"]


def test_quote_reads_as_a_receipt_and_the_order_costs_the_same(cli: CommandLine, client: Storekeep) -> None:
    sku = make_tea(cli, "bancha")
    zone = client.tax_zones.create(TaxZone(areas=[TaxArea(region_code="AT")]))
    vat = TaxComponent(display_name="VAT", rate_ppm=200_000)
    client.tax_rates.create(TaxRate(tax_zone=zone.name, components=[vat]))
    action = PromotionAction(
        kind="PROMOTION_ACTION_KIND_PERCENTAGE",
        percentage_ppm=100_000,
        target="PROMOTION_TARGET_LINES",
        items=ItemSelection(skus=[sku]),
    )
    promotion = client.promotions.create(Promotion(display_name="Spring", action=action))
    client.promotions.activate(promotion.name)
    basket = ("--line", f"{sku}=2", "--currency", "EUR", "--country", "AT", "--coupon", "NOWHERE")
    run = cli("quote", *basket, "--shipping", "5")
    assert run.code == 0, run.err
    words = " ".join(run.out.split())
    price = client.orders.quote(lines=[(sku, 2)], currency_code="EUR").price_details
    assert price.discounts[0].display_name == "Spring"
    assert "- Spring -" in words
    assert_receipt_adds_up(run.out)
    assert "VAT 20 %" in words
    assert "The code NOWHERE does not apply: unknown." in run.err
    total = cli.json("quote", *basket, "--shipping", "5")["total"]
    amount = f"{total['units']}.{total['nanos'] // 10_000_000:02d}"
    cli.json("customers", "create", "--id", "berta", "--name", "Berta")
    place = ("orders", "place", "--customer", "berta", *basket[:6], "--shipping", "5", "--expected-total")
    assert cli.json(*place, f"EUR {amount}")["total"] == total
    assert "is not an amount in EUR" in cli(*place, f"{amount} USD").err
    assert "PRICE_CHANGED" in cli(*place, "1").err


def test_quote_is_created_changed_sent_and_accepted(cli: CommandLine, client: Storekeep) -> None:
    product = client.products.create(Product(display_name="Chai"))
    sku = client.variants.create(product.name, Variant(sku=new_id("S").upper(), prices=[money("10")])).sku
    client.inventory.adjust_stock(f"locations/main/stockLevels/{sku}", quantity_delta=9)
    customer, name = client.customers.create(Customer(display_name="Ann")).name, new_id("q")
    options = ("--customer", customer, "--line", f"{sku}=2", "--currency", "EUR", "--note", "As discussed.")
    made = cli("quotes", "create", "--id", name, *options)
    assert (made.code, "DRAFT" in made.out, "20.00 EUR" in made.out) == (0, True, True)
    assert "30.00 EUR" in cli("quotes", "update", name, "--line", f"{sku}=3").out
    assert "PRICE_CHANGED" in cli("quotes", "send", name, "--expected-total", "20").err
    assert "SENT" in cli("quotes", "send", name, "--expected-total", "30").out
    assert name in cli("quotes", "list", "--state", "sent").out
    placed = cli.json("quotes", "accept", name)
    assert (placed["quote"], placed["total"]["units"]) == (f"quotes/{name}", "30")
    assert placed["name"].partition("/")[2] in cli("quotes", "show", name).out
    assert "ILLEGAL_STATE" in cli("quotes", "expire", name).err


def test_order_accepts_a_quote(cli: CommandLine, client: Storekeep) -> None:
    product = client.products.create(Product(display_name="Chai"))
    sku = client.variants.create(product.name, Variant(sku=new_id("S").upper(), prices=[money("10")])).sku
    client.inventory.adjust_stock(f"locations/main/stockLevels/{sku}", quantity_delta=9)
    customer, name = client.customers.create(Customer(display_name="Ann")).name, new_id("q")
    options = ("--customer", customer, "--line", f"{sku}=1", "--currency", "EUR")
    assert cli("quotes", "create", "--id", name, *options).code == cli("quotes", "send", name).code == 0
    placed = cli.json("orders", "place", *options, "--quote", name, "--reference", "PO 7")
    assert (placed["quote"], placed["externalReference"]) == (f"quotes/{name}", "PO 7")


def test_quote_in_other_formats_has_labels_and_no_name(cli: CommandLine) -> None:
    sku = make_tea(cli, "sencha")
    quote = ("quote", "--line", f"{sku}=1", "--currency", "EUR")
    (row,) = csv.DictReader(io.StringIO(cli(*quote, "--output", "csv").out))
    assert json.loads(row["price_details"])["grossTotal"]["currencyCode"] == "EUR"
    run = cli(*quote, "--output", "name")
    assert (run.code, run.out) == (2, "")
    assert "this result has no name" in run.err
