"""Orders: ordered lines at frozen prices and the fulfilment of each line; reading, listing and row encoding.

Invariant: on each line, ordered = open + fulfilled + cancelled units. In a state of `HOLDS_STOCK` exactly the open
units are allocated to the order. The total is the sum of the lines, the shipping, and tax that prices do not include.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from msgspec.structs import astuple, replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import OrderNotFound
from storekeep.server.domain.keys.personal_fields import (
    PersonalFields,
    compute_tokens,
    decrypt_resources,
    encrypt_resource,
    hide_address,
    hide_text,
    require_keys,
)
from storekeep.server.domain.money import MINOR_DIGITS
from storekeep.server.domain.orders.pricing import OrderPricing, hide_pricing
from storekeep.server.domain.orders.states import EXPIRED, ORDER_STATES, PLACED
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens, check_batch
from storekeep.server.domain.standard.resources import decode_labels
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.listings import (
    choose_by_currency,
    compare_absent,
    select_json_member,
)
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store
from storekeep.server.store.tables import quotes as quote_store


class OrderLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, cache_hash=True):
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
    tax_minor: int = 0

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

    PERSONAL: ClassVar = PersonalFields(
        {
            "shipping_address": hide_address,
            "note": hide_text,
            "cancel_reason": hide_text,
            "hold_reason": hide_text,
            "billing_address": hide_address,
            "email": hide_text,
            "phone": hide_text,
            "pricing": hide_pricing,
            "change_reason": hide_text,
        },
        find_subject=lambda _, order: f"customers/{order.customer_id}",
        tokens=("email", "phone"),
    )

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
    tax_minor: int = 0
    shipping_tax_minor: int = 0
    prices_include_tax: bool = False
    pricing: OrderPricing | None = None
    encrypted: str = ""
    language_code: str = ""
    lines: tuple[OrderLine, ...] = ()
    change_reason: str = ""

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"orders/{self.id}"

    @property
    def terms(self) -> OrderPricing | None:
        """Return the frozen terms; None for an order whose amounts are prorated."""
        return None if self.pricing is None or self.pricing.stated else self.pricing


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
        "tax_minor",
        "shipping_tax_minor",
        "prices_include_tax",
        "pricing",
        "encrypted",
        "language_code",
    ),
    key=("id",),
)
COLUMNS = len(ROWS.columns)
ADDRESS_COLUMN = ROWS.columns.index("shipping_address")
REFERENCE_COLUMN = ROWS.columns.index("external_reference")
FLAG_COLUMNS = tuple(ROWS.columns.index(name) for name in ("held", "unique_reference", "prices_include_tax"))
PRICING_COLUMN = ROWS.columns.index("pricing")
BILLING_COLUMN = ROWS.columns.index("billing_address")
LABELS_COLUMN = ROWS.columns.index("labels")
TOKEN_COLUMNS = {field: ROWS.columns.index(field) for field in Order.PERSONAL.tokens}
NO_ADDRESS = "null"
LINE_TERMS_MAX = 5
"""The most terms of a filter with `lines.sku`. Each reads the lines of every order, because none has an index."""
NEW_ORDERS = "new_orders"
"""The batch cache key for the orders that were inserted in bulk last: order id -> customer id."""
DELIVERED_BEFORE_SHIPPED = "must not be before ship_by_time"
"""The problem with promised times for which `is_reversed` holds."""
encode = msgspec.json.encode
decode_address = msgspec.json.Decoder(Address | None).decode
decode_pricing = msgspec.json.Decoder(OrderPricing).decode
decode_order = msgspec.json.Decoder(Order).decode


def build_row_values(tx: Transaction, resource: Order) -> dict[str, object]:
    """Return the column values of an order's row by column, with its personal data encrypted."""
    return dict(zip(ROWS.columns, _build_row(tx, resource), strict=True))


def _build_row(tx: Transaction, resource: Order) -> list[object]:
    """Return the values of an order's row, with its personal data encrypted."""
    order = encrypt_resource(tx, resource)
    row: list[object] = list(astuple(order)[:COLUMNS])
    address = order.shipping_address
    row[ADDRESS_COLUMN] = NO_ADDRESS if address is None else encode(address).decode()
    row[REFERENCE_COLUMN] = order.external_reference or None
    row[LABELS_COLUMN] = encode(order.labels).decode() if order.labels else None
    if order.billing_address is not None:
        row[BILLING_COLUMN] = encode(order.billing_address).decode()
    if order.pricing is not None:
        row[PRICING_COLUMN] = encode(order.pricing).decode()
    for field, token in compute_tokens(tx, resource).items():
        row[TOKEN_COLUMNS[field]] = token
    return row


def find_order_subject(tx: Transaction, part: Any) -> str:
    """Return the resource name of the person whom a part of an order, such as a note, belongs to."""
    known: dict[str, str] = tx.batch_cache.get(NEW_ORDERS, {})
    customer_id = known.get(part.order_id)
    if customer_id is None:
        (customer_id,) = store.FIND_CUSTOMER.one(tx, order_id=part.order_id)  # type: ignore[misc]  # the order exists
    return f"customers/{customer_id}"


