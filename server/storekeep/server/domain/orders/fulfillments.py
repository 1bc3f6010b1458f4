"""Fulfilments: units of an order that leave one location together.

Refuses to bind a unit that is not open, or bound already, and to ship what is held or not there. Invariant: what is
pending of a line at a location is at most what is allocated to it there; what was shipped is what is fulfilled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    FulfillmentNotFound,
    IllegalState,
    InvalidField,
    OrderLineNotFound,
    UnitsNotOpen,
)
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.changes import check_not_held, order_to_change, save
from storekeep.server.domain.orders.orders import Order, find_order
from storekeep.server.domain.orders.states import FULFILLABLE, FULFILLED, PARTIALLY_FULFILLED, require_state
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import check_etag, new_id
from storekeep.server.domain.stock.allocations import Share, ship
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import fulfillments as store

PENDING, SHIPPED, DELIVERED, CANCELLED = "PENDING", "SHIPPED", "DELIVERED", "CANCELLED"
FULFILLMENT_STEPS: dict[str, frozenset[str]] = {
    PENDING: frozenset({SHIPPED, CANCELLED}),
    SHIPPED: frozenset({DELIVERED}),
    DELIVERED: frozenset(),
    CANCELLED: frozenset(),
}
"""How far a fulfilment can go from where it is; the documentation prints it."""
FULFILLMENT_STATES = tuple(FULFILLMENT_STEPS)


class FulfillmentLine(msgspec.Struct, frozen=True):
    """So many units of one line of the order."""

    line_number: int
    quantity: int
    sku: str = ""


class Fulfillment(msgspec.Struct, frozen=True):
    """A fulfilment; see `Fulfillment` in the contract."""

    id: str
    order_id: str
    location_id: str
    state: str
    carrier: str
    tracking_number: str
    ship_time_us: int | None
    deliver_time_us: int | None
    version: int
    create_time_us: int
    update_time_us: int
    lines: tuple[FulfillmentLine, ...] = ()

    @property
    def name(self) -> str:
        """The resource name."""
        return f"orders/{self.order_id}/fulfillments/{self.id}"


class LineUnits(NamedTuple):
    """So many units of one line; 0 for all that are open and unbound."""

    line_number: int
    quantity: int


ROWS = Rows(
    store.Fulfillment,
    columns=(
        "id",
        "order",
        "location",
        "state",
        "carrier",
        "tracking_number",
        "ship_time_us",
        "deliver_time_us",
        "version",
        "create_time_us",
        "update_time_us",
    ),
    key=("id",),
)
Unbound = dict[tuple[int, str], int]
"""(line, location) -> units that are allocated there and bound to no fulfilment, the first locations first."""


# -- binding


def create_fulfillment(
    db: Store, call: Call, order_id: str, *, location_id: str = "", lines: Sequence[LineUnits] = (), etag: str = ""
) -> Fulfillment:
    """Bind open units of an order to one delivery from one location.

    Args:
        location_id: where it leaves from; empty for the first location where the order has all of these units.
        lines: what is in it; empty for all that is there.
        etag: of the order.

    Raises: InvalidField, OrderNotFound, EtagMismatch, IllegalState, OrderHeld, OrderLineNotFound, UnitsNotOpen.
    """
    check_named_once(lines)

    def effect(mutation: Mutation) -> Fulfillment:
        tx = mutation.tx
        order = order_to_change(tx, order_id, etag=etag)
        require_state(order.name, state=order.state, among=FULFILLABLE, wanted=PARTIALLY_FULFILLED)
        check_not_held(order)
        check_lines_there(order, lines)
        location, chosen = _choose(order, unbound_units(tx, order), location_id, lines)
        skus = {line.line_number: line.sku for line in order.lines}
        new = Fulfillment(
            id=new_id(),
            order_id=order_id,
            location_id=location,
            state=PENDING,
            carrier="",
            tracking_number="",
            ship_time_us=None,
            deliver_time_us=None,
            version=1,
            create_time_us=tx.now_us,
            update_time_us=tx.now_us,
            lines=tuple(FulfillmentLine(number, units, skus[number]) for number, units in chosen),
        )
        insert_fulfillments(tx, [new])
        mutation.record("fulfillment.created", before=None, after=new)
        return new

    return mutate(db, call, effect, Fulfillment)


def check_named_once(lines: Sequence[LineUnits]) -> None:
    """Refuse a line that is named twice.

    Raises: InvalidField.
    """
    seen: set[int] = set()
    for place, (line_number, _) in enumerate(lines):
        if line_number in seen:
            raise InvalidField(f"lines[{place}].line_number", f"line {line_number} is named twice")
        seen.add(line_number)


def check_lines_there(order: Order, lines: Sequence[LineUnits]) -> None:
    """Refuse a line that the order does not have.

    Raises: OrderLineNotFound.
    """
    there = {line.line_number for line in order.lines}
    for line_number, _ in lines:
        if line_number not in there:
            raise OrderLineNotFound(order.name, line_number=line_number)


def unbound_units(tx: Transaction, order: Order) -> Unbound:
    """What is open of each line and where, without what is bound to pending fulfilments."""
    return {(line, location): units for line, location, units in store.UNBOUND_OF.all(tx, order_id=order.id)}


def _choose(
    order: Order, unbound: Unbound, location_id: str, lines: Sequence[LineUnits]
) -> tuple[str, list[LineUnits]]:
    """Where the units are taken from, and how many of which line.

    Raises: UnitsNotOpen.
    """
    places = [location_id] if location_id else list(dict.fromkeys(place for _, place in unbound))
    short: UnitsNotOpen | None = None
    for place in places:
        here = {number: units for (number, where), units in unbound.items() if where == place}
        wanted = lines or [LineUnits(number, 0) for number in here]
        missing = [line for line in wanted if here.get(line.line_number, 0) < max(1, line.quantity)]
        if wanted and not missing:
            return place, [LineUnits(number, units or here[number]) for number, units in wanted]
        for number, units in missing[:1]:
            short = short or _not_open(order, number, units, here.get(number, 0))
    first = lines[0] if lines else LineUnits(order.lines[0].line_number, 0)
    raise short or _not_open(order, *first, 0)


def _not_open(order: Order, line_number: int, wanted: int, there: int) -> UnitsNotOpen:
    return UnitsNotOpen(order.name, line_number=line_number, wanted=max(1, wanted), there=there)


# -- moving on


def ship_fulfillment(
    db: Store, call: Call, key: Sequence[str], *, carrier: str = "", tracking_number: str = "", etag: str = ""
) -> Fulfillment:
    """Have a fulfilment leave: its units leave the stock, and are fulfilled.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState, OrderHeld, OutOfStock.
    """

    def effect(mutation: Mutation) -> Fulfillment:
        tx = mutation.tx
        old = _to_step(tx, key, to=SHIPPED, etag=etag)
        order = find_order(tx, old.order_id)
        check_not_held(order)
        shares = [Share(line.line_number, line.sku, old.location_id, line.quantity) for line in old.lines]
        ship(mutation, order.name, shares)
        shipped = with_fulfilled(order, {line.line_number: line.quantity for line in old.lines})
        save(mutation, order, shipped, happened=shipped.state.lower())
        new = replace(
            old, state=SHIPPED, carrier=carrier, tracking_number=tracking_number, ship_time_us=mutation.tx.now_us
        )
        return _save(mutation, old, new)

    return mutate(db, call, effect, Fulfillment)


def deliver_fulfillment(db: Store, call: Call, key: Sequence[str], *, etag: str = "") -> Fulfillment:
    """Say that a shipped fulfilment has arrived.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Fulfillment:
        old = _to_step(mutation.tx, key, to=DELIVERED, etag=etag)
        return _save(mutation, old, replace(old, state=DELIVERED, deliver_time_us=mutation.tx.now_us))

    return mutate(db, call, effect, Fulfillment)


