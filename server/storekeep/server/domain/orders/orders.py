"""Orders: ordered lines at frozen prices and the fulfilment of each line; reading, listing and row encoding.

Invariant: on each line, ordered = open + fulfilled + cancelled units. In a state of `HOLDS_STOCK` exactly the open
units are allocated to the order. The total is the sum of the lines and the shipping, in one currency.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import OrderNotFound
from storekeep.server.domain.money import MINOR_DIGITS
from storekeep.server.domain.orders.states import EXPIRED, ORDER_STATES, PLACED
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens, check_batch
from storekeep.server.domain.standard.resources import decode_labels
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.listings import (
    choose_by_currency,
    compare_absent,
    compare_optional,
    select_json_member,
)
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store


class OrderLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A quantity of one SKU at a fixed price; see `OrderLine` in the contract."""

    line_number: int
    sku: str
    display_name: str
    quantity: int
    unit_price_minor: int
    subtotal_minor: int
    discount_minor: int = 0
    fulfilled: int = 0
    cancelled: int = 0
    returned: int = 0

    @property
    def open(self) -> int:
        """Return the units that are neither fulfilled nor cancelled."""
        return self.quantity - self.fulfilled - self.cancelled

    @property
    def total_minor(self) -> int:
        """Return the price of the units that are not cancelled, less the discount, in minor units."""
        return (self.quantity - self.cancelled) * self.unit_price_minor - self.discount_minor


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order; see `Order` in the contract. All amounts are in `currency_code`.

    Audit entries hold orders as JSON. Fields with a default were added later: old entries lack them, and new entries
    omit them at the default. `change_reason` is the reason for the last change, stored in the audit entry only.
    """

    id: str
    customer_id: str
    state: str
    currency_code: str
    total_minor: int
    location_id: str
    shipping_address: Address | None
    external_reference: str
    note: str
    cancel_reason: str
    version: int
    create_time_us: int
    update_time_us: int
    number: str = ""
    shipping_minor: int = 0
    expire_time_us: int | None = None
    held: bool = False
    hold_reason: str = ""
    billing_address: Address | None = None
    email: str = ""
    phone: str = ""
    labels: dict[str, str] = {}
    ship_by_time_us: int | None = None
    deliver_by_time_us: int | None = None
    source: str = ""
    unique_reference: bool = False
    lines: tuple[OrderLine, ...] = ()
    change_reason: str = ""

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"orders/{self.id}"


ROWS = Rows(
    store.Order,
    columns=(
        "id",
        "customer",
        "state",
        "currency_code",
        "total_minor",
        "location",
        "shipping_address",
        "external_reference",
        "note",
        "cancel_reason",
        "version",
        "create_time_us",
        "update_time_us",
        "number",
        "shipping_minor",
        "expire_time_us",
        "held",
        "hold_reason",
        "billing_address",
        "email",
        "phone",
        "labels",
        "ship_by_time_us",
        "deliver_by_time_us",
        "source",
        "unique_reference",
    ),
    key=("id",),
)
ADDRESS_COLUMN = ROWS.columns.index("shipping_address")
REFERENCE_COLUMN = ROWS.columns.index("external_reference")
FLAG_COLUMNS = (ROWS.columns.index("held"), ROWS.columns.index("unique_reference"))
BILLING_COLUMN = ROWS.columns.index("billing_address")
LABELS_COLUMN = ROWS.columns.index("labels")
NO_ADDRESS = "null"
DELIVERED_BEFORE_SHIPPED = "must not be before ship_by_time"
"""The problem with promised times for which `is_reversed` holds."""
decode_address = msgspec.json.Decoder(Address | None).decode
decode_order = msgspec.json.Decoder(Order).decode


def build_row_values(order: Order) -> dict[str, object]:
    """Return the column values of an order's row."""
    values = dict(zip(ROWS.columns, msgspec.structs.astuple(order)[: len(ROWS.columns)], strict=True))
    address = order.shipping_address
    values["shipping_address"] = NO_ADDRESS if address is None else msgspec.json.encode(address).decode()
    values["external_reference"] = order.external_reference or None
    if order.billing_address is not None:
        values["billing_address"] = msgspec.json.encode(order.billing_address).decode()
    values["labels"] = msgspec.json.encode(order.labels).decode() if order.labels else None
    return values


