"""Two published data sets: the Brazilian shop Olist in several files, and the British shop Online Retail in one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from storekeep.cli.imports.formats.sources import Format, JoinTable, Source, adapt_each, add_cells
from storekeep.cli.imports.formats.woocommerce import SHIP_DATE
from storekeep.imports.rows import AnyRow, BadRow, Row, SkippedRow

CANCELLED = frozenset({"canceled", "unavailable"})
SHIPPED = frozenset({"shipped", "delivered"})
DELIVERY_DATE = "it has no date of handover to the carrier, so its delivery date counts as its ship date"
_DECIMAL_ID = re.compile(r"([0-9]+)\.0")


def _adapt_olist_product(row: Row) -> AnyRow:
    category = row.cells.get("product_category_name", "")
    product_id = row.cells.get("product_id", "")
    return add_cells(row, name=f"{category or 'product'} {product_id[:8]}", category=category)


def adapt_olist_orders(rows: Iterable[Row | BadRow], customers: JoinTable) -> Iterator[AnyRow]:
    """Yield the orders, each with its person and address if the file of customers was joined."""
    for row in rows:
        yield _adapt_olist_order(row, customers) if isinstance(row, Row) else row


def _adapt_olist_order(row: Row, customers: JoinTable) -> AnyRow:
    cells, status = row.cells, row.cells.get("order_status", "")
    handed_over, delivered = cells.get("order_delivered_carrier_date"), cells.get("order_delivered_customer_date")
    remark = None
    ship_date = handed_over
    if status in SHIPPED and handed_over is None:
        ship_date, remark = (
            (delivered, DELIVERY_DATE) if delivered else (cells.get("order_purchase_timestamp"), SHIP_DATE)
        )
    joined = customers.find(cells.get("customer_id", ""))
    if joined is None and not customers.is_empty:
        reason = f"customer_id: {cells.get('customer_id', '')!r} is not in the file of --join"
        return BadRow(row.line, reason, key=cells.get("order_id", ""))
    return add_cells(
        Row(row.line, {**cells, **(joined or {})}),
        customer=None if joined else cells.get("customer_id"),
        ship_date=ship_date if status in SHIPPED else None,
        cancelled="yes" if status in CANCELLED else None,
        remark=remark,
    )


def _adapt_olist_item(row: Row) -> AnyRow:
    return add_cells(row, quantity="1")


def _adapt_retail_product(row: Row) -> AnyRow:
    return row if "Description" in row.cells else SkippedRow(row.line)


def _adapt_retail_line(row: Row) -> AnyRow:
    return add_cells(row, customer=_read_customer(row))


def _adapt_retail_customer(row: Row) -> AnyRow:
    customer = _read_customer(row)
    return add_cells(row, id=customer, name=None if customer is None else f"Customer {customer}")


def _read_customer(row: Row) -> str | None:
    """Return the id of the customer of a row. Some copies of the file write it as a number with a decimal point."""
    text = row.cells.get("CustomerID") or row.cells.get("Customer ID")
    match = None if text is None else _DECIMAL_ID.fullmatch(text)
    return match[1] if match else text


OLIST = Format(
    "olist",
    "The data set Olist: olist_order_items_dataset.csv, with --orders olist_orders_dataset.csv and "
    "--join olist_customers_dataset.csv.",
    products=Source(
        needed=("product_id", "product_category_name"),
        columns={"sku": "product_id", "weight_g": "product_weight_g"},
        computed=("name", "category"),
        adapt=adapt_each(_adapt_olist_product),
    ),
    customers=Source(
        needed=("customer_id", "customer_unique_id"),
        columns={
            "id": "customer_unique_id",
            "name": "customer_unique_id",
            "city": "customer_city",
            "region": "customer_state",
            "postal_code": "customer_zip_code_prefix",
        },
        constants={"country": "BR"},
        distinct=True,
    ),
    lines=Source(
        needed=("order_id", "product_id", "price", "freight_value"),
        columns={
            "number": "order_id",
            "sku": "product_id",
            "unit_price": "price",
            "line_shipping": "freight_value",
        },
        computed=("quantity",),
        adapt=adapt_each(_adapt_olist_item),
    ),
    orders=Source(
        needed=("order_id", "customer_id", "order_status", "order_purchase_timestamp"),
        columns={"number": "order_id", "order_date": "order_purchase_timestamp"},
        constants={"currency": "BRL"},
        computed=("customer", "ship_date", "cancelled", "city", "region", "postal_code", "country", "remark"),
        adapt=adapt_olist_orders,
    ),
    join=Source(
        needed=("customer_id", "customer_unique_id"),
        columns={
            "key": "customer_id",
            "customer": "customer_unique_id",
            "city": "customer_city",
            "region": "customer_state",
            "postal_code": "customer_zip_code_prefix",
        },
        constants={"country": "BR"},
    ),
    time_zone="America/Sao_Paulo",
)
ONLINE_RETAIL = Format(
    "online-retail",
    "The data set Online Retail of UCI. Rows without a customer belong to the customer `guest`.",
    products=Source(
        needed=("StockCode", "Description"),
        columns={"sku": "StockCode", "name": "Description"},
        adapt=adapt_each(_adapt_retail_product),
        distinct=True,
    ),
    customers=Source(
        needed=("CustomerID",),
        constants={"id": "guest", "name": "Guest"},
        computed=("id", "name"),
        adapt=adapt_each(_adapt_retail_customer),
        distinct=True,
    ),
    lines=Source(
        needed=("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"),
        columns={
            "number": "InvoiceNo",
            "sku": "StockCode",
            "quantity": "Quantity",
            "unit_price": "UnitPrice",
            "order_date": "InvoiceDate",
            "ship_date": "InvoiceDate",
        },
        constants={"customer": "guest", "currency": "GBP"},
        computed=("customer",),
        adapt=adapt_each(_adapt_retail_line),
    ),
    date_formats=("%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M"),
    time_zone="Europe/London",
    shipping_skus=frozenset({"POST", "DOT", "C2"}),
    cancel_negative=True,
)
