"""Orders: placed with frozen prices and promised stock, confirmed, or called off and their stock given back.

Refuses what is not for sale or not there, all lines or none. Invariant: while an order is open, exactly the
units of its lines are allocated to it; its total is the sum of its lines, in one currency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.allocations import Wanted, add_up, allocate_stock, allocations_of, deallocate
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    CurrencyMismatch,
    CustomerNotFound,
    InvalidAmount,
    LocationNotFound,
    NotForSale,
    OrderNotFound,
    ResourceDeleted,
    SkuNotFound,
)
from storekeep.server.domain.filters import FilterField, Kind
from storekeep.server.domain.lists import Column, Listing, ListRequest
from storekeep.server.domain.money import MINOR_DIGITS, TOTAL_MINOR_MAX, minor_digits
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.order_states import CANCELLED, CONFIRMED, ORDER_STATES, PLACED, check_step
from storekeep.server.domain.pages import Page, PageTokens
from storekeep.server.domain.resources import check_etag, new_id
from storekeep.server.store import orders as store
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store
from storekeep.server.store.ledger import AuditEntry
from storekeep.server.store.listings import choose_by_currency
from storekeep.server.store.rows import Rows

DEFAULT_LOCATION = "main"
"""Where stock is taken from when an order does not say; made with the database."""


class OrderLine(msgspec.Struct, frozen=True):
    """So many units of one SKU; see `OrderLine` in the contract."""

    line_number: int
    sku: str
    display_name: str
    quantity: int
    unit_price_minor: int
    subtotal_minor: int


class Order(msgspec.Struct, frozen=True):
    """An order; see `Order` in the contract. All amounts are in `currency_code`."""

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
    lines: tuple[OrderLine, ...] = ()

    @property
    def name(self) -> str:
        """The resource name."""
        return f"orders/{self.id}"


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What somebody wants to order.

    Attributes:
        lines: (SKU, units), in the customer's order; a SKU may stand on several.
        location_id: where the stock is taken from; empty to choose, see `allocations`.
    """

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    currency_code: str
    location_id: str = ""
    shipping_address: Address | None = None
    external_reference: str = ""
    note: str = ""


class OrderChange(msgspec.Struct, frozen=True):
    """One step in the history of an order, as its entry in the ledger tells it; `from_state` is empty for the first.

    Attributes:
        sequence: the order's version after the step.
        method: the RPC's name, such as `ConfirmOrder`.
    """

    sequence: int
    method: str
    from_state: str
    to_state: str
    reason: str
    actor: str
    create_time_us: int


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
    ),
    key=("id",),
)
ADDRESS_COLUMN = ROWS.columns.index("shipping_address")
NO_ADDRESS = "null"
decode_address = msgspec.json.Decoder(Address | None).decode
decode_order = msgspec.json.Decoder(Order).decode


# -- placing


def place_order(db: Store, call: Call, new: NewOrder) -> Order:
    """Place an order: freeze its prices, promise its stock, all lines or none.

    Raises: UnknownCurrency, CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale,
        CurrencyMismatch, InvalidAmount, OutOfStock, and those of `mutate`.
    """
    minor_digits(new.currency_code, field="currency_code")

    def effect(mutation: Mutation) -> Order:
        tx = mutation.tx
        location_id = new.location_id or DEFAULT_LOCATION
        quantities = add_up(new.lines)
        lines = _price_lines(tx, new, location_id, quantities)
        order = _new_order(tx, new, location_id, lines)
        wanted = [Wanted(line.line_number, line.sku, line.quantity) for line in lines]
        allocate_stock(mutation, order.name, wanted, location_id=new.location_id)
        _insert(tx, order)
        mutation.record("order.placed", before=None, after=order)
        return order

    return mutate(db, call, effect, Order)