def find_subject(tx: Transaction, resource: str) -> str:
    """Return the name of the person that a resource belongs to, by its name; empty if it belongs to none."""
    collection, _, rest = resource.partition("/")
    if collection == "quotes":
        row = quote_store.FIND_CUSTOMER.one(tx, quote_id=rest)
    elif collection == "orders":
        row = store.FIND_CUSTOMER.one(tx, order_id=rest.partition("/")[0])
    else:
        return resource if collection in ("customers", "reservations", "users") else ""
    return "" if row is None else f"customers/{row[0]}"


def insert_orders(tx: Transaction, orders: Sequence[Order]) -> None:
    """Insert orders and their lines in bulk."""
    require_keys(tx).ensure_keys(tx, sorted({f"customers/{order.customer_id}" for order in orders}))
    tx.batch_cache[NEW_ORDERS] = {order.id: order.customer_id for order in orders}
    ROWS.insert_many(tx, [build_row_values(tx, order) for order in orders])
    lines = [(order.id, *_line_values(line)) for order in orders for line in order.lines]
    store.INSERT_LINES.run_deferred(tx, lines)


def insert_order(tx: Transaction, order: Order) -> None:
    """Insert an order and its lines."""
    ROWS.insert_row(tx, _build_row(tx, order))
    insert_lines(tx, order.id, order.lines)


def insert_lines(tx: Transaction, order_id: str, lines: Sequence[OrderLine]) -> None:
    """Insert lines of an order."""
    store.INSERT_LINES.run_deferred(tx, [(order_id, *_line_values(line)) for line in lines])


def update_lines(tx: Transaction, order_id: str, lines: Sequence[OrderLine]) -> None:
    """Update lines of an order."""
    changed = encode([_line_values(line) for line in lines]).decode()
    store.UPDATE_LINES.run(tx, order_id=order_id, rows=changed)


def _line_values(line: OrderLine) -> tuple[object, ...]:
    """Return the values of a line in column order, followed by its total."""
    return (*astuple(line), line.total_minor)


def cancel_all_lines(old: Order, *, state: str, reason: str = "") -> Order:
    """Return an order with all units cancelled and a total of 0, in state CANCELLED or EXPIRED.

    Args:
        old: an order with no shipped units.
        state: the new state.
    """
    lines = tuple(replace(line, cancelled=line.quantity, discount_minor=0, tax_minor=0) for line in old.lines)
    return replace(
        old,
        state=state,
        cancel_reason=reason,
        lines=lines,
        shipping_minor=0,
        total_minor=0,
        tax_minor=0,
        shipping_tax_minor=0,
        pricing=None if old.pricing is None else old.pricing.clear(),
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
    (order,) = decrypt_resources(tx, [_build_order(row, lines)])
    return apply_expiry(order, tx.now_us)


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
    pricing = values[PRICING_COLUMN]
    if pricing is not None:
        values[PRICING_COLUMN] = decode_pricing(str(pricing))
    values[LABELS_COLUMN] = {} if labels is None else decode_labels(str(labels))
    return Order(*values, lines)  # type: ignore[call-arg,arg-type]  # a row has the columns' types


def read_orders(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Build orders with their lines from rows. An order past its expiry time is EXPIRED."""
    return [apply_expiry(order, tx.now_us) for order in read_stored_rows(tx, rows)]


def read_stored_rows(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Build orders in their stored state from rows, with their personal data. A further statement reads their lines."""
    return decrypt_resources(tx, read_encrypted_rows(tx, rows))


def read_encrypted_rows(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Build orders in their stored state from rows, without their personal data."""
    order_ids = encode([row[0] for row in rows]).decode()
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
    listing = LISTING if request.wants("lines") or request.wants("price_details") else LISTING_WITHOUT_LINES
    return db.snapshot(lambda tx: listing.page(tx, request, tokens=tokens))


def _to_minor_units(major: Decimal) -> object:
    """Return the SQL expression that converts a total in major units to the minor unit of each order's currency."""
    by_digits = {digits: _to_number(major.scaleb(digits)) for digits in set(MINOR_DIGITS.values())}
    return choose_by_currency(store.Order.currency_code, MINOR_DIGITS, by_digits)


def _to_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


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
        "lines.sku": Column(None, FilterField(Kind.ELEMENT, terms_max=LINE_TERMS_MAX), matches=store.match_line_sku),
        "shipping_address.region_code": Column(
            select_json_member(store.Order.shipping_address, "region_code"), FilterField(Kind.TEXT)
        ),
        "customer.email": Column(
            None, FilterField(Kind.ENCRYPTED), index="email", matches=store.compare_customer_email
        ),
        "email": Column(store.Order.email, FilterField(Kind.ENCRYPTED), index="email"),
        "phone": Column(store.Order.phone, FilterField(Kind.ENCRYPTED), index="phone"),
        "language_code": Column(store.Order.language_code, FilterField(Kind.TEXT)),
        "ship_by_time": Column(store.Order.ship_by_time_us, FilterField(Kind.TIME)),
        "deliver_by_time": Column(store.Order.deliver_by_time_us, FilterField(Kind.TIME)),
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
    LISTING,
    read_rows=lambda tx, rows: [
        apply_expiry(order, tx.now_us) for order in decrypt_resources(tx, [_build_order(row, ()) for row in rows])
    ],
)
"""The same list for callers that do not want the lines, which saves reading them."""
