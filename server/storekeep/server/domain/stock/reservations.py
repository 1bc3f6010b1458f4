"""Reservations: stock reserved until an expiry time, for carts and for other services.

Only active reservations can change. An expired reservation stops counting at its expiry time, even before the expiry
is written. Invariant: the reserved units of each level are the sum of the lines of stored ACTIVE reservations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import IllegalState, ReservationNotFound
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import check_etag, new_id
from storekeep.server.domain.stock.allocations import (
    RequestedLine,
    Share,
    allocate_stock,
    convert_reserved_units,
    release_units,
    reserve_stock,
    ship_reserved_units,
    sum_quantities,
)
from storekeep.server.domain.stock.expiry import Expirer
from storekeep.server.domain.stock.levels import require_for_sale, require_location
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import reservations as store

ACTIVE, COMMITTED, RELEASED, EXPIRED = "ACTIVE", "COMMITTED", "RELEASED", "EXPIRED"
STATES = (ACTIVE, COMMITTED, RELEASED, EXPIRED)
"""ACTIVE can change to any other state; the others are final."""
TTL_DEFAULT_S = 15 * 60
"""Lifetime of a reservation without a requested one, in seconds."""
MICROS = 1_000_000
encode = msgspec.json.encode


class Reservation(msgspec.Struct, frozen=True):
    """A reservation; see `Reservation` in the contract."""

    id: str
    state: str
    reference: str
    order_id: str
    expire_time_us: int
    version: int
    create_time_us: int
    update_time_us: int
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
    """

    lines: tuple[tuple[str, int], ...]
    location_id: str = ""
    ttl_us: int = TTL_DEFAULT_S * MICROS
    reference: str = ""


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
    lines: dict[str, list[Share]] = defaultdict(list)
    for reservation_id, *line in store.FIND_LINES.all(tx, reservation_ids=encode([row[0] for row in rows]).decode()):
        lines[reservation_id].append(Share(*line))
    return [Reservation(*row, tuple(lines[row[0]])) for row in rows]  # type: ignore[call-arg]  # a row has no lines


# -- reserving


def reserve(db: Store, call: Call, new: NewReservation) -> Reservation:
    """Reserve stock, all lines or none.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale, QuantityNotAllowed, OutOfStock.
    """

    def effect(mutation: Mutation) -> Reservation:
        tx = mutation.tx
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
        )
        requested = [RequestedLine(number, *line) for number, line in enumerate(new.lines, start=1)]
        lines = reserve_stock(mutation, reservation.name, requested, location_id=new.location_id)
        return _insert(mutation, msgspec.structs.replace(reservation, lines=lines))

    return mutate(db, call, effect, Reservation)


def _insert(mutation: Mutation, reservation: Reservation) -> Reservation:
    ROWS.insert(mutation.tx, _build_row_values(reservation))
    lines = [(reservation.id, *msgspec.structs.astuple(line)) for line in reservation.lines]
    store.INSERT_LINES.run_deferred(mutation.tx, lines)
    mutation.record("reservation.created", before=None, after=reservation)
    return reservation


def _build_row_values(reservation: Reservation) -> dict[str, object]:
    return dict(zip(ROWS.columns, msgspec.structs.astuple(reservation)[:-1], strict=True))


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
    mutation: Mutation, reservation_id: str, order_id: str, requested: Sequence[RequestedLine], *, location_id: str = ""
) -> None:
    """Allocate the units of an active reservation to an order, in the transaction that places the order.

    Further units are allocated as usual; surplus units are released.

    Args:
        location_id: the location that supplies further units; empty to choose.

    Raises: ReservationNotFound, IllegalState, OutOfStock.
    """
    old = _find_active(mutation.tx, reservation_id, etag="", target=COMMITTED)
    order = f"orders/{order_id}"
    missing = convert_reserved_units(mutation, old.name, old.lines, order, requested)
    if missing:
        allocate_stock(mutation, order, missing, location_id=location_id)
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
    state = old.apply_expiry(tx.now_us).state
    if state != ACTIVE:
        raise IllegalState(old.name, state=state, target=target)
    return old


def _save_changes(mutation: Mutation, old: Reservation, event: str, **changes: Any) -> Reservation:
    new = msgspec.structs.replace(old, **changes, version=old.version + 1, update_time_us=mutation.tx.now_us)
    ROWS.update(mutation.tx, _build_row_values(new))
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
    state = Column(store.build_effective_state(now_us), FilterField(Kind.STATE, choices=STATES))
    return replace(
        LISTING,
        columns=LISTING.columns | {"state": state},
        read_rows=lambda tx, rows: [reservation.apply_expiry(now_us) for reservation in read_stored_rows(tx, rows)],
    )


LISTING = Listing(
    method="ListReservations",
    query=lambda: store.Reservation.select(*ROWS.fields),
    columns={
        "state": Column(store.Reservation.state, FilterField(Kind.STATE, choices=STATES)),
        "reference": Column(store.Reservation.reference, FilterField(Kind.TEXT)),
        "order": Column(store.Reservation.order_id, FilterField(Kind.TEXT, prefix="orders/")),
        "expire_time": Column(store.Reservation.expire_time_us, FilterField(Kind.TIME), sortable=True),
        "create_time": Column(store.Reservation.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Reservation.update_time_us, FilterField(Kind.TIME)),
    },
    unique=(store.Reservation.id,),
    read_rows=read_stored_rows,
    default_order="create_time desc",
)
