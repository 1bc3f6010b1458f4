"""Taxes of imported orders: own columns, and the published columns of the exports of shops."""

# ruff: noqa: E501 - rows of tables are longer
from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from storekeep.cli.imports.formats.sources import split_evenly
from storekeep.client import Order, Storekeep, to_decimal
from tests.cli.test_import_formats import (
    MAGENTO_ITEMS,
    MAGENTO_ORDERS,
    SHOPIFY_ORDERS,
    WOO_ORDERS,
    make_products,
    reasons,
    run_import,
    write,
)
from tests.support.command_line import CommandLine

HEADER = "number,sku,quantity,unit_price,discount_amount,line_tax,customer,order_date,ship_date,currency"
DAYS = "2001-05-01,2001-05-02"


def get_order(client: Storekeep, number: str) -> Order:
    (order,) = client.orders.list(filter=f'number = "{number}"')
    return order


def list_taxes(order: Order) -> tuple[list[Decimal], Decimal, Decimal]:
    """Return the tax of each line, that of the shipping, and the total."""
    details = order.price_details
    taxes = [to_decimal(line.tax_total) for line in order.lines]
    assert sum(taxes) + to_decimal(details.shipping.tax_total) == to_decimal(details.tax_total)
    return taxes, to_decimal(details.shipping.tax_total), to_decimal(order.total)


