"""Stock: how many units of a SKU are where, and the ledger of how it came to be.

Refuses to promise or take away a unit that is not there. Invariant: what is on hand is the sum of the
ledger; what is promised never exceeds it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    InvalidAmount,
    InvalidField,
    LocationNotFound,
    NotForSale,
    OutOfStock,
    QuantityMismatch,
    ResourceDeleted,
    SkuNotFound,
    StockLevelNotFound,
    StockMovementNotFound,
)
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens, check_batch
from storekeep.server.domain.standard.resources import check_etag, new_id
from storekeep.server.domain.stock.allocations import (
    ALLOCATE,
    DEALLOCATE,
    RELEASE,
    RESERVE,
    SHIP,
    Move,
    add_up,
    move_stock,
    write_movements,
)
from storekeep.server.domain.stock.expiry import expire_batch_of
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as product_store
from storekeep.server.store.tables import stock as store
from storekeep.server.store.tables.expiry import DUE_UNITS

RECEIVE, ADJUST, COUNT, WRITE_OFF = "RECEIVE", "ADJUST", "COUNT", "WRITE_OFF"
TRANSFER, RETURN = "TRANSFER", "RETURN"
CAUSES = (
    RECEIVE,
    ADJUST,
    COUNT,
    WRITE_OFF,
    TRANSFER,
    RETURN,
    RESERVE,
    RELEASE,
    ALLOCATE,
    DEALLOCATE,
    SHIP,
)
ON_HAND_MAX = 10**12
"""Units of one SKU at one location at most."""
Key = tuple[str, ...]
encode = msgspec.json.encode


class StockLevel(msgspec.Struct, frozen=True):
    """How many units of a SKU are at a location; see `StockLevel` in the contract."""

    location_id: str
    sku: str
    on_hand: int
    reserved: int
    allocated: int
    backorder_limit: int
    version: int
    update_time_us: int
    safety_threshold: int = 0

    @property
    def name(self) -> str:
        """The resource name."""
        return f"locations/{self.location_id}/stockLevels/{self.sku}"

    @property
    def available(self) -> int:
        """Units that can still be promised; below 0 where some that are kept back are promised."""
        return self.unpromised - self.safety_threshold

    @property
    def unpromised(self) -> int:
        """Units that nobody was promised, those that are kept back too."""
        return self.on_hand + self.backorder_limit - self.reserved - self.allocated

    @property
    def movable(self) -> int:
        """Units that can go elsewhere: those that are on hand and that nobody was promised."""
        return max(0, min(self.on_hand, self.unpromised))


class StockMovement(msgspec.Struct, frozen=True):
    """One entry of the ledger; see `StockMovement` in the contract."""

    id: int
    location_id: str
    sku: str
    quantity_delta: int
    on_hand: int
    cause: str
    reason: str
    actor: str
    create_time_us: int
    reserved_delta: int = 0
    allocated_delta: int = 0
    source: str = ""
    line_number: int = 0

    @property
    def name(self) -> str:
        """The resource name."""
        return f"stockMovements/{self.id}"


class Availability(msgspec.Struct, frozen=True):
    """How many units of one SKU can be sold, and whether it is for sale at all.

    Attributes:
        locations: location -> units that can be sold there, in the order in which they are taken; none of 0.
    """

    sku: str
    for_sale: bool
    locations: dict[str, int]

    @property
    def available(self) -> int:
        """Units that can be sold."""
        return sum(self.locations.values())


class Transfer(msgspec.Struct, frozen=True):
    """Units that went to another location.

    Attributes:
        source: what both movements of each SKU have for a source.
        levels: those at the source, in the order of the SKUs, and then those at the destination.
    """

    source: str
    levels: tuple[StockLevel, ...]


LEVELS = Rows(
    store.StockLevel,
    columns=(
        "location",
        "variant",
        "on_hand",
        "reserved",
        "allocated",
        "backorder_limit",
        "version",
        "update_time_us",
        "safety_threshold",
    ),
    key=("location", "variant"),
)
MOVEMENTS = Rows(
    store.StockMovement,
    columns=(
        "id",
        "location",
        "variant",
        "quantity_delta",
        "on_hand",
        "cause",
        "reason",
        "actor",
        "create_time_us",
        "reserved_delta",
        "allocated_delta",
        "source",
        "line_number",
    ),
    key=("id",),
)


# -- reading


def get_level(db: Store, key: Key) -> StockLevel:
    """One stock level.

    Raises: StockLevelNotFound.
    """
    return batch_get_levels(db, [key])[0]


def batch_get_levels(db: Store, keys: Sequence[Key]) -> list[StockLevel]:
    """Stock levels at one point in time, in the order of the keys, all or none.

    Raises: StockLevelNotFound, for the first that is missing; BatchTooLarge.
    """
    found = db.snapshot(lambda tx: _read_levels(tx, LEVELS.find_many(tx, keys)))
    there = {(level.location_id, level.sku) for level in found}
    for key in keys:
        if key not in there:
            raise StockLevelNotFound("locations/{}/stockLevels/{}".format(*key))
    check_batch(found)
    return found


def list_levels(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[StockLevel]:
    """One page of stock levels.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LEVEL_LISTING.page(tx, request, tokens=tokens))