def _price_lines(tx: Transaction, new: NewOrder, location_id: str, skus: Iterable[str]) -> tuple[OrderLine, ...]:
    """The lines at the prices of this moment, for a customer and a location that are there.

    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale, CurrencyMismatch.
    """
    rows = store.OFFER.all(
        tx,
        customer_id=new.customer_id,
        location_id=location_id,
        skus=msgspec.json.encode(list(skus)).decode(),
        currency_code=new.currency_code,
    )
    _check_parties(new, deleted=rows[0][:2])
    offered = {sku: offer for _, _, sku, *offer in rows}
    for sku in skus:
        if offered[sku][-1] is None:
            raise SkuNotFound(sku)
    for sku in skus:
        if not offered[sku][-1]:
            raise NotForSale(sku)
    return tuple(
        _price_line(number, sku, quantity, offered[sku], new.currency_code)
        for number, (sku, quantity) in enumerate(new.lines, start=1)
    )


def _check_parties(new: NewOrder, *, deleted: Sequence[int | None]) -> None:
    """Refuse a customer or a location that is not there, or deleted; one that nobody named is not asked about.

    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
    """
    for name, time_us, not_found in (
        (f"customers/{new.customer_id}", deleted[0], CustomerNotFound),
        (f"locations/{new.location_id}", deleted[1] if new.location_id else 0, LocationNotFound),
    ):
        if time_us is None:
            raise not_found(name)
        if time_us:
            raise ResourceDeleted(name)


def _price_line(number: int, sku: str, quantity: int, offer: Sequence[object], currency_code: str) -> OrderLine:
    product_name, variant_name, price_minor, _ = offer
    if not isinstance(price_minor, int):
        raise CurrencyMismatch(f"lines[{number - 1}].sku", f"{sku} has no price in {currency_code}")
    display_name = f"{product_name}, {variant_name}" if variant_name else str(product_name)
    return OrderLine(number, sku, display_name, quantity, price_minor, quantity * price_minor)


def _new_order(tx: Transaction, new: NewOrder, location_id: str, lines: tuple[OrderLine, ...]) -> Order:
    total_minor = sum(line.subtotal_minor for line in lines)
    if total_minor > TOTAL_MINOR_MAX:
        raise InvalidAmount("lines", "the total is more than an order can cost")
    return Order(
        id=new_id(),
        customer_id=new.customer_id,
        state=PLACED,
        currency_code=new.currency_code,
        total_minor=total_minor,
        location_id=location_id,
        shipping_address=new.shipping_address,
        external_reference=new.external_reference,
        note=new.note,
        cancel_reason="",
        version=1,
        create_time_us=tx.now_us,
        update_time_us=tx.now_us,
        lines=lines,
    )


def _insert(tx: Transaction, order: Order) -> None:
    ROWS.insert(tx, _row_values(order))
    lines = [msgspec.structs.astuple(line) for line in order.lines]
    store.INSERT_LINES.run_later(tx, order_id=order.id, lines=msgspec.json.encode(lines).decode())


def _row_values(order: Order) -> dict[str, object]:
    values = dict(zip(ROWS.columns, msgspec.structs.astuple(order)[:-1], strict=True))
    address = order.shipping_address
    values["shipping_address"] = NO_ADDRESS if address is None else msgspec.json.encode(address).decode()
    return values


# -- changing


def confirm_order(db: Store, call: Call, order_id: str, *, etag: str = "") -> Order:
    """Agree to deliver a placed order.

    Raises: OrderNotFound, EtagMismatch, IllegalState.
    """
    return mutate(db, call, lambda mutation: _step(mutation, order_id, to=CONFIRMED, etag=etag), Order)


