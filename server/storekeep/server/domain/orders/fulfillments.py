"""Fulfilments: units of an order that are shipped together from one location.

A unit belongs to at most one fulfilment. An order on hold cannot be shipped, nor can units that are not on hand.
A restocked fulfilment stays as the record of its shipment; its units are open again and need another fulfilment.
Invariant: the pending units of a line at a location are at most its allocated units there; the shipped units of a
line are its fulfilled units.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    FieldNotChangeable,
    FulfillmentNotFound,
    IllegalState,
    InvalidField,
    OrderLineNotFound,
    UnitsNotOpen,
)
from storekeep.server.domain.keys.personal_fields import (
    PersonalFields,
    decrypt_resources,
    encrypt_resource,
    hide_items,
    hide_text,
    make_token,
)
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.changes import check_not_held, find_order_for_update, save_order
from storekeep.server.domain.orders.orders import Order, find_order, find_order_subject
from storekeep.server.domain.orders.states import (
    CONFIRMED,
    FULFILLABLE,
    FULFILLED,
    PARTIALLY_FULFILLED,
    RESTOCK_STEPS,
    require_state,
)
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import check_etag, new_id
from storekeep.server.domain.stock.allocations import Share, restock_units, ship_units
from storekeep.server.domain.stock.levels import require_location
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import fulfillments as store

PENDING, SHIPPED, DELIVERED, CANCELLED, RESTOCKED = "PENDING", "SHIPPED", "DELIVERED", "CANCELLED", "RESTOCKED"
FULFILLMENT_STEPS: dict[str, frozenset[str]] = {
    PENDING: frozenset({SHIPPED, CANCELLED}),
    SHIPPED: frozenset({DELIVERED, RESTOCKED}),
    DELIVERED: frozenset({RESTOCKED}),
    CANCELLED: frozenset(),
    RESTOCKED: frozenset(),
}
"""State -> states that can follow it. The documentation prints this table."""
NEXT_STEPS: dict[tuple[str, str], str] = {
    (PENDING, DELIVERED): "ship it first",
    (PENDING, RESTOCKED): "cancel it instead",
    (SHIPPED, CANCELLED): "restock it instead",
    (DELIVERED, CANCELLED): "restock it instead",
}
"""State and refused state -> what the caller can do."""
FULFILLMENT_STATES = tuple(FULFILLMENT_STEPS)
FULFILLMENT_CHANGEABLE: dict[str, frozenset[str]] = {
    "carrier": frozenset({PENDING, SHIPPED, DELIVERED}),
    "parcels": frozenset({PENDING, SHIPPED, DELIVERED}),
}
"""Field of the contract -> states in which `UpdateFulfillment` can change it. The documentation prints this table."""


class FulfillmentLine(msgspec.Struct, frozen=True):
    """A quantity of one line of the order."""

    line_number: int
    quantity: int
    sku: str = ""


class Parcel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A parcel of a fulfilment, under its own tracking number."""

    tracking_number: str
    tracking_url: str = ""


class Fulfillment(msgspec.Struct, frozen=True):
    """A fulfilment; see `Fulfillment` in the contract.

    `tracking_number` is that of the first parcel. A single parcel without a URL is stored there alone, as before there
    were several, so `parcels` is empty then; read `all_parcels`.
    """

    PERSONAL: ClassVar = PersonalFields(
        {"tracking_number": hide_text, "parcels": hide_items},
        find_subject=find_order_subject,
    )

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
    parcels: tuple[Parcel, ...] = ()
    restock_time_us: int | None = None
    encrypted: str = ""
    lines: tuple[FulfillmentLine, ...] = ()

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"orders/{self.order_id}/fulfillments/{self.id}"

    @property
    def all_parcels(self) -> tuple[Parcel, ...]:
        """Return all parcels."""
        return self.parcels or list_single_parcel(self.tracking_number)


