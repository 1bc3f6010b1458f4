"""WooCommerce's export of products, and that of its extension Customer/Order/Coupon Export with a row per item."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from storekeep.cli.imports.formats.shopify import REFUND, make_customer_id
from storekeep.cli.imports.formats.sources import (
    Cells,
    Format,
    JoinTable,
    RejectedRows,
    Source,
    adapt_each,
    adapt_groups,
    add_cells,
    format_cell,
    parse_number,
    require_number,
    split_evenly,
    split_price,
)
from storekeep.cli.imports.taxes import NamedTax, format_taxes, read_percent, split_rate
from storekeep.imports.ids import make_id
from storekeep.imports.rows import AnyRow, BadRow, Row, SkippedRow

GRAMS = {"g": Decimal(1), "kg": Decimal(1000), "lbs": Decimal("453.59237"), "oz": Decimal("28.349523125")}
"""Grams by the unit in the header of the weight."""
SOLD_TYPES = frozenset({"simple", "variation"})
PARENTS_MAX = 100_000
"""Maximum variable products whose names are kept for their variations."""
NAMES = ("title", "label")
"""The members of an entry of `tax_items` that may name the tax."""
_RESERVED = re.compile(r"\\([:|;])|([:|;])")
"""A reserved character in a cell of entries: escaped, or as it separates them."""
_SEPARATORS = {";": "\x1c", "|": "\x1d", ":": "\x1e"}
"""Stand for the reserved characters that separate entries, members, and the name of a member from its value."""
SHIPPED = frozenset({"completed", "refunded"})
OPEN = frozenset({"processing", "on-hold"})
CANCELLED = frozenset({"cancelled"})
CENT = Decimal("0.01")
SHIP_DATE = "it has no ship date, so its order date counts as one"


def adapt_products(rows: Iterable[Row | BadRow], _: JoinTable) -> Iterator[AnyRow]:
    """Yield a row for each simple product and each variation, which has the name and category of its parent."""
    parents: dict[str, Cells] = {}
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        types = {part.strip() for part in row.cells.get("Type", "").split(",")}
        if "variable" in types and len(parents) < PARENTS_MAX:
            parents[f"id:{row.cells.get('ID', '')}"] = row.cells
            parents[row.cells.get("SKU", "")] = row.cells
        if not types & SOLD_TYPES:
            yield SkippedRow(row.line)
            continue
        parent = parents.get(row.cells.get("Parent", "")) if "variation" in types else row.cells
        if parent is None:
            yield BadRow(row.line, f"its parent {row.cells.get('Parent', '')!r} is not above it in the file")
            continue
        try:
            yield _adapt_product(row, parent)
        except RejectedRows as error:
            yield BadRow(row.line, str(error))


def _adapt_product(row: Row, parent: Cells) -> Row:
    cells = row.cells
    is_variation = parent is not cells
    category = parent.get("Categories", "").partition(",")[0].rpartition(" > ")[2].strip()
    attributes = {
        f"option.{cells[name]}": cells[f"Attribute {number} value(s)"]
        for number in range(1, 10)
        if is_variation and (name := f"Attribute {number} name") in cells and f"Attribute {number} value(s)" in cells
    }
    values = {
        "id": make_id(parent.get("SKU") or f"woo-{parent.get('ID', '')}") if is_variation else "",
        "name": parent.get("Name", ""),
        "variant_name": cells.get("Name", "") if is_variation else "",
        "description": parent.get("Description", "").replace("\\n", "\n"),
        "category": category,
        "discontinued": "no" if parent.get("Published") == "1" else "yes",
        "weight_g": _read_weight(cells),
        "barcode": cells.get("GTIN, UPC, EAN, or ISBN", ""),
        **attributes,
    }
    return Row(row.line, {**cells, **{target: value for target, value in values.items() if value}})


def _read_weight(cells: Cells) -> str:
    """Return the weight in grams, rounded to whole grams; empty if there is none.

    Raises: RejectedRows.
    """
    for unit, grams in GRAMS.items():
        weight = parse_number(cells, f"Weight ({unit})")
        if weight is not None:
            return format_cell((weight * grams).quantize(Decimal(1)))
    return ""


def _adapt_items(rows: Sequence[Row]) -> Iterator[AnyRow]:
    """Yield the lines of an order, each or the reason why its order cannot be imported."""
    taxes = _read_taxes(rows)
    for row, tax in zip(rows, taxes, strict=True):
        try:
            yield _convert_item(row, tax=tax)
        except RejectedRows as error:
            yield BadRow(row.line, str(error), key=row.cells["order_number"])


def _read_taxes(rows: Sequence[Row]) -> Sequence[Decimal]:
    """Return the tax of each item.

    The file rounds each. If their sum differs from the taxes of the order by that, these are split in proportion.

    Raises: RejectedRows.
    """
    first = rows[0].cells
    taxes = [parse_number(row.cells, "item_total_tax") or Decimal() for row in rows]
    total = parse_number(first, "tax_total") or Decimal()
    expected = total - (parse_number(first, "shipping_tax_total") or Decimal())
    difference = abs(expected - sum(taxes, Decimal()))
    if not difference or min([expected, *taxes]) < 0 or difference > CENT * len(rows) or not any(taxes):
        return taxes
    return split_evenly(expected, taxes, currency=first.get("order_currency", ""))


def _convert_item(row: Row, *, tax: Decimal) -> Row:
    cells = row.cells
    status = cells.get("status", "").removeprefix("wc-")
    if status not in SHIPPED | OPEN | CANCELLED:
        raise RejectedRows(f"status: {status!r} is not an order that was paid: {', '.join(sorted(SHIPPED | OPEN))}")
    subtotal, total = require_number(cells, "item_subtotal"), require_number(cells, "item_total")
    quantity = require_number(cells, "item_quantity")
    if quantity != quantity.to_integral_value() or quantity < 1 or total > subtotal:
        raise RejectedRows("item_quantity is not 1 or more, or item_total is more than item_subtotal")
    if parse_number(cells, "fee_total"):
        raise RejectedRows("fee_total: fees are not imported")
    price = split_price(subtotal, int(quantity))
    remarks = [REFUND] if parse_number(cells, "refunded_total") or status == "refunded" else []
    remarks += [SHIP_DATE] if status in SHIPPED and "completed_date" not in cells else []
    return add_cells(
        row,
        unit_price=price,
        discount_amount=price * quantity - total,
        customer=make_customer_id(cells.get("billing_email")),
        ship_date=cells.get("completed_date") or cells.get("date") if status in SHIPPED else None,
        cancelled="yes" if status in CANCELLED else None,
        line_tax=tax,
        line_taxes=name_tax(cells, tax),
        order_total=require_number(cells, "order_total"),
        region=cells.get("shipping_state"),
        remark="; ".join(remarks),
        recipient=_read_full_name(cells, "shipping"),
    )


def name_tax(cells: Cells, tax: Decimal) -> str | None:
    """Return the tax of an item with its name; None if the order has no name of a tax, or several.

    A title often has no rate. Other exporters, which use `label`, write `rate_percent` beside it.
    """
    items = _parse_items(cells.get("tax_items", ""))
    if len(items) != 1 or tax <= 0:
        return None
    name = next((items[0][key] for key in NAMES if items[0].get(key)), "")
    if not name:
        return None
    title, rate_ppm = split_rate(name)
    return format_taxes([NamedTax(title, rate_ppm or read_percent(items[0].get("rate_percent", "")), tax)])


def _parse_items(cell: str) -> list[Mapping[str, str]]:
    """Return the entries of a cell by member, as the extension writes them: delimited by pipes, or in JSON.

    Such as `id:7|code:DE-VAT-1|title:VAT 19%|total:3.80|compound:`, separated by semicolons; a reserved character in a
    value is escaped with a backslash. A cell of another form has no entries.
    """
    if cell.startswith("["):
        return _parse_json_items(cell)
    marked = _RESERVED.sub(lambda match: match[1] or _SEPARATORS[match[2]], cell)
    entries = [entry for entry in marked.split(_SEPARATORS[";"]) if entry.strip()]
    return [
        {
            name.strip(): value.strip()
            for name, _, value in [member.partition(_SEPARATORS[":"]) for member in entry.split(_SEPARATORS["|"])]
        }
        for entry in entries
    ]


def _parse_json_items(cell: str) -> list[Mapping[str, str]]:
    try:
        items = json.loads(cell)
    except (ValueError, RecursionError):
        return []
    return [
        {name: value for name, value in item.items() if isinstance(value, str)}
        for item in items
        if isinstance(item, dict)
    ]


def _read_full_name(cells: Cells, part: str) -> str:
    names = (cells.get(f"{part}_first_name", ""), cells.get(f"{part}_last_name", ""))
    return cells.get(f"{part}_full_name") or " ".join(filter(None, names))


def _adapt_customer(row: Row) -> AnyRow:
    email = row.cells.get("billing_email")
    if email is None:
        return SkippedRow(row.line)
    name = _read_full_name(row.cells, "billing")
    recipient = name if "billing_address_1" in row.cells else None
    return add_cells(row, id=make_customer_id(email), name=name or email, recipient=recipient)


PRODUCTS = Format(
    "woocommerce-products",
    "Products, as WooCommerce exports them.",
    products=Source(
        needed=("Type", "SKU", "Name", "Regular price"),
        columns={"sku": "SKU", "price": "Regular price", "stock": "Stock"},
        computed=(
            *("id", "name", "variant_name", "description", "category", "discontinued", "weight_g", "barcode"),
            "option.",
        ),
        adapt=adapt_products,
    ),
)
ORDERS = Format(
    "woocommerce-orders",
    "Orders and their customers, as Customer/Order/Coupon Export writes them with one row per item.",
    customers=Source(
        needed=("order_number", "billing_email"),
        columns={
            "email": "billing_email",
            "phone": "billing_phone",
            "organization": "billing_company",
            "address": "billing_address_1",
            "address2": "billing_address_2",
            "city": "billing_city",
            "region": "billing_state",
            "postal_code": "billing_postcode",
            "country": "billing_country",
        },
        computed=("id", "name", "recipient"),
        adapt=adapt_each(_adapt_customer),
        distinct=True,
    ),
    lines=Source(
        needed=("order_number", "date", "status", "item_sku", "item_quantity", "item_subtotal", "item_total"),
        columns={
            "number": "order_number",
            "sku": "item_sku",
            "quantity": "item_quantity",
            "currency": "order_currency",
            "order_date": "date",
            "shipping": "shipping_total",
            "shipping_tax": "shipping_tax_total",
            "note": "customer_note",
            "organization": "shipping_company",
            "address": "shipping_address_1",
            "address2": "shipping_address_2",
            "city": "shipping_city",
            "postal_code": "shipping_postcode",
            "country": "shipping_country",
        },
        computed=(
            *("unit_price", "discount_amount", "customer", "ship_date", "cancelled", "order_total", "region"),
            *("remark", "recipient", "line_tax", "line_taxes"),
        ),
        adapt=adapt_groups(_adapt_items, key="order_number"),
    ),
)
