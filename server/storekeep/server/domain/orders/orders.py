"""Orders: what a customer has ordered at the prices of that moment, and how far each line has come.

Owns how an order is read. Invariant: ordered = open + fulfilled + cancelled on each line, and while an order is open
exactly its open units are allocated to it; its total is what its lines cost and the freight, in one currency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import OrderNotFound
from storekeep.server.domain.money import MINOR_DIGITS
from storekeep.server.domain.orders.states import EXPIRED, ORDER_STATES, PLACED
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens, check_batch
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.listings import choose_by_currency, compare_absent
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store


class OrderLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """So many units of one SKU; see `OrderLine` in the contract."""

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
        """Units that are still to be delivered."""
        return self.quantity - self.fulfilled - self.cancelled

    @property
    def total_minor(self) -> int:
        """What the line costs: all units but the cancelled ones, less the discount."""
        return (self.quantity - self.cancelled) * self.unit_price_minor - self.discount_minor


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order; see `Order` in the contract. All amounts are in `currency_code`.

    What has a default came later than the first entries of ledgers, which have nothing of it; entries leave it out
    where it is the default. `change_reason` is why its last change was made: only the ledger keeps it.
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
    lines: tuple[OrderLine, ...] = ()
    change_reason: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
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
    ),
    key=("id",),
)
ADDRESS_COLUMN = ROWS.columns.index("shipping_address")
REFERENCE_COLUMN = ROWS.columns.index("external_reference")
HELD_COLUMN = ROWS.columns.index("held")
NO_ADDRESS = "null"
decode_address = msgspec.json.Decoder(Address | None).decode
decode_order = msgspec.json.Decoder(Order).decode


def row_values(order: Order) -> dict[str, object]:
    """An order as its row has it."""
    values = dict(zip(ROWS.columns, msgspec.structs.astuple(order)[: len(ROWS.columns)], strict=True))
    address = order.shipping_address
    values["shipping_address"] = NO_ADDRESS if address is None else msgspec.json.encode(address).decode()
    values["external_reference"] = order.external_reference or None
    return values


def insert_orders(tx: Transaction, orders: Sequence[Order]) -> None:
    """Add orders with their lines, all of them at once."""
    ROWS.insert_many(tx, [row_values(order) for order in orders])
    lines = [(order.id, *_line_values(line)) for order in orders for line in order.lines]
    store.INSERT_LINES.run_later(tx, lines)


def insert_lines(tx: Transaction, order_id: str, lines: Sequence[OrderLine]) -> None:
    """Add lines to an order."""
    store.INSERT_LINES.run_later(tx, [(order_id, *_line_values(line)) for line in lines])


def update_lines(tx: Transaction, order_id: str, lines: Sequence[OrderLine]) -> None:
    """Change lines of an order."""
    changed = msgspec.json.encode([_line_values(line) for line in lines]).decode()
    store.UPDATE_LINES.run(tx, order_id=order_id, rows=changed)


def _line_values(line: OrderLine) -> tuple[object, ...]:
    """A line in the order of its columns, and then what it costs."""
    return (*msgspec.structs.astuple(line), line.total_minor)


def called_off(old: Order, *, state: str, reason: str = "") -> Order:
    """An order of which nothing was shipped, as it is once all of it is called off: it costs nothing."""
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


def as_of(order: Order, now_us: int) -> Order:
    """An order as it is at a time: from its instant on it has expired, whether anybody has written so or not."""
    due = order.state == PLACED and order.expire_time_us is not None and order.expire_time_us <= now_us
    return called_off(order, state=EXPIRED) if due else order


def find_order(tx: Transaction, order_id: str) -> Order:
    """One order with its lines, as it is now.

    Raises: OrderNotFound.
    """
    row = ROWS.find(tx, (order_id,))
    if row is None:
        raise OrderNotFound(f"orders/{order_id}")
    lines = tuple(OrderLine(*line) for line in store.LINES_OF_ONE.all(tx, order_id=order_id))
    return as_of(_order_of(row, lines), tx.now_us)


def _order_of(row: Sequence[object], lines: tuple[OrderLine, ...]) -> Order:
    values = list(row)
    address = values[ADDRESS_COLUMN]
    values[ADDRESS_COLUMN] = None if address == NO_ADDRESS else decode_address(str(address))
    values[REFERENCE_COLUMN] = values[REFERENCE_COLUMN] or ""
    values[HELD_COLUMN] = bool(values[HELD_COLUMN])
    return Order(*values, lines)  # type: ignore[call-arg,arg-type]  # a row has the columns' types


def read_orders(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Rows of orders as orders with their lines, as they are now."""
    return [as_of(order, tx.now_us) for order in read_written(tx, rows)]


def read_written(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Rows of orders as orders with their lines, which one more statement reads, as they were written last."""
    order_ids = msgspec.json.encode([row[0] for row in rows]).decode()
    lines: dict[str, list[OrderLine]] = defaultdict(list)
    for order_id, *line in store.LINES_OF.all(tx, order_ids=order_ids):
        lines[order_id].append(OrderLine(*line))
    return [_order_of(row, tuple(lines[str(row[0])])) for row in rows]


def get_order(db: Store, order_id: str) -> Order:
    """One order with its lines.

    Raises: OrderNotFound.
    """
    return db.snapshot(lambda tx: find_order(tx, order_id))


def batch_get_orders(db: Store, order_ids: Sequence[str]) -> list[Order]:
    """Orders at one point in time, in the order of the ids, all or none.

    Raises: OrderNotFound, for the first that is missing; BatchTooLarge.
    """
    keys = [(order_id,) for order_id in order_ids]
    found = db.snapshot(lambda tx: read_orders(tx, ROWS.find_many(tx, keys)))
    there = {order.id for order in found}
    for order_id in order_ids:
        if order_id not in there:
            raise OrderNotFound(f"orders/{order_id}")
    check_batch(found)
    return found


def list_orders(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Order]:
    """One page of orders.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


def _total_minor(major: Decimal) -> object:
    """A total in major units as what `total_minor` is compared with, by the currency of each order."""
    by_digits = {digits: _as_number(major.scaleb(digits)) for digits in set(MINOR_DIGITS.values())}
    return choose_by_currency(store.Order.currency_code, MINOR_DIGITS, by_digits)


def _as_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


LISTING = Listing(
    method="ListOrders",
    query=lambda: store.Order.select(*ROWS.fields),
    columns={
        "customer": Column(store.Order.customer, FilterField(Kind.TEXT, prefix="customers/")),
        "state": Column(store.Order.state, FilterField(Kind.STATE, choices=ORDER_STATES), matches=store.state_is),
        "currency_code": Column(store.Order.currency_code, FilterField(Kind.TEXT)),
        "total": Column(store.Order.total_minor, FilterField(Kind.DECIMAL), sortable=True, store=_total_minor),
        "external_reference": Column(
            store.Order.external_reference,
            FilterField(Kind.TEXT),
            matches=lambda operation, value, _: compare_absent(store.Order.external_reference, operation, value),
        ),
        "number": Column(store.Order.number, FilterField(Kind.TEXT)),
        "held": Column(store.Order.held, FilterField(Kind.BOOLEAN)),
        "create_time": Column(store.Order.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Order.update_time_us, FilterField(Kind.TIME)),
    },
    unique=(store.Order.id,),
    read_rows=read_orders,
    default_order="create_time desc",
)
