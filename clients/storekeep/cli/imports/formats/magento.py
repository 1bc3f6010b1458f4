"""Magento's export of products, and its tables `sales_order_item` and `sales_order` as CSV files."""

from __future__ import annotations

from decimal import Decimal

from storekeep.cli.imports.formats.shopify import REFUND, make_customer_id
from storekeep.cli.imports.formats.sources import (
    Cells,
    Format,
    RejectedRows,
    Source,
    adapt_each,
    add_cells,
    parse_number,
    require_number,
)
from storekeep.cli.imports.formats.woocommerce import SHIP_DATE
from storekeep.cli.imports.taxes import DEFAULT_NAME, PERCENT_PPM, NamedTax, format_taxes
from storekeep.imports.rows import AnyRow, BadRow, Row, SkippedRow

SOLD_TYPES = frozenset({"simple", "virtual", "downloadable"})
"""Types with stock and a price of their own. Configurable, grouped and bundled products consist of these."""
UNSHIPPED_TYPES = frozenset({"virtual", "downloadable"})
ROOT = "Default Category"
PAID_STATES = frozenset({"processing", "complete", "closed", "canceled", "holded"})
SHIPPED_STATES = frozenset({"processing", "complete", "closed"})


def _adapt_product(row: Row) -> AnyRow:
    cells = row.cells
    if "store_view_code" in cells or cells.get("product_type") not in SOLD_TYPES:
        return SkippedRow(row.line)
    path = cells.get("categories", "").partition(",")[0]
    category = path.rpartition("/")[2]
    return add_cells(
        row,
        category="" if category == ROOT else category,
        discontinued="no" if cells.get("product_online", "1") == "1" else "yes",
    )


def _adapt_item(row: Row) -> AnyRow:
    """Return the line of an order. The item of a chosen variant repeats that of its product and is skipped."""
    if "parent_item_id" in row.cells:
        return SkippedRow(row.line)
    shipped = "qty_invoiced" if row.cells.get("product_type") in UNSHIPPED_TYPES else "qty_shipped"
    try:
        tax = _read_tax(row.cells)
        taxes = _name_tax(row.cells, tax)
    except RejectedRows as error:
        return BadRow(row.line, str(error), key=row.cells.get("order_id", ""))
    return add_cells(
        row,
        shipped_quantity=row.cells.get(shipped, "0"),
        line_tax=tax,
        line_taxes=taxes,
    )


def _name_tax(cells: Cells, tax: Decimal | None) -> str | None:
    """Return the tax with its rate; None if the file has no rate. Magento keeps the names of taxes elsewhere.

    Raises: RejectedRows.
    """
    percent = parse_number(cells, "tax_percent")
    if not percent or tax is None or tax < 0:
        return None
    return format_taxes([NamedTax(DEFAULT_NAME, int(percent * PERCENT_PPM), tax)])


def _read_tax(cells: Cells) -> Decimal | None:
    """Return the tax of the units of an item that were not cancelled. Magento adds it to all prices.

    Raises: RejectedRows.
    """
    tax = parse_number(cells, "tax_amount")
    return None if tax is None else tax - (parse_number(cells, "tax_canceled") or Decimal())


def _adapt_order(row: Row) -> AnyRow:
    number = row.cells.get("entity_id", "")
    try:
        return _convert_order(row)
    except RejectedRows as error:
        return BadRow(row.line, str(error), key=number)


def _convert_order(row: Row) -> Row:
    cells = row.cells
    state = cells.get("state", "")
    if state not in PAID_STATES:
        raise RejectedRows(f"state: {state!r} is not an order that was paid: {', '.join(sorted(PAID_STATES))}")
    is_reduced = parse_number(cells, "total_canceled") or state == "canceled"
    total = None if is_reduced else require_number(cells, "grand_total")
    remarks = [REFUND] if parse_number(cells, "total_refunded") else []
    remarks += [SHIP_DATE] if state in ("complete", "closed") else []
    return add_cells(
        row,
        customer=make_customer_id(cells.get("customer_email")),
        ship_date=cells.get("created_at") if state in SHIPPED_STATES else None,
        cancelled="yes" if state == "canceled" else None,
        order_total=total,
        remark="; ".join(remarks),
    )


def _adapt_customer(row: Row) -> AnyRow:
    email = row.cells.get("customer_email")
    if email is None:
        return SkippedRow(row.line)
    names = (row.cells.get("customer_firstname", ""), row.cells.get("customer_lastname", ""))
    return add_cells(row, id=make_customer_id(email), name=" ".join(filter(None, names)) or email)


PRODUCTS = Format(
    "magento-products",
    "Products, as Magento 2 exports them.",
    products=Source(
        needed=("sku", "store_view_code", "product_type", "name", "price"),
        columns={"sku": "sku", "name": "name", "description": "description", "price": "price", "stock": "qty"},
        computed=("category", "discontinued"),
        adapt=adapt_each(_adapt_product),
    ),
)
ORDERS = Format(
    "magento-orders",
    "Orders, as Magento 2 stores them: sales_order_item, with --orders sales_order; customers from sales_order.",
    customers=Source(
        needed=("entity_id", "customer_email"),
        columns={"email": "customer_email"},
        computed=("id", "name"),
        adapt=adapt_each(_adapt_customer),
        distinct=True,
    ),
    lines=Source(
        needed=("order_id", "sku", "qty_ordered", "price"),
        columns={
            "number": "order_id",
            "sku": "sku",
            "quantity": "qty_ordered",
            "unit_price": "price",
            "discount_amount": "discount_amount",
            "cancelled_quantity": "qty_canceled",
        },
        computed=("shipped_quantity", "line_tax", "line_taxes"),
        adapt=adapt_each(_adapt_item),
    ),
    orders=Source(
        needed=("entity_id", "increment_id", "state", "created_at", "grand_total"),
        columns={
            "number": "entity_id",
            "new_number": "increment_id",
            "currency": "order_currency_code",
            "order_date": "created_at",
            "shipping": "shipping_amount",
            "shipping_tax": "shipping_tax_amount",
            "note": "customer_note",
        },
        computed=("customer", "ship_date", "cancelled", "order_total", "remark"),
        adapt=adapt_each(_adapt_order),
    ),
)