def list_low_stock(
    db: Store, request: ListRequest, *, location_id: str, available_max: int, tokens: PageTokens
) -> Page[StockLevel]:
    """One page of the levels of which at most so many units can be sold from what is on hand, the shortest first.

    Args:
        location_id: only there; everywhere when empty.

    Raises: LocationNotFound, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[StockLevel]:
        if location_id and store.LOCATION_DELETED_AT.one(tx, id=location_id) is None:
            raise LocationNotFound(f"locations/{location_id}")
        listing = replace(
            LOW_LISTING,
            method=f"{LOW_LISTING.method}/{available_max}",
            query=lambda: LOW_LISTING.query().where(available_max >= store.WITHOUT_BACKORDER),
        )
        return listing.page(tx, replace(request, parent=location_id), tokens=tokens)

    return db.snapshot(work)


def _read_levels(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[StockLevel]:
    """Rows as levels, without the promises that are due, whether or not they have been ended yet."""
    levels = [StockLevel(*row) for row in rows]
    skus = encode(sorted({level.sku for level in levels})).decode()
    due = {row[:2]: row[2:] for row in DUE_UNITS.all(tx, skus=skus, now_us=tx.now_us)}
    if not due:
        return levels
    return [_without(level, *due.get((level.location_id, level.sku), (0, 0))) for level in levels]


def _without(level: StockLevel, reserved: int, allocated: int) -> StockLevel:
    return msgspec.structs.replace(level, reserved=level.reserved - reserved, allocated=level.allocated - allocated)


def check_availability(db: Store, skus: Sequence[str], *, location_id: str = "") -> list[Availability]:
    """Units of each SKU that can be sold now, at one location or, when it is empty, at all of them.

    Raises: LocationNotFound, SkuNotFound.
    """

    def work(tx: Transaction) -> list[Availability]:
        if location_id:
            require_location(tx, location_id)
        for_sale = _offered(tx, skus)
        there = _available_by_location(tx, for_sale, location_id=location_id)
        return [Availability(sku, for_sale[sku], there[sku]) for sku in skus]

    return db.snapshot(work)


def _offered(tx: Transaction, skus: Iterable[str]) -> dict[str, bool]:
    """SKU -> whether it is for sale.

    Raises: SkuNotFound.
    """
    rows = store.OFFERED.all(tx, skus=encode(list(skus)).decode())
    for sku, for_sale in rows:
        if for_sale is None:
            raise SkuNotFound(sku)
    return {sku: bool(for_sale) for sku, for_sale in rows}


def require_for_sale(tx: Transaction, skus: Iterable[str]) -> None:
    """Refuse what cannot be sold.

    Raises: SkuNotFound, NotForSale.
    """
    for sku, for_sale in _offered(tx, skus).items():
        if not for_sale:
            raise NotForSale(sku)


def _available_by_location(tx: Transaction, skus: Iterable[str], *, location_id: str) -> dict[str, dict[str, int]]:
    """SKU -> location -> units that can be sold there, in the order in which they are taken; none of 0."""
    asked = encode(sorted(skus)).decode()
    due = {
        (location, sku): reserved + allocated
        for location, sku, reserved, allocated in DUE_UNITS.all(tx, skus=asked, now_us=tx.now_us)
    }
    levels = [
        (priority, -(units + due.get((location, sku), 0)), location, sku)
        for sku, location, units, priority in store.LEVELS_TO_TAKE_FROM.all(tx, skus=asked, location_id=location_id)
    ]
    there: dict[str, dict[str, int]] = defaultdict(dict)
    for _, units, location, sku in sorted(levels):
        if units < 0:
            there[sku][location] = -units
    return there


def get_movement(db: Store, movement_id: int) -> StockMovement:
    """One entry of the ledger.

    Raises: StockMovementNotFound.
    """
    row = db.read(lambda tx: MOVEMENTS.find(tx, (movement_id,))) if movement_id < 2**63 else None
    if row is None:
        raise StockMovementNotFound(f"stockMovements/{movement_id}")
    return StockMovement(*row)


def list_movements(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[StockMovement]:
    """One page of the ledger.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.read(lambda tx: MOVEMENT_LISTING.page(tx, request, tokens=tokens))


