"""Reservations: stock reserved until an expiry time, for carts and for other services.

Only active reservations can change. An expired reservation stops counting at its expiry time, even before the expiry
is written. Invariants: the reserved units of each level are the sum of the lines of stored ACTIVE reservations; of
the stored ACTIVE reservations with a unique reference, no two have the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import IllegalState, InvalidField, ReferenceTaken, ReservationNotFound
from storekeep.server.domain.keys.personal_fields import (
    PersonalFields,
    compute_tokens,
    decrypt_resources,
    encrypt_resource,
    hide_text,
    make_token,
)
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import MICROS, check_etag, decode_labels, new_id
from storekeep.server.domain.stock.allocations import (
    RequestedLine,
    Share,
    allocate_stock,
    change_reserved_units,
    convert_reserved_units,
    count_held_units,
    release_units,
    reserve_stock,
    ship_reserved_units,
    sum_quantities,
)
from storekeep.server.domain.stock.expiry import CALL as EXPIRY_CALL
from storekeep.server.domain.stock.expiry import Expirer
from storekeep.server.domain.stock.levels import require_for_sale, require_location
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import reservations as store

ACTIVE, COMMITTED, RELEASED, EXPIRED = "ACTIVE", "COMMITTED", "RELEASED", "EXPIRED"
STATES = (ACTIVE, COMMITTED, RELEASED, EXPIRED)
"""ACTIVE can change to any other state; the others are final."""
NEXT_STEPS = {
    COMMITTED: "its units have left the stock: add units with AdjustStock to put some back",
    RELEASED: "create another reservation",
    EXPIRED: "create another reservation, with a longer time to live if needed",
}
"""State of a reservation that has ended -> what the caller can do."""
TTL_DEFAULT_S = 15 * 60
"""Lifetime of a reservation without a requested one, in seconds."""
TTL_MAX_S = 30 * 86_400
"""Maximum time until the expiry, in seconds."""
encode = msgspec.json.encode


class Reservation(msgspec.Struct, frozen=True):
    """A reservation; see `Reservation` in the contract."""

    PERSONAL: ClassVar = PersonalFields(
        {"reference": hide_text}, find_subject=lambda _, reservation: reservation.name, tokens=("reference",)
    )

    id: str
    state: str
    reference: str
    order_id: str
    expire_time_us: int
    version: int
    create_time_us: int
    update_time_us: int
    labels: dict[str, str] = {}
    unique_reference: bool = False
    encrypted: str = ""
    lines: tuple[Share, ...] = ()

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"reservations/{self.id}"

    def apply_expiry(self, now_us: int) -> Reservation:
        """Return the reservation as EXPIRED from its expiry time on, even before the expiry is written."""
        if self.state == ACTIVE and self.expire_time_us <= now_us:
            return msgspec.structs.replace(self, state=EXPIRED)
        return self


@dataclass(frozen=True, slots=True)
class NewReservation:
    """The input of `reserve`.

    Attributes:
        lines: (SKU, units); several lines may have the same SKU.
        location_id: the location that supplies all units; empty to choose, see `allocations`.
        ttl_us: time until expiry, in microseconds.
        unique_reference: whether to update the active reservation that was made with the same reference and this flag.
    """

    lines: tuple[tuple[str, int], ...]
    location_id: str = ""
    ttl_us: int = TTL_DEFAULT_S * MICROS
    reference: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    unique_reference: bool = False


@dataclass(frozen=True, slots=True)
class ReservationChanges:
    """The input of `update_reservation`. None keeps a value.

    Attributes:
        lines: (SKU, units); several lines may have the same SKU.
        location_id: the location that supplies additional units; empty to choose, see `allocations`.
        expire_time_us: the expiry time, in microseconds since 1970.
        ttl_us: time until expiry, in microseconds, instead of `expire_time_us`.
    """

    lines: tuple[tuple[str, int], ...] | None = None
    location_id: str = ""
    expire_time_us: int | None = None
    ttl_us: int | None = None
    reference: str | None = None
    labels: Mapping[str, str] | None = None
    unique_reference: bool | None = None


ROWS = Rows(
    store.Reservation,
    columns=(
        "id",
        "state",
        "reference",
        "order_id",
        "expire_time_us",
        "version",
        "create_time_us",
        "update_time_us",
        "labels",
        "unique_reference",
        "encrypted",
    ),
    key=("id",),
)


# -- reading


def get_reservation(db: Store, reservation_id: str) -> Reservation:
    """Return a reservation with its lines.

    Raises: ReservationNotFound.
    """
    return db.snapshot(lambda tx: _find(tx, reservation_id).apply_expiry(tx.now_us))


def list_reservations(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Reservation]:
    """Return one page of reservations.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: _build_listing(tx.now_us).page(tx, request, tokens=tokens))