def insert_orders(tx: Transaction, orders: Sequence[Order]) -> None:
    """Insert orders and their lines in bulk."""
    ROWS.insert_many(tx, [build_row_values(order) for order in orders])
    lines = [(order.id, *_line_values(line)) for order in orders for line in order.lines]
    store.INSERT_LINES.run_deferred(tx, lines)


def insert_lines(tx: Transaction, order_id: str, lines: Sequence[OrderLine]) -> None:
    """Insert lines of an order."""
    store.INSERT_LINES.run_deferred(tx, [(order_id, *_line_values(line)) for line in lines])


def update_lines(tx: Transaction, order_id: str, lines: Sequence[OrderLine]) -> None:
    """Update lines of an order."""
    changed = msgspec.json.encode([_line_values(line) for line in lines]).decode()
    store.UPDATE_LINES.run(tx, order_id=order_id, rows=changed)


def _line_values(line: OrderLine) -> tuple[object, ...]:
    """Return the values of a line in column order, followed by its total."""
    return (*msgspec.structs.astuple(line), line.total_minor)


def cancel_all_lines(old: Order, *, state: str, reason: str = "") -> Order:
    """Return an order with all units cancelled and a total of 0, in state CANCELLED or EXPIRED.

    Args:
        old: an order with no shipped units.
        state: the new state.
    """
    lines = tuple(replace(line, cancelled=line.quantity, discount_minor=0) for line in old.lines)
    return replace(
        old,
        state=state,
        cancel_reason=reason,
        lines=lines,
        shipping_minor=0,
        total_minor=0,
        held=False,
        hold_reason="",
    )


def is_reversed(ship_by_time_us: int | None, deliver_by_time_us: int | None) -> bool:
    """Return whether the promised delivery is before the promised shipment."""
    return ship_by_time_us is not None and deliver_by_time_us is not None and deliver_by_time_us < ship_by_time_us


def apply_expiry(order: Order, now_us: int) -> Order:
    """Return the order as EXPIRED from its expiry time on, even before the expiry is written."""
    expired = order.state == PLACED and order.expire_time_us is not None and order.expire_time_us <= now_us
    return cancel_all_lines(order, state=EXPIRED) if expired else order


def find_order(tx: Transaction, order_id: str) -> Order:
    """Return an order with its lines. An order past its expiry time is EXPIRED.

    Raises: OrderNotFound.
    """
    row = ROWS.find(tx, (order_id,))
    if row is None:
        raise OrderNotFound(f"orders/{order_id}")
    lines = tuple(OrderLine(*line) for line in store.FIND_LINES_OF_ORDER.all(tx, order_id=order_id))
    return apply_expiry(_build_order(row, lines), tx.now_us)


def _build_order(row: Sequence[object], lines: tuple[OrderLine, ...]) -> Order:
    values = list(row)
    address = values[ADDRESS_COLUMN]
    values[ADDRESS_COLUMN] = None if address == NO_ADDRESS else decode_address(str(address))
    values[REFERENCE_COLUMN] = values[REFERENCE_COLUMN] or ""
    for column in FLAG_COLUMNS:
        values[column] = bool(values[column])
    billing_address, labels = values[BILLING_COLUMN], values[LABELS_COLUMN]
    if billing_address is not None:
        values[BILLING_COLUMN] = decode_address(str(billing_address))
    values[LABELS_COLUMN] = {} if labels is None else decode_labels(str(labels))
    return Order(*values, lines)  # type: ignore[call-arg,arg-type]  # a row has the columns' types