# -- what is on hand


def adjust_stock(
    db: Store, call: Call, key: Key, *, quantity_delta: int, cause: str = ADJUST, reason: str = "", etag: str = ""
) -> StockLevel:
    """Add units to what is on hand, or take some away.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock, InvalidAmount.
    """

    def effect(mutation: Mutation) -> StockLevel:
        old = _level_to_change(mutation, key, etag=etag)
        return _move(mutation, old, key, quantity_delta=quantity_delta, cause=cause, reason=reason)

    return mutate(db, call, effect, StockLevel)


def set_stock(
    db: Store,
    call: Call,
    key: Key,
    *,
    quantity: int,
    expected_quantity: int | None = None,
    reason: str = "",
    etag: str = "",
) -> StockLevel:
    """Set what is on hand to what a count found; without a difference nothing is written.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, QuantityMismatch, OutOfStock.
    """

    def effect(mutation: Mutation) -> StockLevel:
        old = _level_to_change(mutation, key, etag=etag)
        on_hand = 0 if old is None else old.on_hand
        if expected_quantity not in (None, on_hand):
            name = "locations/{}/stockLevels/{}".format(*key)
            raise QuantityMismatch(name, expected_quantity=expected_quantity or 0, on_hand=on_hand)
        if old is not None and quantity == on_hand:
            return old
        return _move(mutation, old, key, quantity_delta=quantity - on_hand, cause=COUNT, reason=reason)

    return mutate(db, call, effect, StockLevel)


def _level_to_change(mutation: Mutation, key: Key, *, etag: str) -> StockLevel | None:
    """Return the level once its expired stock is free again, or None where there has been no stock yet.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch.
    """
    tx = mutation.tx
    location_id, sku = key
    require_location(tx, location_id)
    _expire_all_of(mutation, [sku])
    row = LEVELS.find(tx, key)
    if row is None:
        if product_store.FIND_BY_SKU.one(tx, sku=sku) is None:
            raise SkuNotFound(sku)
        check_etag(_no_level(key), etag)
        return None
    level = StockLevel(*row)
    check_etag(level, etag)
    return level


def _expire_all_of(mutation: Mutation, skus: Sequence[str]) -> None:
    """Expire all that has expired and has units of these SKUs."""
    while expire_batch_of(mutation, skus):
        pass


def _no_level(key: Key) -> StockLevel:
    """What a level is before its first movement."""
    return StockLevel(
        key[0], key[1], on_hand=0, reserved=0, allocated=0, backorder_limit=0, version=0, update_time_us=0
    )