class LineUnits(NamedTuple):
    """A quantity of one line; 0 for all open units without a fulfilment."""

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
        "parcels",
        "restock_time_us",
        "encrypted",
    ),
    key=("id",),
)
ENCRYPTED_COLUMN = ROWS.columns.index("encrypted")
NUMBER_COLUMN = ROWS.columns.index("tracking_number")
PARCELS_COLUMN = ROWS.columns.index("parcels")
decode_parcels = msgspec.json.Decoder(tuple[Parcel, ...]).decode
Unbound = dict[tuple[int, str], int]
"""(line number, location id) -> allocated units without a fulfilment, ordered by location priority."""


# -- creating


def create_fulfillment(
    db: Store, call: Call, order_id: str, *, location_id: str = "", lines: Sequence[LineUnits] = (), etag: str = ""
) -> Fulfillment:
    """Create a fulfilment with open units of an order at one location.

    Args:
        location_id: the location that ships the units; empty for the first one that has all of them.
        lines: the units to ship; empty for all units at the location.
        etag: the order's etag; empty to skip the check.

    Raises: InvalidField, OrderNotFound, EtagMismatch, IllegalState, OrderHeld, OrderLineNotFound, UnitsNotOpen.
    """
    check_lines_distinct(lines)

    def effect(mutation: Mutation) -> Fulfillment:
        tx = mutation.tx
        order = find_order_for_update(tx, order_id, etag=etag)
        require_state(
            order.name, order_number=order.number, state=order.state, among=FULFILLABLE, target=PARTIALLY_FULFILLED
        )
        check_not_held(order)
        check_lines_exist(order, lines)
        location, chosen = _choose_location(order, read_unbound_units(tx, order), location_id, lines)
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


def check_lines_distinct(lines: Sequence[LineUnits]) -> None:
    """Raise if a line number occurs more than once.

    Raises: InvalidField.
    """
    seen: set[int] = set()
    for index, (line_number, _) in enumerate(lines):
        if line_number in seen:
            raise InvalidField(f"lines[{index}].line_number", f"line {line_number} occurs more than once")
        seen.add(line_number)


def check_lines_exist(order: Order, lines: Sequence[LineUnits]) -> None:
    """Raise if the order lacks one of the lines.

    Raises: OrderLineNotFound.
    """
    existing = {line.line_number for line in order.lines}
    for line_number, _ in lines:
        if line_number not in existing:
            raise OrderLineNotFound(order.name, order_number=order.number, line_number=line_number)


def read_unbound_units(tx: Transaction, order: Order) -> Unbound:
    """Return the open units of each line and location, without the units of pending fulfilments."""
    return {(line, location): units for line, location, units in store.UNBOUND_UNITS.all(tx, order_id=order.id)}


def _choose_location(
    order: Order, unbound: Unbound, location_id: str, lines: Sequence[LineUnits]
) -> tuple[str, list[LineUnits]]:
    """Return the location id and the units of each line to ship from there.

    Raises: UnitsNotOpen.
    """
    candidates = [location_id] if location_id else list(dict.fromkeys(location for _, location in unbound))
    short: UnitsNotOpen | None = None
    for candidate in candidates:
        available = {number: units for (number, location), units in unbound.items() if location == candidate}
        requested = lines or [LineUnits(number, 0) for number in available]
        missing = [line for line in requested if available.get(line.line_number, 0) < max(1, line.quantity)]
        if requested and not missing:
            return candidate, [LineUnits(number, units or available[number]) for number, units in requested]
        for number, units in missing[:1]:
            short = short or _build_not_open(order, number, units, available.get(number, 0))
    first = lines[0] if lines else LineUnits(order.lines[0].line_number, 0)
    raise short or _build_not_open(order, *first, 0)


def _build_not_open(order: Order, line_number: int, requested: int, available: int) -> UnitsNotOpen:
    return UnitsNotOpen(
        order.name, order_number=order.number, line_number=line_number, requested=max(1, requested), available=available
    )


# -- parcels


def list_single_parcel(tracking_number: str) -> tuple[Parcel, ...]:
    """Return one parcel with this tracking number, or none if it is empty."""
    return (Parcel(tracking_number),) if tracking_number else ()