def read_orders(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Build orders with their lines from rows. An order past its expiry time is EXPIRED."""
    return [apply_expiry(order, tx.now_us) for order in read_stored_rows(tx, rows)]


def read_stored_rows(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Build orders in their stored state from rows. One further statement reads their lines."""
    order_ids = msgspec.json.encode([row[0] for row in rows]).decode()
    lines: dict[str, list[OrderLine]] = defaultdict(list)
    for order_id, *line in store.FIND_LINES.all(tx, order_ids=order_ids):
        lines[order_id].append(OrderLine(*line))
    return [_build_order(row, tuple(lines[str(row[0])])) for row in rows]


def get_order(db: Store, order_id: str) -> Order:
    """Return an order with its lines.

    Raises: OrderNotFound.
    """
    return db.snapshot(lambda tx: find_order(tx, order_id))


def batch_get_orders(db: Store, order_ids: Sequence[str]) -> list[Order]:
    """Return orders from one snapshot, in the order of the ids.

    Raises: OrderNotFound, for the first that is missing; BatchTooLarge.
    """
    keys = [(order_id,) for order_id in order_ids]
    orders = db.snapshot(lambda tx: read_orders(tx, ROWS.find_many(tx, keys)))
    existing = {order.id for order in orders}
    for order_id in order_ids:
        if order_id not in existing:
            raise OrderNotFound(f"orders/{order_id}")
    check_batch(orders)
    return orders


def list_orders(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Order]:
    """Return one page of orders.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    listing = LISTING if request.wants("lines") else LISTING_WITHOUT_LINES
    return db.snapshot(lambda tx: listing.page(tx, request, tokens=tokens))


def _to_minor_units(major: Decimal) -> object:
    """Return the SQL expression that converts a total in major units to the minor unit of each order's currency."""
    by_digits = {digits: _to_number(major.scaleb(digits)) for digits in set(MINOR_DIGITS.values())}
    return choose_by_currency(store.Order.currency_code, MINOR_DIGITS, by_digits)


def _to_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _make_time_column(column: Any) -> Column:
    """Return the column of a time that most orders do not have."""
    return Column(
        column,
        FilterField(Kind.TIME),
        matches=lambda operation, value, _: compare_optional(column, operation, value),
    )


LISTING = Listing(
    method="ListOrders",
    query=lambda: store.Order.select(*ROWS.fields),
    columns={
        "customer": Column(store.Order.customer, FilterField(Kind.TEXT, prefix="customers/")),
        "state": Column(
            store.Order.state,
            FilterField(Kind.STATE, choices=ORDER_STATES, prefix="ORDER_STATE_"),
            matches=store.compare_state,
        ),
        "currency_code": Column(store.Order.currency_code, FilterField(Kind.TEXT)),
        "total": Column(store.Order.total_minor, FilterField(Kind.DECIMAL), sortable=True, store=_to_minor_units),
        "external_reference": Column(
            store.Order.external_reference,
            FilterField(Kind.TEXT),
            matches=lambda operation, value, _: compare_absent(store.Order.external_reference, operation, value),
        ),
        "source": Column(store.Order.source, FilterField(Kind.TEXT)),
        "number": Column(store.Order.number, FilterField(Kind.TEXT)),
        "held": Column(store.Order.held, FilterField(Kind.BOOLEAN)),
        "lines.sku": Column(None, FilterField(Kind.ELEMENT), matches=store.match_line_sku),
        "shipping_address.region_code": Column(
            select_json_member(store.Order.shipping_address, "region_code"), FilterField(Kind.TEXT)
        ),
        "customer.email": Column(None, FilterField(Kind.TEXT), matches=store.compare_customer_email),
        "email": Column(store.Order.email, FilterField(Kind.TEXT)),
        "phone": Column(store.Order.phone, FilterField(Kind.TEXT)),
        "ship_by_time": _make_time_column(store.Order.ship_by_time_us),
        "deliver_by_time": _make_time_column(store.Order.deliver_by_time_us),
        "labels": Column(store.Order.labels, FilterField(Kind.MAP)),
        "create_time": Column(store.Order.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Order.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Order.id,),
    read_rows=read_orders,
    default_order="create_time desc",
)
CUSTOMER_FIELDS = frozenset({"customer.email"})
"""Fields of a filter that tell about the customer, for callers who may read customers."""
LISTING_WITHOUT_LINES = dataclasses.replace(
    LISTING, read_rows=lambda tx, rows: [apply_expiry(_build_order(row, ()), tx.now_us) for row in rows]
)
"""The same list for callers that do not want the lines, which saves reading them."""