def _move(
    mutation: Mutation, old: StockLevel | None, key: Key, *, quantity_delta: int, cause: str, reason: str
) -> StockLevel:
    """Write one movement and the level after it.

    Raises: OutOfStock, InvalidAmount.
    """
    before = old or _no_level(key)
    if before.movable + quantity_delta < 0:
        raise OutOfStock({before.sku: (-quantity_delta, before.movable)})
    on_hand = before.on_hand + quantity_delta
    if on_hand > ON_HAND_MAX:
        raise InvalidAmount("quantity_delta", f"at most {ON_HAND_MAX} units of a SKU can be at a location")
    new = _put(mutation, old, msgspec.structs.replace(before, on_hand=on_hand))
    if quantity_delta:
        move = Move(new.location_id, new.sku, 0, quantity_delta, 0, 0)
        write_movements(mutation, cause, "", [move], {key: on_hand}, reason=reason)
    mutation.record("stock_level.updated", before=old, after=new)
    return new


def _put(mutation: Mutation, old: StockLevel | None, new: StockLevel) -> StockLevel:
    """Write the next version of a level, which may be its first."""
    new = msgspec.structs.replace(new, version=new.version + 1, update_time_us=mutation.tx.now_us)
    values = dict(zip(LEVELS.columns, msgspec.structs.astuple(new), strict=True))
    write = LEVELS.insert if old is None else LEVELS.update
    write(mutation.tx, values)
    return new


def update_level(db: Store, call: Call, key: Key, *, changes: Mapping[str, int], etag: str = "") -> StockLevel:
    """Change how many units may be sold beyond what is on hand, and how many are kept back from sale.

    Args:
        changes: `backorder_limit`, `safety_threshold`, both or none; without any difference nothing is written.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock where more is promised already.
    """

    def effect(mutation: Mutation) -> StockLevel:
        old = _level_to_change(mutation, key, etag=etag)
        new = msgspec.structs.replace(old or _no_level(key), **changes)
        if new == old:
            return new
        if new.unpromised < 0:
            promised = new.reserved + new.allocated
            raise OutOfStock({new.sku: (promised, promised + new.unpromised)})
        new = _put(mutation, old, new)
        mutation.record("stock_level.updated", before=old, after=new)
        return new

    return mutate(db, call, effect, StockLevel)


# -- from one location to another


def transfer_stock(
    db: Store,
    call: Call,
    lines: Sequence[tuple[str, int]],
    *,
    source_id: str,
    destination_id: str,
    reason: str = "",
) -> Transfer:
    """Move units from one location to another, all lines or none: what is there, and nobody was promised.

    Args:
        lines: (SKU, units); a SKU may stand on several.

    Raises: InvalidField, LocationNotFound, ResourceDeleted, SkuNotFound, OutOfStock, InvalidAmount.
    """
    if source_id == destination_id:
        raise InvalidField("destination", "it is the source")
    quantities = add_up(lines)

    def effect(mutation: Mutation) -> Transfer:
        for location_id in (source_id, destination_id):
            require_location(mutation.tx, location_id)
        _offered(mutation.tx, quantities)
        _expire_all_of(mutation, list(quantities))
        old = _levels_to_transfer(mutation.tx, quantities, source_id, destination_id)
        source = f"transfers/{new_id()}"
        changes = {key: (-1 if key[0] == source_id else 1) * quantities[key[1]] for key in old}
        moves = [Move(key[0], key[1], 0, delta, 0, 0) for key, delta in changes.items()]
        move_stock(mutation, TRANSFER, source, moves, reason=reason)
        return Transfer(source, tuple(_record_move(mutation, old[key], delta) for key, delta in changes.items()))

    return mutate(db, call, effect, Transfer)


def _record_move(mutation: Mutation, old: StockLevel, delta: int) -> StockLevel:
    """Write the event and the audit entry of a level that has been moved to or from."""
    new = msgspec.structs.replace(
        old, on_hand=old.on_hand + delta, version=old.version + 1, update_time_us=mutation.tx.now_us
    )
    mutation.record("stock_level.updated", before=old if old.version else None, after=new)
    return new