def replace_parcels(fulfillment: Fulfillment, parcels: tuple[Parcel, ...]) -> Fulfillment:
    """Return a fulfilment with other parcels, and the tracking number of the first one."""
    tracking_number = parcels[0].tracking_number if parcels else ""
    stored = () if parcels == list_single_parcel(tracking_number) else parcels
    return replace(fulfillment, tracking_number=tracking_number, parcels=stored)


def update_fulfillment(
    db: Store, call: Call, key: Sequence[str], changes: Mapping[str, Any], *, etag: str = ""
) -> Fulfillment:
    """Set the carrier, the parcels or both, also after the shipment. Write nothing if no value differs.

    Args:
        changes: `carrier` -> text; `parcels` -> all parcels, as a tuple.

    Raises: FulfillmentNotFound, EtagMismatch, FieldNotChangeable.
    """
    may_read = call.caller.reads_personal_data

    def effect(mutation: Mutation) -> Fulfillment:
        old = find_fulfillment(mutation.tx, key)
        check_etag(old, etag)
        new = replace(old, carrier=changes.get("carrier", old.carrier))
        new = replace_parcels(new, changes.get("parcels", old.all_parcels))
        differs = {
            "carrier": new.carrier != old.carrier,
            # for who may not read parcels also equal ones: else a refusal would tell whether they were guessed
            "parcels": new.all_parcels != old.all_parcels or ("parcels" in changes and not may_read),
        }
        for field, states in FULFILLMENT_CHANGEABLE.items():
            if differs[field] and old.state not in states:
                raise FieldNotChangeable(old.name, field=field, state=old.state)
        return old if new == old else _save(mutation, old, new, event="updated")

    return mutate(db, call, effect, Fulfillment)


# -- shipping, delivery, cancellation, restocking


def ship_fulfillment(
    db: Store,
    call: Call,
    key: Sequence[str],
    *,
    carrier: str = "",
    tracking_number: str = "",
    parcels: tuple[Parcel, ...] = (),
    etag: str = "",
) -> Fulfillment:
    """Ship a fulfilment: remove its units from stock and count them as fulfilled.

    Args:
        carrier: empty to keep the carrier.
        tracking_number: the number of the only parcel; empty if `parcels` are given, or to keep the parcels.
        parcels: all parcels; empty to keep the parcels.

    Raises: InvalidField, FulfillmentNotFound, EtagMismatch, IllegalState, OrderHeld, OutOfStock.
    """
    if tracking_number and parcels:
        raise InvalidField("tracking_number", "must be empty if `parcels` is set")
    shipped_parcels = parcels or list_single_parcel(tracking_number)

    def effect(mutation: Mutation) -> Fulfillment:
        tx = mutation.tx
        old = _find_for_update(tx, key, target=SHIPPED, etag=etag)
        order = find_order(tx, old.order_id)
        check_not_held(order)
        shares = [Share(line.line_number, line.sku, old.location_id, line.quantity) for line in old.lines]
        ship_units(mutation, order.name, shares)
        shipped = add_fulfilled_units(order, {line.line_number: line.quantity for line in old.lines})
        save_order(mutation, order, shipped, event=shipped.state.lower())
        new = replace(old, state=SHIPPED, carrier=carrier or old.carrier, ship_time_us=tx.now_us)
        return _save(mutation, old, replace_parcels(new, shipped_parcels or old.all_parcels))

    return mutate(db, call, effect, Fulfillment)


def deliver_fulfillment(db: Store, call: Call, key: Sequence[str], *, etag: str = "") -> Fulfillment:
    """Mark a shipped fulfilment as delivered.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Fulfillment:
        old = _find_for_update(mutation.tx, key, target=DELIVERED, etag=etag)
        return _save(mutation, old, replace(old, state=DELIVERED, deliver_time_us=mutation.tx.now_us))

    return mutate(db, call, effect, Fulfillment)


def cancel_fulfillment(db: Store, call: Call, key: Sequence[str], *, etag: str = "") -> Fulfillment:
    """Cancel a pending fulfilment. Its units stay allocated to the order.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Fulfillment:
        old = _find_for_update(mutation.tx, key, target=CANCELLED, etag=etag)
        return _save(mutation, old, replace(old, state=CANCELLED))

    return mutate(db, call, effect, Fulfillment)


