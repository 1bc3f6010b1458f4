"""Names and rates of taxes come in from the files of other systems, and are shown with the order."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from storekeep.cli.imports.formats.woocommerce import name_tax
from storekeep.cli.imports.taxes import NAME_CHARS_MAX, NamedTax, format_taxes, parse_taxes, split_rate
from storekeep.client import Order, Storekeep
from storekeep.imports.columns import InvalidCell
from tests.cli.test_import_formats import (
    MAGENTO_ITEMS,
    MAGENTO_ORDERS,
    SHOPIFY_ORDERS,
    WOO_ORDERS,
    get_orders,
    make_products,
    run_import,
    write,
)
from tests.support.command_line import CommandLine
from tests.support.shops import get_amount

Taxes = list[tuple[str, int, Decimal]]
WHEN = "2021-03-04 10:00:00"
SHOPIFY_WHEN = f"{WHEN} -0500"


def list_taxes(order: Order) -> list[Taxes]:
    """Return name, rate and amount of the taxes of each line, and last of the order."""
    parts = [*order.lines, order.price_details]
    return [[(tax.display_name, tax.rate_ppm, get_amount(tax.amount)) for tax in part.taxes] for part in parts]


def test_taxes_of_shopify_have_their_names_and_add_up(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["ST-A", "ST-B", "ST-C"])
    line = {"Email": "tax@shop.example", "Name": "#T1", "Lineitem quantity": 1, "Lineitem price": "10.00"}
    head = {
        "Created at": SHOPIFY_WHEN, "Currency": "CAD", "Subtotal": "30.00", "Shipping": "0",
        "Taxes": "3.01", "Total": "33.01",
        "Tax 1 Name": "GST 5%", "Tax 1 Value": "1.01", "Tax 2 Name": "QST (9.975%)", "Tax 2 Value": "2.00",
    }  # fmt: skip
    rows = [line | head | {"Lineitem sku": "ST-A"}, line | {"Lineitem sku": "ST-B"}]
    rows += [line | {"Lineitem sku": "ST-C", "Lineitem taxable": "false"}]
    file = write(tmp_path, f"{SHOPIFY_ORDERS},Tax 2 Name,Tax 2 Value", rows)
    run_import(cli, "customers", file, "--format", "shopify-orders")
    run = run_import(cli, "orders", file, "--format", "shopify-orders")
    assert run.document["orders"]["imported"] == 1, run.err
    assert list_taxes(get_orders(client)["#T1"]) == [
        [("GST", 50_000, Decimal("0.51")), ("QST", 99_750, Decimal(1))],
        [("GST", 50_000, Decimal("0.50")), ("QST", 99_750, Decimal(1))],
        [],
        [("GST", 50_000, Decimal("1.01")), ("QST", 99_750, Decimal(2))],
    ]
    again = run_import(cli, "orders", file, "--format", "shopify-orders")
    assert again.document["orders"]["alreadyThere"] == 1


def test_taxes_of_shopify_that_do_not_add_up_have_no_names(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["ST-D"])
    row = {
        "Email": "tax2@shop.example", "Name": "#T2", "Lineitem quantity": 1, "Lineitem price": "10.00",
        "Lineitem sku": "ST-D", "Created at": SHOPIFY_WHEN, "Currency": "CAD", "Subtotal": "10.00", "Shipping": "0",
        "Taxes": "1.50", "Total": "11.50", "Tax 1 Name": "GST 5%", "Tax 1 Value": "0.50",
    }  # fmt: skip
    file = write(tmp_path, SHOPIFY_ORDERS, [row])
    run_import(cli, "customers", file, "--format", "shopify-orders")
    run_import(cli, "orders", file, "--format", "shopify-orders")
    order = get_orders(client)["#T2"]
    assert (list_taxes(order), get_amount(order.price_details.tax_total)) == ([[], []], Decimal("1.50"))


def test_tax_of_woocommerce_has_the_name_of_the_only_one(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["WT-A"])
    row = {
        "billing_email": "tax@woo.example", "billing_first_name": "T", "order_currency": "EUR", "date": WHEN,
        "shipping_total": "0", "fee_total": "0", "item_sku": "WT-A", "item_quantity": 1, "item_subtotal": "20.00",
        "item_total": "20.00", "item_total_tax": "3.80", "tax_total": "3.80", "order_total": "23.80",
        "status": "completed",
    }  # fmt: skip
    one, two = "rate_id:1|code:DE-MWST-1|title:MwSt. 19%|total:3.80|compound:", "rate_id:2|title:Extra|total:0"
    rows = [
        row | {"order_number": "WT-1", "tax_items": one},
        row | {"order_number": "WT-2", "tax_items": f"{one};{two}"},
    ]
    file = write(tmp_path, f"{WOO_ORDERS},tax_items", rows)
    run_import(cli, "customers", file, "--format", "woocommerce-orders")
    run = run_import(cli, "orders", file, "--format", "woocommerce-orders")
    assert run.document["orders"]["imported"] == 2, run.err
    found = get_orders(client)
    assert list_taxes(found["WT-1"]) == [[("MwSt.", 190_000, Decimal("3.80"))]] * 2
    assert list_taxes(found["WT-2"]) == [[], []]


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("id:9|rate_id:1|code:DE-MWST-1|title:MwSt. 19%|total:3.80|compound:", "MwSt. 19%=3.80"),
        (r"id:9|rate_id:1|code:X|title:Steuer\: 19% \| voll\;|total:3.80|compound:", "Steuer: 19% | voll=3.80"),
        ('[{"id":9,"rate_id":1,"code":"X","title":"VAT","total":"3.80","compound":false}]', "VAT=3.80"),
        ("rate_id:1|code:X|total:3.80|label:VAT|tax_rate_compound:|rate_percent:19", "VAT 19%=3.80"),
        ("rate_id:1|code:X|total:3.80|label:VAT 7%|rate_percent:19", "VAT 7%=3.80"),
        ("rate_id:1|code:X|total:3.80|label:VAT|rate_percent:much", "VAT=3.80"),
        ("code:DE-VAT-1|total:3.80", None),
        ('[{"title":"VAT"},{"title":"GST"}]', None),
        ('[{"title":19}]', None),
        ("[1]", None),
        ("[" * 100_000, None),
        ("title:|||;;", None),
        ("", None),
    ],
)
def test_cell_of_woocommerce_names_a_tax(cell: str, name: str | None) -> None:
    assert name_tax({"tax_items": cell}, Decimal("3.80")) == name


def test_tax_of_magento_has_its_rate(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["MT-A"])
    item = {
        "item_id": 1, "order_id": 71, "product_type": "simple", "sku": "MT-A", "qty_canceled": 0, "qty_invoiced": 2,
        "qty_ordered": 2, "qty_shipped": 2, "price": "10.0000", "discount_amount": "0.0000", "tax_amount": "1.6500",
        "tax_percent": "8.2500",
    }  # fmt: skip
    order = {
        "entity_id": 71, "state": "complete", "grand_total": "21.6500", "shipping_amount": "0", "increment_id": "MT71",
        "customer_email": "tax@mage.example", "customer_firstname": "T", "order_currency_code": "EUR",
        "created_at": WHEN,
    }  # fmt: skip
    items = write(tmp_path, f"{MAGENTO_ITEMS},tax_amount,tax_percent", [item], "items.csv")
    orders = write(tmp_path, MAGENTO_ORDERS, [order], "orders.csv")
    run_import(cli, "customers", orders, "--format", "magento-orders")
    run = run_import(cli, "orders", items, "--orders", orders, "--format", "magento-orders")
    assert run.document["orders"]["imported"] == 1, run.err
    assert list_taxes(get_orders(client)["MT71"]) == [[("Tax", 82_500, Decimal("1.65"))]] * 2


def test_columns_of_an_own_file_name_taxes(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    make_products(cli, tmp_path, ["OT-A"])
    cli.json("customers", "create", "--id", "own-taxes", "--name", "Own")
    header = "number,sku,quantity,unit_price,currency,order_date,customer,shipping,line_taxes,shipping_taxes"
    start = "OT-A,1,10.00,EUR,2021-03-04,own-taxes,5.00"
    rows = f"OT-1,{start},GST 5%=0.50; QST 9.975%=1.00,GST 5%=0.25\nOT-2,{start},GST,\n"
    (tmp_path / "own.csv").write_text(f"{header}\n{rows}")
    run = run_import(cli, "orders", str(tmp_path / "own.csv"))
    assert run.document["orders"] == {"imported": 1, "alreadyThere": 0, "leftOut": 1}, run.err
    order = get_orders(client)["OT-1"]
    assert list_taxes(order) == [
        [("GST", 50_000, Decimal("0.50")), ("QST", 99_750, Decimal(1))],
        [("GST", 50_000, Decimal("0.75")), ("QST", 99_750, Decimal(1))],
    ]
    assert get_amount(order.total) == Decimal("16.75")


def test_taxes_of_rows_with_shipping_are_those_of_the_shipping(
    cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    make_products(cli, tmp_path, ["ST-SHIP"])
    cli.json("customers", "create", "--id", "ship-taxes", "--name", "Own")
    header = (
        "number,sku,quantity,unit_price,currency,order_date,customer,shipping_tax,shipping_taxes,line_tax,line_taxes"
    )
    end = "1,10.00,EUR,2021-03-04,ship-taxes"
    rows = [
        f"SH-1,ST-SHIP,{end},,,,VAT 19%=1.90",
        f"SH-1,POST,{end},,,,VAT 19%=1.00; Extra=0.25",
        f"SH-2,ST-SHIP,{end},,VAT 19%=0.50,,",
        f"SH-2,POST,{end},,VAT 19%=0.50,1.90,VAT 19%=1.90",
        f"SH-2,POST,{end},,VAT 19%=0.50,0.10,",
        f"SH-3,ST-SHIP,{end},,,,",
        f"SH-3,POST,{end},,,1.00,VAT 19%=1.90",
        f"SH-4,ST-SHIP,{end},,,,",
        f"SH-4,POST,{end},,,1.00,",
    ]
    (tmp_path / "own.csv").write_text("\n".join([header, *rows]))
    run = run_import(cli, "orders", str(tmp_path / "own.csv"), "--shipping-sku", "POST")
    assert run.document["orders"] == {"imported": 3, "alreadyThere": 0, "leftOut": 1}, run.err
    orders = get_orders(client)
    assert list_taxes(orders["SH-1"])[-1] == [("VAT", 190_000, Decimal("2.90")), ("Extra", 0, Decimal("0.25"))]
    assert get_amount(orders["SH-1"].price_details.shipping.tax_total) == Decimal("1.25")
    assert list_taxes(orders["SH-2"])[-1] == [("VAT", 190_000, Decimal("2.40")), ("Tax", 0, Decimal("0.10"))]
    assert get_amount(orders["SH-2"].total) == Decimal("32.50")
    assert (list_taxes(orders["SH-4"])[-1], get_amount(orders["SH-4"].total)) == ([], Decimal(21))


@pytest.mark.parametrize(
    ("title", "tax"),
    [
        ("VAT 19%", ("VAT", 190_000)),
        ("MwSt. (7,5 %)", ("MwSt.", 75_000)),
        ("New York State Tax 4%", ("New York State Tax", 40_000)),
        ("8.25%", ("Tax", 82_500)),
        ("Tax 2021", ("Tax 2021", 0)),
        ("a;b=c", ("a b c", 0)),
        ("100% cotton", ("100% cotton", 0)),
        ("", ("Tax", 0)),
    ],
)
def test_title_is_a_name_and_a_rate(title: str, tax: tuple[str, int]) -> None:
    assert split_rate(title) == tax
    named = [NamedTax(*tax, Decimal("1.50"))]
    assert parse_taxes(format_taxes(named), target="line_taxes") == named


@pytest.mark.parametrize(
    "cell", ["VAT", "=1", "VAT=", "VAT=x", "VAT=-1", "VAT=NaN", "VAT=Infinity", "VAT=3.80 EUR", "VAT=1e30", "V=1;" * 21]
)
def test_cell_that_names_no_taxes_is_refused(cell: str) -> None:
    with pytest.raises(InvalidCell, match="line_taxes"):
        parse_taxes(cell, target="line_taxes")


@pytest.mark.parametrize("title", ["(" * 1_000_000, " (" * 500_000, "1" * 1_000_000, "1," * 500_000, "%" * 1_000_000])
def test_title_as_long_as_a_cell_can_be_is_read_at_once(title: str) -> None:
    """A quadratic search would take hours for it."""
    assert len(split_rate(title)[0]) <= NAME_CHARS_MAX
    assert split_rate(f"{title} 19%")[1] in (190_000, 0)


@pytest.mark.parametrize("amount", ["1e3000000000", "1E+999999", "9" * 1_000_000, "1" + " " * 1_000_000 + "x"])
def test_amount_that_no_money_has_is_refused_at_once(amount: str) -> None:
    with pytest.raises(InvalidCell, match="is not a tax such as"):
        parse_taxes(f"VAT={amount}", target="line_taxes")
