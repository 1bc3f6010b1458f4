"""Reservations: stock that is kept for somebody until an instant, for carts and for other services.

Refuses to go on with one that is not active, and none is from the instant at which it expires, whether or not anybody
has written so yet. Invariant: exactly what active ones keep is reserved.
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
    Share,
    Wanted,
    add_up,
    allocate_stock,
    hand_over,
    release,
    reserve_stock,
    ship_reserved,
)
from storekeep.server.domain.stock.expiry import Expirer
from storekeep.server.domain.stock.levels import require_for_sale, require_location
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import reservations as store

ACTIVE, COMMITTED, RELEASED, EXPIRED = "ACTIVE", "COMMITTED", "RELEASED", "EXPIRED"
STATES = (ACTIVE, COMMITTED, RELEASED, EXPIRED)
"""One goes from ACTIVE to any of the others, and from those nowhere."""
TTL_DEFAULT_S = 15 * 60
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
        """The resource name."""
        return f"reservations/{self.id}"

    def at(self, now_us: int) -> Reservation:
        """As it is at an instant, whether or not it was written that it has expired."""
        if self.state == ACTIVE and self.expire_time_us <= now_us:
            return msgspec.structs.replace(self, state=EXPIRED)
        return self


@dataclass(frozen=True, slots=True)
class NewReservation:
    """What somebody wants to be kept.

    Attributes:
        lines: (SKU, units); a SKU may stand on several.
        location_id: where all of it is kept; empty to choose, see `allocations`.
        ttl_us: how long, in microseconds.
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
    """One reservation with its lines.

    Raises: ReservationNotFound.
    """
    return db.snapshot(lambda tx: _find(tx, reservation_id).at(tx.now_us))


def list_reservations(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Reservation]:
    """One page of reservations.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: _listing_at(tx.now_us).page(tx, request, tokens=tokens))


def _find(tx: Transaction, reservation_id: str) -> Reservation:
    """One reservation as it is written.

    Raises: ReservationNotFound.
    """
    row = ROWS.find(tx, (reservation_id,))
    if row is None:
        raise ReservationNotFound(f"reservations/{reservation_id}")
    return read_written(tx, [row])[0]


def read_written(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[Reservation]:
    """Rows with their lines, which one more statement reads."""
    lines: dict[str, list[Share]] = defaultdict(list)
    for reservation_id, *line in store.LINES_OF.all(tx, reservation_ids=encode([row[0] for row in rows]).decode()):
        lines[reservation_id].append(Share(*line))
    return [Reservation(*row, tuple(lines[row[0]])) for row in rows]  # type: ignore[call-arg]  # a row has no lines


# -- keeping


def reserve(db: Store, call: Call, new: NewReservation) -> Reservation:
    """Keep stock for somebody, all lines or none.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale, OutOfStock.
    """

    def effect(mutation: Mutation) -> Reservation:
        tx = mutation.tx
        if new.location_id:
            require_location(tx, new.location_id)
        require_for_sale(tx, add_up(new.lines))
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
        wanted = [Wanted(number, *line) for number, line in enumerate(new.lines, start=1)]
        lines = reserve_stock(mutation, reservation.name, wanted, location_id=new.location_id)
        return _insert(mutation, msgspec.structs.replace(reservation, lines=lines))

    return mutate(db, call, effect, Reservation)


def _insert(mutation: Mutation, reservation: Reservation) -> Reservation:
    ROWS.insert(mutation.tx, _values(reservation))
    lines = [(reservation.id, *msgspec.structs.astuple(line)) for line in reservation.lines]
    store.INSERT_LINES.run_later(mutation.tx, lines)
    mutation.record("reservation.created", before=None, after=reservation)
    return reservation


def _values(reservation: Reservation) -> dict[str, object]:
    return dict(zip(ROWS.columns, msgspec.structs.astuple(reservation)[:-1], strict=True))


def extend(db: Store, call: Call, reservation_id: str, *, ttl_us: int, etag: str = "") -> Reservation:
    """Keep the stock of an active reservation for longer: so long from now, but never shorter than it was.

    Raises: ReservationNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Reservation:
        old = _active(mutation.tx, reservation_id, etag=etag, wanted=ACTIVE)
        until_us = max(old.expire_time_us, mutation.tx.now_us + ttl_us)
        return _replace(mutation, old, "extended", expire_time_us=until_us)

    return mutate(db, call, effect, Reservation)