def restock_fulfillment(
    db: Store, call: Call, key: Sequence[str], *, location_id: str = "", reason: str = "", etag: str = ""
) -> Fulfillment:
    """Take the units of a shipped fulfilment back into stock. They are open again and stay allocated to their order.

    Args:
        location_id: the location that the units came back to; empty for the location that shipped them.
        reason: the caller's reason, shown in the history of the order.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState, LocationNotFound, ResourceDeleted.
    """

    def effect(mutation: Mutation) -> Fulfillment:
        tx = mutation.tx
        old = _find_for_update(tx, key, target=RESTOCKED, etag=etag)
        order = find_order(tx, old.order_id)
        reopened = add_fulfilled_units(order, {line.line_number: -line.quantity for line in old.lines})
        require_state(
            order.name,
            order_number=order.number,
            state=order.state,
            among=frozenset(RESTOCK_STEPS),
            target=reopened.state,
        )
        location = location_id or old.location_id
        require_location(tx, location)
        shares = [Share(line.line_number, line.sku, location, line.quantity) for line in old.lines]
        restock_units(mutation, order.name, shares)
        save_order(mutation, order, reopened, event="restocked", reason=reason)
        return _save(mutation, old, replace(old, state=RESTOCKED, restock_time_us=tx.now_us))

    return mutate(db, call, effect, Fulfillment)


def cancel_pending_fulfillments(mutation: Mutation, order: Order) -> None:
    """Cancel all pending fulfilments of an order."""
    tx = mutation.tx
    pending = [(fulfillment_id,) for (fulfillment_id,) in store.PENDING_FULFILLMENT_IDS.all(tx, order_id=order.id)]
    for old in read_fulfillments(tx, ROWS.find_many(tx, pending)) if pending else ():
        _save(mutation, old, replace(old, state=CANCELLED))


def add_fulfilled_units(order: Order, units: dict[int, int]) -> Order:
    """Return an order with more or fewer fulfilled units and the state that follows.

    Args:
        units: line number -> shipped units; negative for units that came back.
    """
    lines = tuple(replace(line, fulfilled=line.fulfilled + units.get(line.line_number, 0)) for line in order.lines)
    if not any(line.open for line in lines):
        return replace(order, lines=lines, state=FULFILLED)
    state = PARTIALLY_FULFILLED if any(line.fulfilled for line in lines) else CONFIRMED
    return replace(order, lines=lines, state=state)


def _find_for_update(tx: Transaction, key: Sequence[str], *, target: str, etag: str) -> Fulfillment:
    """Return the fulfilment if the etag matches and it can change to the target state.

    Raises: FulfillmentNotFound, EtagMismatch, IllegalState.
    """
    old = find_fulfillment(tx, key)
    check_etag(old, etag)
    if target not in FULFILLMENT_STEPS[old.state]:
        way_out = NEXT_STEPS.get((old.state, target), "")
        raise IllegalState(old.name, state=old.state, target=target, way_out=way_out)
    return old


def _save(mutation: Mutation, old: Fulfillment, new: Fulfillment, *, event: str = "") -> Fulfillment:
    """Write the next version of a fulfilment, its event and its audit entry. Return that version.

    Args:
        event: the last part of the event's name; empty for the state.
    """
    new = replace(new, version=old.version + 1, update_time_us=mutation.tx.now_us)
    ROWS.update(mutation.tx, build_row_values(mutation.tx, new))
    mutation.record(f"fulfillment.{event or new.state.lower()}", before=old, after=new)
    return new