def _find(tx: Transaction, reservation_id: str) -> Reservation:
    """Return a reservation in its stored state.

    Raises: ReservationNotFound.
    """
    row = ROWS.find(tx, (reservation_id,))
    if row is None:
        raise ReservationNotFound(f"reservations/{reservation_id}")
    return read_stored_rows(tx, [row])[0]


def read_stored_rows(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[Reservation]:
    """Build reservations in their stored state from rows. One further statement reads their lines."""
    return decrypt_resources(tx, read_encrypted_rows(tx, rows))


def read_encrypted_rows(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[Reservation]:
    """Build reservations in their stored state from rows, without their references."""
    lines: dict[str, list[Share]] = defaultdict(list)
    for reservation_id, *line in store.FIND_LINES.all(tx, reservation_ids=encode([row[0] for row in rows]).decode()):
        lines[reservation_id].append(Share(*line))
    return [_build_reservation(row, tuple(lines[row[0]])) for row in rows]


def _build_reservation(row: Sequence[Any], lines: tuple[Share, ...]) -> Reservation:
    values = dict(zip(ROWS.columns, row, strict=True))
    values |= {"labels": decode_labels(values["labels"]), "unique_reference": bool(values["unique_reference"])}
    return Reservation(**values, lines=lines)


# -- reserving


def reserve(db: Store, call: Call, new: NewReservation) -> Reservation:
    """Reserve stock, all lines or none. For a unique reference, update the active reservation that has it, if any.

    Raises: InvalidField, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale, QuantityNotAllowed,
        OutOfStock.
    """
    if new.unique_reference and not new.reference:
        raise InvalidField("reference", "is required with unique_reference")

    def effect(mutation: Mutation) -> Reservation:
        tx = mutation.tx
        existing = _find_by_unique_reference(mutation, new.reference) if new.unique_reference else None
        if existing is not None:
            changes = ReservationChanges(new.lines, new.location_id, ttl_us=new.ttl_us, labels=new.labels)
            return _change(mutation, existing, changes)
        if new.location_id:
            require_location(tx, new.location_id)
        require_for_sale(tx, sum_quantities(new.lines))
        reservation = Reservation(
            id=new_id(),
            state=ACTIVE,
            reference=new.reference,
            order_id="",
            expire_time_us=tx.now_us + new.ttl_us,
            version=1,
            create_time_us=tx.now_us,
            update_time_us=tx.now_us,
            labels=dict(new.labels),
            unique_reference=new.unique_reference,
        )
        lines = reserve_stock(mutation, reservation.name, _number_lines(new.lines), location_id=new.location_id)
        return _insert(mutation, msgspec.structs.replace(reservation, lines=lines))

    return mutate(db, call, effect, Reservation)


def _insert(mutation: Mutation, reservation: Reservation) -> Reservation:
    ROWS.insert(mutation.tx, build_row_values(mutation.tx, reservation))
    _insert_lines(mutation.tx, reservation)
    mutation.record("reservation.created", before=None, after=reservation)
    return reservation


def _insert_lines(tx: Transaction, reservation: Reservation) -> None:
    lines = [(reservation.id, *msgspec.structs.astuple(line)) for line in reservation.lines]
    store.INSERT_LINES.run_deferred(tx, lines)


def _number_lines(lines: Sequence[tuple[str, int]]) -> list[RequestedLine]:
    return [RequestedLine(number, *line) for number, line in enumerate(lines, start=1)]


def build_row_values(tx: Transaction, reservation: Reservation) -> dict[str, object]:
    """Return the column values of a row, with the reference encrypted."""
    values = dict(zip(ROWS.columns, msgspec.structs.astuple(encrypt_resource(tx, reservation))[:-1], strict=True))
    return values | compute_tokens(tx, reservation) | {"labels": encode(reservation.labels).decode()}


def _find_by_unique_reference(mutation: Mutation, reference: str) -> Reservation | None:
    """Return the active reservation that has a unique reference, or None. Write the expiry of an expired one."""
    token = make_token(mutation.tx, "reference", reference)
    row = store.FIND_BY_UNIQUE_REFERENCE.one(mutation.tx, reference=token)
    if row is None:
        return None
    existing = _find(mutation.tx, row[0])
    if existing.expire_time_us > mutation.tx.now_us:
        return existing
    _expire(mutation.by(EXPIRY_CALL), [existing.id])
    return None


# -- changing


def update_reservation(
    db: Store, call: Call, reservation_id: str, changes: ReservationChanges, *, etag: str = ""
) -> Reservation:
    """Change an active reservation, all changes or none. Write nothing if no value changes.

    Raises: InvalidField, ReservationNotFound, EtagMismatch, IllegalState, ReferenceTaken, LocationNotFound,
        ResourceDeleted, SkuNotFound, NotForSale, QuantityNotAllowed, OutOfStock.
    """
    if changes.lines == ():
        raise InvalidField("reservation.lines", "a reservation has at least one line; release it instead")

    def effect(mutation: Mutation) -> Reservation:
        return _change(mutation, _find_active(mutation.tx, reservation_id, etag=etag, target=ACTIVE), changes)

    return mutate(db, call, effect, Reservation)


def _change(mutation: Mutation, old: Reservation, changes: ReservationChanges) -> Reservation:
    """Change an active reservation within a running mutation.

    Raises: the errors of `update_reservation`.
    """
    named = {name: getattr(changes, name) for name in ("reference", "labels", "unique_reference")}
    values = {name: value for name, value in named.items() if value is not None}
    new = msgspec.structs.replace(old, **values, expire_time_us=_compute_expiry(old, changes, mutation.tx.now_us))
    _check_unique_reference(mutation, old, new)
    if changes.lines is not None:
        new = msgspec.structs.replace(new, lines=_change_lines(mutation, old, changes.lines, changes.location_id))
    if new == old:
        return old
    if new.lines != old.lines:
        store.DELETE_LINES.run(mutation.tx, reservation_id=old.id)
        _insert_lines(mutation.tx, new)
    return _save(mutation, old, new, "updated")


def _compute_expiry(old: Reservation, changes: ReservationChanges, now_us: int) -> int:
    """Return the new expiry time, in microseconds since 1970.

    Raises: InvalidField.
    """
    if changes.ttl_us is not None:
        return now_us + changes.ttl_us
    if changes.expire_time_us is None:
        return old.expire_time_us
    if not now_us < changes.expire_time_us <= now_us + TTL_MAX_S * MICROS:
        raise InvalidField("reservation.expire_time", "must be in the future, at most 30 days from now")
    return changes.expire_time_us


def _check_unique_reference(mutation: Mutation, old: Reservation, new: Reservation) -> None:
    """Raise if a changed reference must be unique but is empty, or another active reservation has it.

    Raises: InvalidField, ReferenceTaken.
    """
    if not new.unique_reference or (old.unique_reference and old.reference == new.reference):
        return
    if not new.reference:
        raise InvalidField("reservation.reference", "is required with unique_reference")
    other = _find_by_unique_reference(mutation, new.reference)
    if other is not None:
        raise ReferenceTaken(new.reference, resource=other.name)


def _change_lines(
    mutation: Mutation, old: Reservation, lines: Sequence[tuple[str, int]], location_id: str
) -> tuple[Share, ...]:
    """Change the reserved units to those of new lines. Only SKUs that need additional units must be for sale.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale, QuantityNotAllowed, OutOfStock.
    """
    if location_id:
        require_location(mutation.tx, location_id)
    reserved = sum_quantities((share.sku, share.quantity) for share in old.lines)
    changed = {sku: units for sku, units in sum_quantities(lines).items() if units != reserved.get(sku)}
    if changed:
        grown = {sku for sku, units in changed.items() if units > reserved.get(sku, 0)}
        require_for_sale(mutation.tx, changed, sold=grown)
    return change_reserved_units(mutation, old.name, old.lines, _number_lines(lines), location_id=location_id)


def extend(db: Store, call: Call, reservation_id: str, *, ttl_us: int, etag: str = "") -> Reservation:
    """Extend an active reservation to `ttl_us` microseconds from now. Never move its expiry to an earlier time.

    Raises: ReservationNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Reservation:
        old = _find_active(mutation.tx, reservation_id, etag=etag, target=ACTIVE)
        expire_time_us = max(old.expire_time_us, mutation.tx.now_us + ttl_us)
        return _save_changes(mutation, old, "extended", expire_time_us=expire_time_us)

    return mutate(db, call, effect, Reservation)


# -- ending


def release_reservation(db: Store, call: Call, reservation_id: str, *, etag: str = "") -> Reservation:
    """Release the stock of an active reservation.

    Raises: ReservationNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Reservation:
        old = _find_active(mutation.tx, reservation_id, etag=etag, target=RELEASED)
        release_units(mutation, old.name, old.lines)
        return _save_changes(mutation, old, "released", state=RELEASED)

    return mutate(db, call, effect, Reservation)


def commit(db: Store, call: Call, reservation_id: str, *, reason: str = "", etag: str = "") -> Reservation:
    """Ship the units of an active reservation.

    Raises: ReservationNotFound, EtagMismatch, IllegalState, OutOfStock.
    """

    def effect(mutation: Mutation) -> Reservation:
        old = _find_active(mutation.tx, reservation_id, etag=etag, target=COMMITTED)
        ship_reserved_units(mutation, old.name, old.lines, reason=reason)
        return _save_changes(mutation, old, "committed", state=COMMITTED)

    return mutate(db, call, effect, Reservation)


def commit_to_order(
    mutation: Mutation,
    reservation_ids: Sequence[str],
    order_id: str,
    requested: Sequence[RequestedLine],
    *,
    location_id: str = "",
) -> None:
    """Allocate the units of active reservations to an order, in the transaction that places the order.

    Further units are allocated as usual; surplus units are released.

    Args:
        reservation_ids: the reservations, in the order in which their units are used.
        location_id: the location that supplies further units; empty to choose.

    Raises: ReservationNotFound, IllegalState, OutOfStock.
    """
    tx = mutation.tx
    reservations = read_stored_rows(tx, ROWS.find_many(tx, [(reservation_id,) for reservation_id in reservation_ids]))
    existing = {reservation.id for reservation in reservations}
    for reservation_id in reservation_ids:
        if reservation_id not in existing:
            raise ReservationNotFound(f"reservations/{reservation_id}")
    for old in reservations:
        _check_active(old, now_us=tx.now_us, target=COMMITTED)
    order = f"orders/{order_id}"
    missing = convert_reserved_units(mutation, {old.name: old.lines for old in reservations}, order, requested)
    if missing:
        with count_held_units(requested, missing):
            allocate_stock(mutation, order, missing, location_id=location_id)
    for old in reservations:
        _save_changes(mutation, old, "committed", state=COMMITTED, order_id=order_id)


def _find_active(tx: Transaction, reservation_id: str, *, etag: str, target: str) -> Reservation:
    """Return a reservation that is still active.

    Args:
        etag: the version that the caller has seen; empty to skip the check.
        target: the state that the action leads to, for the error.

    Raises: ReservationNotFound, EtagMismatch, IllegalState.
    """
    old = _find(tx, reservation_id)
    check_etag(old, etag)
    _check_active(old, now_us=tx.now_us, target=target)
    return old


def _check_active(reservation: Reservation, *, now_us: int, target: str) -> None:
    """Raise unless a reservation is still active.

    Raises: IllegalState.
    """
    state = reservation.apply_expiry(now_us).state
    if state != ACTIVE:
        way_out = NEXT_STEPS[state] if state != target else ""
        raise IllegalState(reservation.name, state=state, target=target, way_out=way_out)


def _save_changes(mutation: Mutation, old: Reservation, event: str, **changes: Any) -> Reservation:
    return _save(mutation, old, msgspec.structs.replace(old, **changes), event)


def _save(mutation: Mutation, old: Reservation, new: Reservation, event: str) -> Reservation:
    """Write the next version of a reservation without its lines, its event and its audit entry."""
    new = msgspec.structs.replace(new, version=old.version + 1, update_time_us=mutation.tx.now_us)
    ROWS.update(mutation.tx, build_row_values(mutation.tx, new))
    mutation.record(f"reservation.{event}", before=old, after=new)
    return new


# -- expiry


def _find_expired(tx: Transaction, limit: int) -> list[str]:
    return [reservation_id for (reservation_id,) in store.EXPIRED_IDS.all(tx, now_us=tx.now_us, rows_max=limit)]


def _find_expired_by_sku(tx: Transaction, skus: Sequence[str], limit: int) -> list[str]:
    skus_json = encode(list(skus)).decode()
    return [row[0] for row in store.EXPIRED_IDS_BY_SKU.all(tx, skus=skus_json, now_us=tx.now_us, rows_max=limit)]


def _expire(mutation: Mutation, reservation_ids: Sequence[str]) -> None:
    """Write the expiry of reservations and release their stock."""
    rows = ROWS.find_many(mutation.tx, [(reservation_id,) for reservation_id in reservation_ids])
    for old in read_stored_rows(mutation.tx, rows):
        release_units(mutation, old.name, old.lines, reason="expired")
        _save_changes(mutation, old, "expired", state=EXPIRED)


EXPIRER = Expirer(find=_find_expired, find_by_sku=_find_expired_by_sku, expire=_expire)


def _build_listing(now_us: int) -> Listing[Reservation]:
    """Return the listing of reservations with their states at a time."""
    state = Column(
        store.build_effective_state(now_us), FilterField(Kind.STATE, choices=STATES, prefix="RESERVATION_STATE_")
    )
    return replace(
        LISTING,
        columns=LISTING.columns | {"state": state},
        read_rows=lambda tx, rows: [reservation.apply_expiry(now_us) for reservation in read_stored_rows(tx, rows)],
    )


LISTING = Listing(
    method="ListReservations",
    query=lambda: store.Reservation.select(*ROWS.fields),
    columns={
        "state": Column(store.Reservation.state, FilterField(Kind.STATE, choices=STATES, prefix="RESERVATION_STATE_")),
        "reference": Column(store.Reservation.reference, FilterField(Kind.ENCRYPTED), index="reference"),
        "order": Column(store.Reservation.order_id, FilterField(Kind.TEXT, prefix="orders/")),
        "expire_time": Column(store.Reservation.expire_time_us, FilterField(Kind.TIME), sortable=True),
        "create_time": Column(store.Reservation.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Reservation.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Reservation.id,),
    read_rows=read_stored_rows,
    default_order="create_time desc",
)