def cancel_fulfillment(db: Store, call: Call, key: Sequence[str], *, etag: str = "") -> Fulfillment:
    """Call off a fulfilment that has not left.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Fulfillment:
        old = _to_step(mutation.tx, key, to=CANCELLED, etag=etag)
        return _save(mutation, old, replace(old, state=CANCELLED))

    return mutate(db, call, effect, Fulfillment)


def cancel_pending(mutation: Mutation, order: Order) -> None:
    """Call off all fulfilments of an order that have not left."""
    tx = mutation.tx
    pending = [(fulfillment_id,) for (fulfillment_id,) in store.PENDING_IDS_OF.all(tx, order_id=order.id)]
    for old in read_fulfillments(tx, ROWS.find_many(tx, pending)) if pending else ():
        _save(mutation, old, replace(old, state=CANCELLED))


def with_fulfilled(order: Order, units: dict[int, int]) -> Order:
    """An order once so many units of some of its lines have been shipped."""
    lines = tuple(replace(line, fulfilled=line.fulfilled + units.get(line.line_number, 0)) for line in order.lines)
    state = PARTIALLY_FULFILLED if any(line.open for line in lines) else FULFILLED
    return replace(order, lines=lines, state=state)


def _to_step(tx: Transaction, key: Sequence[str], *, to: str, etag: str) -> Fulfillment:
    """The fulfilment as it is, where it can become what is wanted.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
    """
    old = find_fulfillment(tx, key)
    check_etag(old, etag)
    if to not in FULFILLMENT_STEPS[old.state]:
        raise IllegalState(old.name, state=old.state, wanted=to)
    return old


def _save(mutation: Mutation, old: Fulfillment, new: Fulfillment) -> Fulfillment:
    new = replace(new, version=old.version + 1, update_time_us=mutation.tx.now_us)
    ROWS.update(mutation.tx, _row_values(new))
    mutation.record(f"fulfillment.{new.state.lower()}", before=old, after=new)
    return new


def insert_fulfillments(tx: Transaction, fulfillments: Sequence[Fulfillment]) -> None:
    """Add fulfilments with their lines, all of them at once."""
    ROWS.insert_many(tx, [_row_values(one) for one in fulfillments])
    lines = [(one.id, line.line_number, line.quantity) for one in fulfillments for line in one.lines]
    store.INSERT_LINES.run_later(tx, lines)


def _row_values(fulfillment: Fulfillment) -> dict[str, object]:
    return dict(zip(ROWS.columns, msgspec.structs.astuple(fulfillment)[:-1], strict=True))


# -- reading


def find_fulfillment(tx: Transaction, key: Sequence[str]) -> Fulfillment:
    """One fulfilment with its lines.

    Args:
        key: the ids of the order and of the fulfilment.

    Raises: FulfillmentNotFound.
    """
    order_id, fulfillment_id = key
    row = ROWS.find(tx, (fulfillment_id,))
    if row is None or row[1] != order_id:
        raise FulfillmentNotFound(f"orders/{order_id}/fulfillments/{fulfillment_id}")
    return read_fulfillments(tx, [row])[0]


def read_fulfillments(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[Fulfillment]:
    """Rows of fulfilments with their lines, which one more statement reads."""
    ids = msgspec.json.encode([row[0] for row in rows]).decode()
    lines: dict[str, list[FulfillmentLine]] = defaultdict(list)
    for fulfillment_id, *line in store.LINES_OF.all(tx, fulfillment_ids=ids):
        lines[fulfillment_id].append(FulfillmentLine(*line))
    return [replace(Fulfillment(*row), lines=tuple(lines[row[0]])) for row in rows]


def get_fulfillment(db: Store, key: Sequence[str]) -> Fulfillment:
    """One fulfilment with its lines.

    Raises: FulfillmentNotFound.
    """
    return db.snapshot(lambda tx: find_fulfillment(tx, key))


def list_fulfillments(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Fulfillment]:
    """One page of the fulfilments of one order, or of all.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


LISTING = Listing(
    method="ListFulfillments",
    query=lambda: store.Fulfillment.select(*ROWS.fields),
    columns={
        "state": Column(store.Fulfillment.state, FilterField(Kind.STATE, choices=FULFILLMENT_STATES)),
        "location": Column(store.Fulfillment.location, FilterField(Kind.TEXT, prefix="locations/")),
        "carrier": Column(store.Fulfillment.carrier, FilterField(Kind.TEXT)),
        "tracking_number": Column(store.Fulfillment.tracking_number, FilterField(Kind.TEXT)),
        "create_time": Column(store.Fulfillment.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Fulfillment.update_time_us, FilterField(Kind.TIME)),
    },
    unique=(store.Fulfillment.id,),
    read_rows=read_fulfillments,
    parent=store.Fulfillment.order,
)
