"""Shopify's exports of products and orders.

The rows of a product or an order follow each other. Only the first has the values of the whole: the title of a product,
the date and the totals of an order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from storekeep.cli.imports.formats.sources import (
    Cells,
    Format,
    JoinTable,
    RejectedRows,
    Source,
    adapt_each,
    adapt_groups,
    add_cells,
    parse_number,
    require_number,
    split_evenly,
)
from storekeep.cli.imports.taxes import NamedTax, format_taxes, split_rate
from storekeep.imports.ids import make_id, make_unique_id
from storekeep.imports.rows import AnyRow, BadRow, Row, SkippedRow

OPTIONS = ("Option1", "Option2", "Option3")
NO_OPTION = ("Title", "Default Title")
"""Name and value of the option of a product without variants."""
DRAFT = "draft"
STATES = {"active": "no", "archived": "yes", DRAFT: ""}
"""Whether a product is discontinued, by its status; empty for a draft, which is neither on sale nor archived."""
FULFILLED, PARTIAL = "fulfilled", "partial"
TAX_COLUMNS = 5
"""The taxes of an order that the file names."""
TAX_SPLIT = "its taxes are split over its taxable lines, because the file has only their sum"
REFUND = "its refund is not imported"


def adapt_products(rows: Iterable[Row | BadRow], _: JoinTable) -> Iterator[AnyRow]:
    """Yield a row for each variant, with the values of its product. Rows with an image only are skipped."""
    first: Cells = {}
    for row in rows:
        if isinstance(row, BadRow):
            first = {}
            yield row
            continue
        if row.cells.get("Handle") != first.get("Handle") or "Title" in row.cells:
            first = row.cells
        if not {"Variant SKU", "Variant Price", "Option1 Value"}.intersection(row.cells):
            yield SkippedRow(row.line)
        elif "Title" not in first or "Handle" not in row.cells:
            yield BadRow(row.line, "the row with the title of its product is missing or cannot be read")
        else:
            yield _adapt_variant(row, first)


def _adapt_variant(row: Row, first: Cells) -> Row:
    pairs = {
        first[f"{option} Name"]: row.cells[f"{option} Value"]
        for option in OPTIONS
        if f"{option} Name" in first and f"{option} Value" in row.cells
    }
    if tuple(pairs.items()) == (NO_OPTION,):
        pairs = {}
    status = first.get("Status", "active")
    values = {
        "sku": row.cells.get("Variant SKU", "").removeprefix("'"),
        "id": make_id(first["Handle"]),
        "name": first["Title"],
        "description": first.get("Body (HTML)", ""),
        "category": first.get("Type") or first.get("Product Category", "").rpartition(" > ")[2],
        "discontinued": STATES.get(status.lower(), status),
        "draft": "yes" if status.lower() == DRAFT else "no" if status.lower() == "active" else "",
        "label.vendor": first.get("Vendor", ""),
        "barcode": row.cells.get("Variant Barcode", "").removeprefix("'"),
        **{f"option.{name}": value for name, value in pairs.items()},
    }
    return Row(row.line, {**row.cells, **{target: value for target, value in values.items() if value}})


def adapt_order(rows: Sequence[Row]) -> Iterator[AnyRow]:
    """Yield the lines of one order.

    Raises: RejectedRows.
    """
    first = rows[0].cells
    lines = [row for row in rows if "Lineitem quantity" in row.cells]
    yield from (SkippedRow(row.line) for row in rows if "Lineitem quantity" not in row.cells)
    is_cancelled = "Cancelled at" in first
    discounts: Sequence[Decimal] = [Decimal()] * len(lines)
    taxes, named = discounts, [""] * len(lines)
    order = _adapt_order_values(first, is_cancelled=is_cancelled)
    if not is_cancelled:
        discounts = _split_discounts(first, lines)
        taxes, order["shipping_tax"], named = _split_taxes(first, lines, discounts)
    for row, discount, tax, names in zip(lines, discounts, taxes, named, strict=True):
        shipped = _read_shipped(row.cells, first)
        line = add_cells(row, discount_amount=discount, line_tax=tax, line_taxes=names, shipped_quantity=shipped)
        yield add_cells(line, **order) if row is lines[0] else line


def _adapt_order_values(first: Cells, *, is_cancelled: bool) -> dict[str, str | Decimal | None]:
    """Return the order-level values."""
    remarks = []
    total = None
    is_included = False
    if not is_cancelled:
        net = require_number(first, "Subtotal") + (parse_number(first, "Shipping") or Decimal())
        taxes, total = parse_number(first, "Taxes") or Decimal(), require_number(first, "Total")
        if total not in (net, net + taxes):
            raise RejectedRows("Total is neither Subtotal and Shipping, nor these and Taxes")
        is_included = bool(taxes) and total == net
        remarks += [TAX_SPLIT] if taxes else []
        remarks += [REFUND] if parse_number(first, "Refunded Amount") else []
    is_shipped = first.get("Fulfillment Status") in (FULFILLED, PARTIAL) and not is_cancelled
    if is_shipped and "Fulfilled at" not in first:
        raise RejectedRows("Fulfilled at is missing")
    zip_code = first.get("Shipping Zip", "").removeprefix("'")
    return {
        "customer": make_customer_id(first.get("Email")),
        "ship_date": first["Fulfilled at"] if is_shipped else None,
        "cancelled": "yes" if is_cancelled else None,
        "order_total": total,
        "prices_include_tax": "yes" if is_included else None,
        "postal_code": zip_code,
        "address": first.get("Shipping Address1") or first.get("Shipping Street"),
        "remark": "; ".join(remarks),
    }


def _split_discounts(first: Cells, lines: Sequence[Row]) -> list[Decimal]:
    """Return the discount of each line: its own, and its share of the discount of the order.

    Raises: RejectedRows if prices, discounts and the subtotal do not add up.
    """
    gross = [
        require_number(row.cells, "Lineitem price") * require_number(row.cells, "Lineitem quantity") for row in lines
    ]
    own = [parse_number(row.cells, "Lineitem discount") or Decimal() for row in lines]
    stated = parse_number(first, "Discount Amount") or Decimal()
    total = sum(gross, Decimal()) - require_number(first, "Subtotal")
    shared = total - sum(own, Decimal())
    if shared < 0 or stated not in (total, shared):
        raise RejectedRows("its prices less its discounts are not its Subtotal")
    if not shared:
        return own
    weights = [price - discount for price, discount in zip(gross, own, strict=True)]
    if not any(weights):
        raise RejectedRows("a discount has no lines to apply to")
    shares = split_evenly(shared, weights, currency=first.get("Currency", ""))
    return [discount + share for discount, share in zip(own, shares, strict=True)]


def _split_taxes(
    first: Cells, lines: Sequence[Row], discounts: Sequence[Decimal]
) -> tuple[Sequence[Decimal], Decimal | None, list[str]]:
    """Return the tax of each line, that of the shipping if no taxable line costs anything, and the names of the first.

    Each tax that has a name is split by itself, if they add up to all taxes.

    Raises: RejectedRows.
    """
    total = parse_number(first, "Taxes") or Decimal()
    weights = [
        Decimal()
        if row.cells.get("Lineitem taxable", "").lower() == "false"
        else require_number(row.cells, "Lineitem price") * require_number(row.cells, "Lineitem quantity") - discount
        for row, discount in zip(lines, discounts, strict=True)
    ]
    if not any(weights):
        return [Decimal()] * len(lines), total, [""] * len(lines)
    currency = first.get("Currency", "")
    named = _read_named_taxes(first)
    if not named or sum([tax.amount for tax in named], Decimal()) != total or min(tax.amount for tax in named) < 0:
        return split_evenly(total, weights, currency=currency), None, [""] * len(lines)
    columns = [split_evenly(tax.amount, weights, currency=currency) for tax in named]
    parts = [
        [tax._replace(amount=amount) for tax, amount in zip(named, amounts, strict=True)]
        for amounts in zip(*columns, strict=True)
    ]
    texts = [format_taxes(own) if weight else "" for own, weight in zip(parts, weights, strict=True)]
    return [sum([tax.amount for tax in own], Decimal()) for own in parts], None, texts


def _read_named_taxes(first: Cells) -> list[NamedTax]:
    """Return the taxes of an order that have names. Raises: RejectedRows."""
    return [
        NamedTax(*split_rate(first[f"Tax {number} Name"]), parse_number(first, f"Tax {number} Value") or Decimal())
        for number in range(1, TAX_COLUMNS + 1)
        if f"Tax {number} Name" in first
    ]


def _read_shipped(cells: Cells, first: Cells) -> str | None:
    """Return the shipped units of a line of a partly fulfilled order, else None.

    Raises: RejectedRows.
    """
    if first.get("Fulfillment Status") != PARTIAL or "Cancelled at" in first:
        return None
    status = cells.get("Lineitem fulfillment status", "")
    if status == PARTIAL:
        raise RejectedRows("a line is partly fulfilled, and the file does not say how many of its units")
    return cells["Lineitem quantity"] if status == FULFILLED else "0"


def make_customer_id(email: str | None) -> str | None:
    """Return the id of the customer with an email address, or None without one."""
    return None if email is None else make_unique_id(email.lower())


def _adapt_customer(row: Row) -> AnyRow:
    cells = row.cells
    if "Email" not in cells or "Created at" not in cells:
        return SkippedRow(row.line)
    return add_cells(
        row,
        id=make_customer_id(cells["Email"]),
        name=cells.get("Billing Name") or cells.get("Shipping Name") or cells["Email"],
        email=cells["Email"],
        phone=cells.get("Phone") or cells.get("Billing Phone"),
        address=cells.get("Billing Address1") or cells.get("Billing Street"),
        postal_code=cells.get("Billing Zip", "").removeprefix("'"),
    )


PRODUCTS = Format(
    "shopify-products",
    "Products, as Shopify exports them.",
    products=Source(
        needed=("Handle", "Title", "Variant SKU"),
        columns={"price": "Variant Price", "weight_g": "Variant Grams", "stock": "Variant Inventory Qty"},
        computed=(
            "sku",
            "id",
            "name",
            "description",
            "category",
            "discontinued",
            "draft",
            "label.vendor",
            "barcode",
            "option.",
        ),
        adapt=adapt_products,
    ),
)
ORDERS = Format(
    "shopify-orders",
    "Orders and their customers, as Shopify exports them.",
    customers=Source(
        needed=("Name", "Email", "Created at"),
        columns={
            "organization": "Billing Company",
            "address2": "Billing Address2",
            "city": "Billing City",
            "region": "Billing Province",
            "country": "Billing Country",
        },
        computed=("id", "name", "email", "phone", "address", "postal_code"),
        adapt=adapt_each(_adapt_customer),
        distinct=True,
    ),
    lines=Source(
        needed=("Name", "Created at", "Lineitem quantity", "Lineitem price", "Lineitem sku", "Subtotal", "Total"),
        columns={
            "number": "Name",
            "sku": "Lineitem sku",
            "quantity": "Lineitem quantity",
            "unit_price": "Lineitem price",
            "currency": "Currency",
            "order_date": "Created at",
            "shipping": "Shipping",
            "note": "Notes",
            "recipient": "Shipping Name",
            "organization": "Shipping Company",
            "address2": "Shipping Address2",
            "city": "Shipping City",
            "region": "Shipping Province",
            "country": "Shipping Country",
        },
        computed=(
            *("customer", "ship_date", "cancelled", "order_total", "postal_code", "address", "remark"),
            *("discount_amount", "shipped_quantity", "line_tax", "line_taxes", "shipping_tax", "prices_include_tax"),
        ),
        adapt=adapt_groups(adapt_order, key="Name"),
    ),
    date_formats=("%Y-%m-%d %H:%M:%S %z",),
)