def amounts(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


def make_customer(cli: CommandLine, tmp_path: Path, name: str) -> None:
    file = tmp_path / "people.csv"
    file.write_text(f"id,name\n{name},Ann\n")
    run_import(cli, "customers", str(file))


def test_own_columns_have_taxes_of_lines_and_of_shipping(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["TX-A", "TX-B", "TX-POST"])
    make_customer(cli, tmp_path, "tx-ann")
    file = tmp_path / "orders.csv"
    file.write_text(
        f"{HEADER},shipping,shipping_tax,prices_include_tax,order_total\n"
        f"TX-1,TX-A,3,7.00,1.00,3.80,tx-ann,{DAYS},EUR,5.00,0.95,,29.75\n"
        f"TX-2,TX-A,3,7.00,1.00,3.19,tx-ann,{DAYS},EUR,5.00,0.80,yes,25.00\n"
        f"TX-2,TX-B,1,0,,,tx-ann,{DAYS},EUR,5.00,0.80,yes,25.00\n"
        f"TX-3,TX-A,1,7.00,,0.50,tx-ann,{DAYS},EUR,,,,\n"
        f"TX-3,TX-POST,1,4.00,,0.28,tx-ann,{DAYS},EUR,,0.10,,\n"
        f"TX-4,TX-A,1,7.00,,7.01,tx-ann,{DAYS},EUR,,,yes,\n"
        f"TX-5,TX-A,1,7.00,,-1,tx-ann,{DAYS},EUR,,,,\n"
        f"TX-6,TX-A,1,7.00,,1,tx-ann,{DAYS},EUR,,,,7.00\n"
    )
    run = run_import(cli, "orders", str(file), "--shipping-sku", "TX-POST")
    assert run.document["orders"] == {"imported": 3, "alreadyThere": 0, "leftOut": 3}, run.err
    assert list_taxes(get_order(client, "TX-1")) == (amounts("3.80"), Decimal("0.95"), Decimal("29.75"))
    included = get_order(client, "TX-2")
    assert list_taxes(included) == (amounts("3.19", "0"), Decimal("0.80"), Decimal("25.00"))
    assert (included.price_details.prices_include_tax, to_decimal(included.price_details.net_total)) == (
        True,
        Decimal("21.01"),
    )
    assert list_taxes(get_order(client, "TX-3")) == (amounts("0.50"), Decimal("0.38"), Decimal("11.88"))
    assert "AMOUNT" in reasons(run)[7]
    assert "line_tax: -1 is negative" in reasons(run)[8]
    assert "DOES_NOT_ADD_UP" in reasons(run)[9]
    again = run_import(cli, "orders", str(file), "--shipping-sku", "TX-POST")
    assert again.document["orders"]["alreadyThere"] == 3


def test_cancelled_order_and_cancellation_row_leave_no_part_of_a_tax(
    cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    make_products(cli, tmp_path, ["TC-A"])
    make_customer(cli, tmp_path, "tc-ann")
    file = tmp_path / "orders.csv"
    file.write_text(
        f"{HEADER},cancelled,shipping,shipping_tax\n"
        f"TC-1,TC-A,2,7.00,,2.66,tc-ann,{DAYS},EUR,yes,5.00,0.95\n"
        f"TC-2,TC-A,2,7.00,,,tc-ann,{DAYS},EUR,,,\n"
        f"TC-3,TC-A,2,7.00,,2.66,tc-ann,2001-05-03,2001-05-04,EUR,,,\n"
        f"TC-C,TC-A,-1,7.00,,,tc-ann,2001-05-05,,EUR,,,\n"
    )
    run = run_import(cli, "orders", str(file), "--cancel-negative")
    assert run.document["orders"]["imported"] == 3, run.err
    assert to_decimal(get_order(client, "TC-1").total) == 0
    assert [line.cancelled_quantity for line in get_order(client, "TC-2").lines] == [1]
    assert list_taxes(get_order(client, "TC-3")) == (amounts("2.66"), Decimal(), Decimal("16.66"))


def test_receipt_shows_the_tax_of_an_imported_order(cli: CommandLine, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["TR-A"])
    make_customer(cli, tmp_path, "tr-ann")
    file = tmp_path / "orders.csv"
    file.write_text(
        f"{HEADER},prices_include_tax\n"
        f"TR-1,TR-A,3,7.00,1.00,3.80,tr-ann,{DAYS},EUR,\n"
        f"TR-2,TR-A,3,7.00,1.00,3.19,tr-ann,{DAYS},EUR,yes\n"
    )
    run_import(cli, "orders", str(file))
    added, included = (cli("orders", "show", number).out for number in ("TR-1", "TR-2"))
    for label, amount in (
        ("subtotal before discounts", "21.00"),
        ("- discounts", "-1.00"),
        ("tax", "3.80"),
        ("total", "23.80"),
    ):
        assert any(row.split()[:-2] == label.split() and row.split()[-2] == amount for row in added.splitlines()), added
    assert any(row.split() == ["included", "tax", "3.19", "EUR"] for row in included.splitlines()), included


def test_shopify_taxes_are_split_over_the_taxable_lines(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["TS-A", "TS-B", "TS-C"])

    def line(name: str, sku: str, price: str, taxable: str = "true", **cells: str) -> dict[str, object]:
        return {
            "Name": name, "Email": "ts@shop.example", "Lineitem quantity": 1, "Lineitem sku": sku,
            "Lineitem price": price, "Lineitem discount": "0.00", "Lineitem taxable": taxable,
        } | cells  # fmt: skip

    def head(subtotal: str, shipping: str, taxes: str, total: str, currency: str = "USD") -> dict[str, str]:
        return {
            "Created at": "2021-03-04 10:00:00 -0500", "Currency": currency, "Subtotal": subtotal, "Shipping": shipping,
            "Taxes": taxes, "Total": total, "Fulfillment Status": "fulfilled", "Fulfilled at": "2021-03-05 10:00:00 -0500",
            "Tax 1 Name": "State Tax 8%", "Tax 1 Value": taxes,
        }  # fmt: skip

    rows = [
        line("#T1", "TS-A", "10.00") | head("30.00", "5.00", "1.00", "36.00"),
        line("#T1", "TS-B", "10.00"),
        line("#T1", "TS-C", "10.00"),
        line("#T2", "TS-A", "10.00") | head("20.00", "5.00", "1.67", "25.00"),
        line("#T2", "TS-B", "10.00", "false"),
        line("#T3", "TS-A", "0.00") | head("0.00", "5.00", "0.40", "5.40"),
        line("#T4", "TS-A", "1000") | head("2000", "0", "101", "2101", "JPY"),
        line("#T4", "TS-B", "1000"),
        line("#T5", "TS-A", "10.00") | head("10.00", "0.00", "1.00", "12.00"),
    ]
    file = write(tmp_path, SHOPIFY_ORDERS, rows)
    run_import(cli, "customers", file, "--format", "shopify-orders")
    run = run_import(cli, "orders", file, "--format", "shopify-orders")
    assert run.document["orders"] == {"imported": 4, "alreadyThere": 0, "leftOut": 1}, run.err
    assert list_taxes(get_order(client, "#T1")) == (amounts("0.34", "0.33", "0.33"), Decimal(), Decimal(36))
    assert list_taxes(get_order(client, "#T2")) == (amounts("1.67", "0"), Decimal(), Decimal(25))
    assert get_order(client, "#T2").price_details.prices_include_tax
    assert list_taxes(get_order(client, "#T3")) == (amounts("0"), Decimal("0.40"), Decimal("5.40"))
    assert list_taxes(get_order(client, "#T4")) == (amounts("51", "50"), Decimal(), Decimal(2101))
    assert "Total is neither" in reasons(run)[10]
    assert {note["first"] for note in run.document["notes"] if "only their sum" in note["text"]} == {"#T1"}


def test_woocommerce_taxes_of_items_and_shipping_add_up(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["TW-A", "TW-B", "TW-C"])
    base = {
        "billing_email": "tw@woo.example", "billing_first_name": "Bob", "order_currency": "EUR", "status": "completed",
        "date": "2022-01-02 03:04:05", "shipping_total": "4.00", "shipping_tax_total": "0.76", "fee_total": "0.00",
    }  # fmt: skip

    def item(number: str, sku: str, total: str, tax: str, taxes: str, order_total: str) -> dict[str, object]:
        return base | {
            "order_number": number, "item_sku": sku, "item_quantity": 1, "item_subtotal": total, "item_total": total,
            "item_total_tax": tax, "tax_total": taxes, "order_total": order_total,
        }  # fmt: skip

    rows = [
        item("TW-1", "TW-A", "10.00", "1.90", "2.66", "16.66"),
        item("TW-2", "TW-A", "8.33", "1.58", "5.51", "34.50"),
        item("TW-2", "TW-B", "8.33", "1.58", "5.51", "34.50"),
        item("TW-2", "TW-C", "8.33", "1.58", "5.51", "34.50"),
        item("TW-3", "TW-A", "10.00", "1.90", "9.76", "23.76"),
    ]
    file = write(tmp_path, WOO_ORDERS, rows)
    run_import(cli, "customers", file, "--format", "woocommerce-orders")
    run = run_import(cli, "orders", file, "--format", "woocommerce-orders")
    assert run.document["orders"] == {"imported": 2, "alreadyThere": 0, "leftOut": 1}, run.err
    assert list_taxes(get_order(client, "TW-1")) == (amounts("1.90"), Decimal("0.76"), Decimal("16.66"))
    rounded = list_taxes(get_order(client, "TW-2"))
    assert rounded == (amounts("1.59", "1.58", "1.58"), Decimal("0.76"), Decimal("34.50"))
    assert "DOES_NOT_ADD_UP" in reasons(run)[6]


def test_magento_taxes_are_those_of_the_units_that_remain(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["TM-A"])
    item = {"product_type": "simple", "sku": "TM-A", "price": "34.0000", "discount_amount": "0.0000"}
    columns = "tax_percent,tax_amount,tax_invoiced,tax_refunded,tax_canceled,price_incl_tax,row_total_incl_tax"
    items: list[dict[str, object]] = [
        item | {"item_id": 1, "order_id": 81, "qty_ordered": "2.0000", "qty_shipped": "2.0000", "qty_canceled": "0.0000"}
        | {"tax_percent": "8.2500", "tax_amount": "5.6100"},
        item | {"item_id": 2, "order_id": 82, "qty_ordered": "2.0000", "qty_shipped": "1.0000", "qty_canceled": "1.0000"}
        | {"tax_amount": "5.6100", "tax_canceled": "2.8100"},
        item | {"item_id": 3, "order_id": 83, "qty_ordered": "1.0000", "qty_shipped": "1.0000", "tax_amount": "much"},
    ]  # fmt: skip
    order = {
        "customer_email": "tm@mage.example", "customer_firstname": "Cy", "order_currency_code": "USD", "state": "complete",
        "shipping_amount": "5.0000", "shipping_tax_amount": "0.4100", "created_at": "2020-05-05 12:00:00",
    }  # fmt: skip
    heads: list[dict[str, object]] = [
        order | {"entity_id": 81, "increment_id": "81", "tax_amount": "6.0200", "grand_total": "79.0200"},
        order | {"entity_id": 82, "increment_id": "82", "tax_amount": "6.0200", "grand_total": "79.0200"}
        | {"total_canceled": "36.8100"},
        order | {"entity_id": 83, "increment_id": "83", "tax_amount": "6.0200", "grand_total": "79.0200"},
    ]  # fmt: skip
    lines = write(tmp_path, f"{MAGENTO_ITEMS},{columns}", items)
    orders = write(tmp_path, f"{MAGENTO_ORDERS},shipping_tax_amount", heads, "orders.csv")
    run_import(cli, "customers", orders, "--format", "magento-orders")
    run = run_import(cli, "orders", lines, "--orders", orders, "--format", "magento-orders")
    assert run.document["orders"] == {"imported": 2, "alreadyThere": 0, "leftOut": 1}, run.err
    assert list_taxes(get_order(client, "81")) == (amounts("5.61"), Decimal("0.41"), Decimal("79.02"))
    assert list_taxes(get_order(client, "82")) == (amounts("2.80"), Decimal("0.41"), Decimal("42.21"))
    assert "tax_amount" in reasons(run)[4]


@pytest.mark.parametrize(
    ("amount", "weights", "currency", "shares"),
    [
        ("1.00", ["10.00"] * 3, "EUR", ["0.34", "0.33", "0.33"]),
        ("10", ["25", "25", "25"], "EUR", ["4", "3", "3"]),
        ("1.0000", ["10.0000"] * 3, "USD", ["0.34", "0.33", "0.33"]),
        ("100.00", ["10.00"] * 3, "JPY", ["34", "33", "33"]),
        ("1.000", ["1.000"] * 3, "KWD", ["0.34", "0.33", "0.33"]),
        ("1.001", ["1.000"] * 3, "KWD", ["0.334", "0.334", "0.333"]),
        ("0.00", ["1.00", "2.00"], "EUR", ["0", "0"]),
    ],
)
def test_split_goes_to_the_last_decimal_that_the_currency_has(
    amount: str, weights: list[str], currency: str, shares: list[str]
) -> None:
    assert split_evenly(Decimal(amount), amounts(*weights), currency=currency) == amounts(*shares)