def insert_fulfillments(tx: Transaction, fulfillments: Sequence[Fulfillment]) -> None:
    """Insert fulfilments and their lines in bulk."""
    ROWS.insert_many(tx, [build_row_values(tx, fulfillment) for fulfillment in fulfillments])
    lines = [
        (fulfillment.id, line.line_number, line.quantity) for fulfillment in fulfillments for line in fulfillment.lines
    ]
    store.INSERT_LINES.run_deferred(tx, lines)


def build_row_values(tx: Transaction, fulfillment: Fulfillment) -> dict[str, object]:
    """Return the column values of a row: a blind index for the tracking numbers, and no parcels in clear."""
    stored = encrypt_resource(tx, fulfillment)
    values = dict(zip(ROWS.columns, msgspec.structs.astuple(stored)[:-1], strict=True))
    tokens = compute_tokens(tx, fulfillment) if stored.encrypted else {"tracking_number": ""}
    return values | tokens | {"parcels": None}


def compute_tokens(tx: Transaction, fulfillment: Fulfillment) -> dict[str, str]:
    """Return the blind indexes of all tracking numbers, as the value of their column.

    Raises: DataKeysMissing.
    """
    numbers = dict.fromkeys(parcel.tracking_number for parcel in fulfillment.all_parcels)
    tokens = [make_token(tx, "tracking_number", number) for number in numbers if number]
    return {"tracking_number": " ".join(tokens)}


def _build_fulfillment(row: Sequence[Any], lines: tuple[FulfillmentLine, ...]) -> Fulfillment:
    values = list(row)
    parcels = values[PARCELS_COLUMN]
    values[PARCELS_COLUMN] = () if parcels is None else decode_parcels(str(parcels))
    if values[ENCRYPTED_COLUMN]:
        values[NUMBER_COLUMN] = ""  # it has blind indexes
    return Fulfillment(*values, lines)  # type: ignore[call-arg]  # a row has the columns' types


# -- reading


def find_fulfillment(tx: Transaction, key: Sequence[str]) -> Fulfillment:
    """Return a fulfilment with its lines.

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
    """Build fulfilments from rows. One further statement reads their lines."""
    return decrypt_resources(tx, read_encrypted_rows(tx, rows))


def read_encrypted_rows(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[Fulfillment]:
    """Build fulfilments from rows, without their tracking numbers."""
    ids = msgspec.json.encode([row[0] for row in rows]).decode()
    lines: dict[str, list[FulfillmentLine]] = defaultdict(list)
    for fulfillment_id, *line in store.FIND_LINES.all(tx, fulfillment_ids=ids):
        lines[fulfillment_id].append(FulfillmentLine(*line))
    return [_build_fulfillment(row, tuple(lines[row[0]])) for row in rows]


def get_fulfillment(db: Store, key: Sequence[str]) -> Fulfillment:
    """Return a fulfilment with its lines.

    Raises: FulfillmentNotFound.
    """
    return db.snapshot(lambda tx: find_fulfillment(tx, key))


def list_fulfillments(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Fulfillment]:
    """Return one page of the fulfilments of one order, or of all orders.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


LISTING = Listing(
    method="ListFulfillments",
    query=lambda: store.Fulfillment.select(*ROWS.fields),
    columns={
        "state": Column(
            store.Fulfillment.state, FilterField(Kind.STATE, choices=FULFILLMENT_STATES, prefix="FULFILLMENT_STATE_")
        ),
        "location": Column(store.Fulfillment.location, FilterField(Kind.TEXT, prefix="locations/")),
        "carrier": Column(store.Fulfillment.carrier, FilterField(Kind.TEXT)),
        "tracking_number": Column(
            store.Fulfillment.tracking_number,
            FilterField(Kind.ENCRYPTED),
            index="tracking_number",
            matches=lambda operation, value, _: store.compare_tracking_number(operation, value),
        ),
        "create_time": Column(store.Fulfillment.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Fulfillment.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Fulfillment.id,),
    read_rows=read_fulfillments,
    parent=store.Fulfillment.order,
)
