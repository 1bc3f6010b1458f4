"""Lists as CSV files, with the filter of their page. No cell runs as a formula in a spreadsheet.

Columns that an import knows have the names of its targets, so that a file can be changed and imported.
"""

from __future__ import annotations

import csv
import io
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.client import (
    Customer,
    CustomerAddress,
    Listing,
    Money,
    Product,
    ProductState,
    Variant,
)
from storekeep.client.money import format_decimals
from storekeep.console import customers, orders, products, stock
from storekeep.console.coupons import KIND as COUPONS
from storekeep.console.prices import KIND as PRICES
from storekeep.console.rendering import get_state
from storekeep.console.requests import BadRequest, Reply, Request, Route
from storekeep.console.spellings import format_amount
from storekeep.imports.columns import LABEL_PREFIX, OPTION_PREFIX
from storekeep.imports.customers import ADDRESS_LABEL
from storekeep.imports.products import QUANTITY_RULES
from storekeep.imports.reports import escape_formula

ROWS_MAX = 20_000
"""Rows of a file. Above it, the file is refused instead of cut."""
PAIR_COLUMNS_MAX = 200
"""Columns of labels and options. Above it, the file is refused instead of cut."""
PAGE_SIZE = 1_000
RUNNING_MAX = 4
"""Files that are made at once: each holds a thread for seconds."""
BYTE_ORDER_MARK = "\ufeff"
"""Spreadsheets take a file without it for one of the encoding of their country."""
ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Export:
    """A list that can be exported.

    Attributes:
        columns: (header, cell) of each column.
        open_listing: return the items of the list that the address means.
        pairs: prefix of the headers of further columns, one for each key -> the pairs of an item.
    """

    name: str
    permission: str
    columns: Sequence[tuple[str, Callable[[Any], object]]]
    open_listing: Callable[[Request], Iterable[Any]]
    pairs: Mapping[str, Callable[[Any], Mapping[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProductRow:
    """A product with one of its variants; an empty one if it has none."""

    product: Product
    variant: Variant


def _format_time(time: Timestamp) -> str:
    return time.ToJsonString() if time.seconds or time.nanos else ""


def _format_money(money: Money) -> str:
    return format_decimals(money) if money.currency_code else ""


def _get_address(customer: Customer) -> CustomerAddress:
    """Return the address that an import changes by default, else the first one; an empty one if there is none."""
    addresses = customer.addresses
    return next((one for one in addresses if one.label == ADDRESS_LABEL), next(iter(addresses), CustomerAddress()))


def _list_orders(request: Request) -> Listing[Any]:
    client, text = request.session.client.orders, request.query["q"].strip()
    if text:
        return client.search(text, page_size=100, read_mask=orders.COLUMNS)
    order_by = request.query["order"] or "create_time desc"
    return client.list(
        filter=orders.build_filter(request.query), order_by=order_by, page_size=PAGE_SIZE, read_mask=orders.COLUMNS
    )


def _list_products(request: Request) -> Listing[Any]:
    client, text = request.session.client.products, request.query["q"].strip()
    if text:
        return client.search(text, page_size=100, show_archived=True, show_drafts=request.session.may("products.write"))
    return client.list(filter=products.build_filter(request.query), order_by="display_name", page_size=PAGE_SIZE)


def _list_variants(request: Request) -> Iterator[ProductRow]:
    """Yield the variants of the products that the address means, and products without one.

    The whole catalogue is read in pages; the variants of a selection are read product by product.
    """
    client = request.session.client.variants
    products = list(_take(_list_products(request)))
    is_selection = any(request.query[name].strip() for name in ("q", "state", "filter"))
    parents = [one.name for one in products] if is_selection else ["products/-"]
    variants: dict[str, list[Variant]] = defaultdict(list)
    for variant in _take(one for parent in parents for one in client.list(parent, page_size=PAGE_SIZE)):
        variants[variant.name.partition("/variants/")[0]].append(variant)
    for product in products:
        yield from (ProductRow(product, variant) for variant in variants.get(product.name, [Variant()]))


def _take(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """Yield the items. Raises: BadRequest if there are more than a file has rows."""
    for number, item in enumerate(items):
        if number == ROWS_MAX:
            raise BadRequest(f"More than {ROWS_MAX:,} rows match. Narrow the filter, or use the command line.")
        yield item


def _list_customers(request: Request) -> Listing[Any]:
    client, text = request.session.client.customers, request.query["q"].strip()
    if text:
        return client.search(text, page_size=100)
    return client.list(filter=request.query["filter"], order_by="create_time desc", page_size=PAGE_SIZE)


def _list_stock(request: Request) -> Listing[Any]:
    client, location = request.session.client.inventory, request.query["location"]
    if request.query["low"]:
        return client.list_low_stock(location=f"locations/{location}" if location else "", page_size=PAGE_SIZE)
    return client.list_stock_levels(
        f"locations/{location or '-'}", filter=stock.build_filter(request.query), order_by="sku", page_size=PAGE_SIZE
    )


def _list_coupons(request: Request) -> Listing[Any]:
    return request.session.client.coupons.list(filter=COUPONS.build_filter(request.query), page_size=PAGE_SIZE)


def _list_prices(request: Request) -> Listing[Any]:
    return request.session.client.prices.list(filter=PRICES.build_filter(request.query), page_size=PAGE_SIZE)


def _get_rule(rule: str, row: ProductRow) -> object:
    return getattr(row.variant.quantity_rules, rule) or ""


def _format_state(row: ProductRow, state: int) -> str:
    return "yes" if row.product.state == state else ""


EXPORTS = (
    Export(
        "orders",
        orders.READ,
        columns=(
            ("number", lambda one: one.number),
            ("placed", lambda one: _format_time(one.create_time)),
            ("state", lambda one: get_state(one.state, "OrderState")),
            ("held", lambda one: "yes" if one.held else ""),
            ("customer", lambda one: one.customer.removeprefix("customers/")),
            ("email", lambda one: one.email),
            ("reference", lambda one: one.external_reference),
            ("total", lambda one: _format_money(one.total)),
            ("currency", lambda one: one.total.currency_code),
        ),
        open_listing=_list_orders,
    ),
    Export(
        "products",
        products.READ,
        columns=(
            ("sku", lambda one: one.variant.sku),
            ("name", lambda one: one.product.display_name),
            ("id", lambda one: one.product.name.removeprefix("products/")),
            ("variant_name", lambda one: one.variant.display_name),
            ("description", lambda one: one.product.description),
            ("category", lambda one: one.product.category.removeprefix("categories/")),
            ("price", lambda one: _format_money(next(iter(one.variant.prices), Money()))),
            ("currency", lambda one: next(iter(one.variant.prices), Money()).currency_code),
            ("other_prices", lambda one: ", ".join(map(format_amount, one.variant.prices[1:]))),
            ("tax_class", lambda one: one.variant.tax_class),
            ("weight_g", lambda one: one.variant.weight_g or ""),
            ("barcode", lambda one: one.variant.barcode),
            *((rule, partial(_get_rule, rule)) for rule in QUANTITY_RULES),
            ("discontinued", lambda one: _format_state(one, ProductState.PRODUCT_STATE_ARCHIVED)),
            ("draft", lambda one: _format_state(one, ProductState.PRODUCT_STATE_DRAFT)),
            ("changed", lambda one: _format_time(one.product.update_time)),
        ),
        open_listing=_list_variants,
        pairs={LABEL_PREFIX: lambda one: one.product.labels, OPTION_PREFIX: lambda one: one.variant.options},
    ),
    Export(
        "customers",
        customers.READ,
        columns=(
            ("id", lambda one: one.name.removeprefix("customers/")),
            ("name", lambda one: one.display_name),
            ("email", lambda one: one.email),
            ("phone", lambda one: one.phone),
            ("company", lambda one: one.company),
            ("tax_id", lambda one: one.tax_id),
            ("language", lambda one: one.language_code),
            ("groups", lambda one: ", ".join(one.groups)),
            ("recipient", lambda one: _get_address(one).address.recipient),
            ("organization", lambda one: _get_address(one).address.organization),
            ("address", lambda one: "\n".join(_get_address(one).address.address_lines)),
            ("city", lambda one: _get_address(one).address.locality),
            ("region", lambda one: _get_address(one).address.administrative_area),
            ("postal_code", lambda one: _get_address(one).address.postal_code),
            ("country", lambda one: _get_address(one).address.region_code),
            ("address_label", lambda one: _get_address(one).label),
            ("since", lambda one: _format_time(one.create_time)),
        ),
        open_listing=_list_customers,
        pairs={LABEL_PREFIX: lambda one: one.labels},
    ),
    Export(
        "stock",
        stock.READ,
        columns=(
            ("sku", lambda one: one.sku),
            ("location", lambda one: one.name.split("/")[1]),
            ("quantity", lambda one: one.on_hand),
            ("reserved", lambda one: one.reserved),
            ("allocated", lambda one: one.allocated),
            ("available", lambda one: one.available),
        ),
        open_listing=_list_stock,
    ),
    Export(
        "coupons",
        COUPONS.read,
        columns=(
            ("code", lambda one: one.code),
            ("promotion", lambda one: one.promotion.removeprefix("promotions/")),
            ("uses", lambda one: one.uses),
            ("max_uses", lambda one: one.max_uses or ""),
            ("max_uses_per_customer", lambda one: one.max_uses_per_customer or ""),
            ("start_time", lambda one: _format_time(one.start_time)),
            ("end_time", lambda one: _format_time(one.end_time)),
        ),
        open_listing=_list_coupons,
    ),
    Export(
        "prices",
        PRICES.read,
        columns=(
            ("sku", lambda one: one.sku),
            ("price", lambda one: _format_money(one.amount)),
            ("currency", lambda one: one.amount.currency_code),
            ("id", lambda one: one.name.removeprefix("prices/")),
            ("group", lambda one: one.customer_group),
            ("minimum_quantity", lambda one: one.minimum_quantity or 1),
            ("start_time", lambda one: _format_time(one.start_time)),
            ("end_time", lambda one: _format_time(one.end_time)),
            ("compare_at", lambda one: _format_money(one.compare_at)),
            ("floor", lambda one: _format_money(one.floor)),
        ),
        open_listing=_list_prices,
    ),
)


def build_csv(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a CSV file as UTF-8."""
    text = io.StringIO()
    text.write(BYTE_ORDER_MARK)
    writer = csv.writer(text)
    writer.writerow(headers)
    writer.writerows([escape_formula(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _read_cells(kind: Export, items: Iterable[Any]) -> tuple[list[str], Iterator[list[object]]]:
    """Return the headers and the rows of a file, with a column for each key of the pairs.

    Raises: BadRequest if there are too many keys.
    """
    rows: list[list[object]] = []
    extras: list[dict[str, str]] = []
    keys: dict[str, None] = {}
    for item in items:
        rows.append([cell(item) for _, cell in kind.columns])
        pairs = {f"{prefix}{key}": text for prefix, read in kind.pairs.items() for key, text in read(item).items()}
        extras.append(pairs)
        keys |= dict.fromkeys(pairs)
        if len(keys) > PAIR_COLUMNS_MAX:
            raise BadRequest(f"More than {PAIR_COLUMNS_MAX} different labels or options. Narrow the filter.")
    names = sorted(keys)
    cells = ([*row, *(pairs.get(name, "") for name in names)] for row, pairs in zip(rows, extras, strict=True))
    return [header for header, _ in kind.columns] + names, cells


def export(request: Request, kind: Export, running: threading.BoundedSemaphore) -> Reply:
    """Return a list as a file. Raises: StorekeepError, BadRequest."""
    if not running.acquire(blocking=False):
        raise BadRequest("Other files are being made. Try again in a moment.", status=503)
    try:
        headers, rows = _read_cells(kind, _take(kind.open_listing(request)))
    finally:
        running.release()
    body = build_csv(headers, rows)
    return Reply(
        200,
        body,
        [
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", f'attachment; filename="{kind.name}.csv"'.encode()),
        ],
    )


def make_routes() -> tuple[Route, ...]:
    """Return the routes of a console, which makes a few files at once."""
    running = threading.BoundedSemaphore(RUNNING_MAX)
    return tuple(
        Route("GET", f"/export/{kind.name}", partial(export, kind=kind, running=running), kind.permission)
        for kind in EXPORTS
    )