def _levels_to_transfer(
    tx: Transaction, quantities: dict[str, int], source_id: str, destination_id: str
) -> dict[Key, StockLevel]:
    """The levels that a transfer changes, as they are; those at the destination are made where there are none.

    Raises: OutOfStock, InvalidAmount.
    """
    keys = [(location_id, sku) for location_id in (source_id, destination_id) for sku in quantities]
    found = {(level.location_id, level.sku): level for level in map(_level_of, LEVELS.find_many(tx, keys))}
    levels: dict[Key, StockLevel] = {key: found.get(key) or _no_level(key) for key in keys}
    there = {sku: levels[source_id, sku].movable for sku in quantities}
    short = {sku: (units, there[sku]) for sku, units in quantities.items() if units > there[sku]}
    if short:
        raise OutOfStock(short)
    if any(levels[destination_id, sku].on_hand + units > ON_HAND_MAX for sku, units in quantities.items()):
        raise InvalidAmount("lines", f"at most {ON_HAND_MAX} units of a SKU can be at a location")
    new = [sku for sku in quantities if (destination_id, sku) not in found]
    if new:
        store.INSERT_LEVELS.run(tx, location_id=destination_id, skus=encode(new).decode(), now_us=tx.now_us)
    return levels


def _level_of(row: Sequence[Any]) -> StockLevel:
    return StockLevel(*row)


# -- what is promised


def require_location(tx: Transaction, location_id: str) -> None:
    """Refuse a location that is not there, or deleted.

    Raises: LocationNotFound, ResourceDeleted.
    """
    row = store.LOCATION_DELETED_AT.one(tx, id=location_id)
    if row is None:
        raise LocationNotFound(f"locations/{location_id}")
    if row[0] is not None:
        raise ResourceDeleted(f"locations/{location_id}")


LEVEL_LISTING = Listing(
    method="ListStockLevels",
    query=lambda: store.StockLevel.select(*LEVELS.fields),
    columns={
        "sku": Column(store.StockLevel.variant, FilterField(Kind.TEXT), sortable=True),
        "on_hand": Column(store.StockLevel.on_hand, FilterField(Kind.INTEGER), sortable=True),
        "allocated": Column(store.StockLevel.allocated, FilterField(Kind.INTEGER)),
        "available": Column(
            store.StockLevel.on_hand
            + store.StockLevel.backorder_limit
            - store.StockLevel.safety_threshold
            - store.StockLevel.reserved
            - store.StockLevel.allocated,
            FilterField(Kind.INTEGER),
            sortable=True,
        ),
        "update_time": Column(store.StockLevel.update_time_us, FilterField(Kind.TIME)),
    },
    unique=(store.StockLevel.variant, store.StockLevel.location),
    read_rows=_read_levels,
    default_order="sku",
    parent=store.StockLevel.location,
)
LOW_LISTING = Listing(
    method="ListLowStock",
    query=lambda: store.levels_for_sale(*LEVELS.fields),
    columns={"left": Column(store.WITHOUT_BACKORDER, sortable=True)},
    unique=(store.StockLevel.variant, store.StockLevel.location),
    read_rows=_read_levels,
    default_order="left",
    parent=store.StockLevel.location,
)
MOVEMENT_LISTING = Listing(
    method="ListStockMovements",
    query=lambda: store.StockMovement.select(*MOVEMENTS.fields),
    columns={
        "sku": Column(store.StockMovement.variant, FilterField(Kind.TEXT), matches=store.movements_of_sku),
        "location": Column(store.StockMovement.location, FilterField(Kind.TEXT, prefix="locations/")),
        "cause": Column(store.StockMovement.cause, FilterField(Kind.STATE, choices=CAUSES)),
        "create_time": Column(store.StockMovement.create_time_us, FilterField(Kind.TIME), sortable=True),
        "actor": Column(store.StockMovement.actor, FilterField(Kind.TEXT)),
        "source": Column(store.StockMovement.source, FilterField(Kind.TEXT)),
    },
    unique=(store.StockMovement.id,),
    read_rows=lambda tx, rows: [StockMovement(*row) for row in rows],
)