def cancel_order(db: Store, call: Call, order_id: str, *, reason: str = "", etag: str = "") -> Order:
    """Call an order off and give its stock back.

    Raises: OrderNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Order:
        order = _step(mutation, order_id, to=CANCELLED, etag=etag, reason=reason)
        deallocate(mutation, order.name, allocations_of(mutation.tx, [order.name])[order.name])
        return order

    return mutate(db, call, effect, Order)


def _step(mutation: Mutation, order_id: str, *, to: str, etag: str, reason: str = "") -> Order:
    """Take an order to its next state, with its history, event and audit entry.

    Raises: OrderNotFound, EtagMismatch, IllegalState.
    """
    tx = mutation.tx
    old = find_order(tx, order_id)
    check_etag(old, etag)
    check_step(old.name, state=old.state, wanted=to)
    new = msgspec.structs.replace(
        old,
        state=to,
        cancel_reason=reason if to == CANCELLED else old.cancel_reason,
        version=old.version + 1,
        update_time_us=tx.now_us,
    )
    ROWS.update(tx, _row_values(new))
    mutation.record(f"order.{to.lower()}", before=old, after=new)
    return new


# -- reading


def find_order(tx: Transaction, order_id: str) -> Order:
    """One order with its lines.

    Raises: OrderNotFound.
    """
    row = ROWS.find(tx, (order_id,))
    if row is None:
        raise OrderNotFound(f"orders/{order_id}")
    lines = tuple(OrderLine(*line) for line in store.LINES_OF_ONE.all(tx, order_id=order_id))
    return _order_of(row, lines)


def _order_of(row: Sequence[object], lines: tuple[OrderLine, ...]) -> Order:
    values = list(row)
    address = values[ADDRESS_COLUMN]
    values[ADDRESS_COLUMN] = None if address == NO_ADDRESS else decode_address(str(address))
    return Order(*values, lines)  # type: ignore[call-arg,arg-type]  # a row has the columns' types


def read_orders(tx: Transaction, rows: Sequence[Sequence[object]]) -> list[Order]:
    """Rows of orders as orders with their lines, which one more statement reads."""
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

    Raises: OrderNotFound, for the first that is missing.
    """
    keys = [(order_id,) for order_id in order_ids]
    found = db.snapshot(lambda tx: read_orders(tx, ROWS.find_many(tx, keys)))
    there = {order.id for order in found}
    for order_id in order_ids:
        if order_id not in there:
            raise OrderNotFound(f"orders/{order_id}")
    return found


def list_orders(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Order]:
    """One page of orders.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


def list_order_history(
    db: Store, order_id: str, *, page_size: int, page_token: str, tokens: PageTokens
) -> Page[OrderChange]:
    """One page of an order's history, oldest change first.

    Raises: OrderNotFound, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[OrderChange]:
        find_order(tx, order_id)
        request = ListRequest(page_size=page_size, page_token=page_token, parent=f"orders/{order_id}")
        return HISTORY.page(tx, request, tokens=tokens)

    return db.snapshot(work)


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
        "state": Column(store.Order.state, FilterField(Kind.STATE, choices=ORDER_STATES)),
        "currency_code": Column(store.Order.currency_code, FilterField(Kind.TEXT)),
        "total": Column(store.Order.total_minor, FilterField(Kind.DECIMAL), sortable=True, store=_total_minor),
        "external_reference": Column(store.Order.external_reference, FilterField(Kind.TEXT)),
        "create_time": Column(store.Order.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Order.update_time_us, FilterField(Kind.TIME)),
    },
    unique=(store.Order.id,),
    read_rows=read_orders,
    default_order="create_time desc",
)


def _read_changes(_tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[OrderChange]:
    return [_change_of(*row) for row in rows]


def _change_of(method: str, before: bytes | None, after: bytes, actor: str, create_time_us: int) -> OrderChange:
    old = None if before is None else decode_order(before)
    new = decode_order(after)
    return OrderChange(
        sequence=new.version,
        method=method.rpartition("/")[2],
        from_state="" if old is None else old.state,
        to_state=new.state,
        reason=new.cancel_reason if new.state == CANCELLED else "",
        actor=actor,
        create_time_us=create_time_us,
    )


HISTORY = Listing(
    method="ListOrderHistory",
    query=lambda: AuditEntry.select(
        AuditEntry.method, AuditEntry.before, AuditEntry.after, AuditEntry.actor, AuditEntry.create_time_us
    ),
    columns={"sequence": Column(AuditEntry.sequence, sortable=True)},
    unique=(),
    read_rows=_read_changes,
    default_order="sequence",
    parent=AuditEntry.resource,
)