# -- ending


def release_reservation(db: Store, call: Call, reservation_id: str, *, etag: str = "") -> Reservation:
    """Give the stock of an active reservation back.

    Raises: ReservationNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Reservation:
        old = _active(mutation.tx, reservation_id, etag=etag, wanted=RELEASED)
        release(mutation, old.name, old.lines)
        return _replace(mutation, old, "released", state=RELEASED)

    return mutate(db, call, effect, Reservation)


def commit(db: Store, call: Call, reservation_id: str, *, reason: str = "", etag: str = "") -> Reservation:
    """Have the units of an active reservation leave for good.

    Raises: ReservationNotFound, EtagMismatch, IllegalState, OutOfStock.
    """

    def effect(mutation: Mutation) -> Reservation:
        old = _active(mutation.tx, reservation_id, etag=etag, wanted=COMMITTED)
        ship_reserved(mutation, old.name, old.lines, reason=reason)
        return _replace(mutation, old, "committed", state=COMMITTED)

    return mutate(db, call, effect, Reservation)


def commit_to_order(
    mutation: Mutation, reservation_id: str, order_id: str, wanted: Sequence[Wanted], *, location_id: str = ""
) -> None:
    """Have the units of an active reservation be promised to an order, in the transaction that places it.

    What the order needs beyond them is promised as usual, what it does not need is given back.

    Raises: ReservationNotFound, IllegalState, OutOfStock.
    """
    old = _active(mutation.tx, reservation_id, etag="", wanted=COMMITTED)
    order = f"orders/{order_id}"
    missing = hand_over(mutation, old.name, old.lines, order, wanted)
    if missing:
        allocate_stock(mutation, order, missing, location_id=location_id)
    _replace(mutation, old, "committed", state=COMMITTED, order_id=order_id)


def _active(tx: Transaction, reservation_id: str, *, etag: str, wanted: str) -> Reservation:
    """A reservation that is active at this instant.

    Raises: ReservationNotFound, EtagMismatch, IllegalState.
    """
    old = _find(tx, reservation_id)
    check_etag(old, etag)
    state = old.at(tx.now_us).state
    if state != ACTIVE:
        raise IllegalState(old.name, state=state, wanted=wanted)
    return old


def _replace(mutation: Mutation, old: Reservation, happened: str, **changes: Any) -> Reservation:
    new = msgspec.structs.replace(old, **changes, version=old.version + 1, update_time_us=mutation.tx.now_us)
    ROWS.update(mutation.tx, _values(new))
    mutation.record(f"reservation.{happened}", before=old, after=new)
    return new


# -- expiring


def _find_expired(tx: Transaction, most: int) -> list[str]:
    return [reservation_id for (reservation_id,) in store.DUE.all(tx, now_us=tx.now_us, rows_max=most)]


def _find_expired_of(tx: Transaction, skus: Sequence[str], most: int) -> list[str]:
    asked = encode(list(skus)).decode()
    return [row[0] for row in store.DUE_OF.all(tx, skus=asked, now_us=tx.now_us, rows_max=most)]


def _expire(mutation: Mutation, reservation_ids: Sequence[str]) -> None:
    """Write that reservations have expired, and release their stock."""
    rows = ROWS.find_many(mutation.tx, [(reservation_id,) for reservation_id in reservation_ids])
    for old in read_written(mutation.tx, rows):
        release(mutation, old.name, old.lines, reason="expired")
        _replace(mutation, old, "expired", state=EXPIRED)


EXPIRER = Expirer(find=_find_expired, find_of=_find_expired_of, expire=_expire)


def _listing_at(now_us: int) -> Listing[Reservation]:
    """How reservations are listed at an instant: with the states that they have then."""
    state = Column(store.state_at(now_us), FilterField(Kind.STATE, choices=STATES))
    return replace(
        LISTING,
        columns=LISTING.columns | {"state": state},
        read_rows=lambda tx, rows: [reservation.at(now_us) for reservation in read_written(tx, rows)],
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
    read_rows=read_written,
    default_order="create_time desc",
)
