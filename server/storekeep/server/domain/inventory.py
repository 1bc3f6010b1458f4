"""Stock: how many units of a SKU are where, and the ledger of how it came to be.

Refuses to promise or take away a unit that is not there. Invariant: what is on hand is the sum of the
ledger; what is promised never exceeds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storekeep.server.domain.allocations import (
    ALLOCATE,
    DEALLOCATE,
    RELEASE,
    RESERVE,
    SHIP,
    Move,
    write_movements,
)
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    InvalidAmount,
    LocationNotFound,
    OutOfStock,
    QuantityMismatch,
    ResourceDeleted,
    SkuNotFound,
    StockLevelNotFound,
    StockMovementNotFound,
)
from storekeep.server.domain.filters import FilterField, Kind
from storekeep.server.domain.lists import Column, Listing, ListRequest
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.pages import Page, PageTokens
from storekeep.server.domain.resources import check_etag
from storekeep.server.store import inventory as store
from storekeep.server.store import products as product_store
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store
from storekeep.server.store.rows import Rows

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
    """How many units of one SKU can be sold, and whether it is for sale at all."""

    sku: str
    available: int
    for_sale: bool


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
    row = db.read(lambda tx: LEVELS.find(tx, key))
    if row is None:
        raise StockLevelNotFound("locations/{}/stockLevels/{}".format(*key))
    return StockLevel(*row)


def batch_get_levels(db: Store, keys: Sequence[Key]) -> list[StockLevel]:
    """Stock levels at one point in time, in the order of the keys, all or none.

    Raises: StockLevelNotFound, for the first that is missing.
    """
    found = [StockLevel(*row) for row in db.read(lambda tx: LEVELS.find_many(tx, keys))]
    there = {(level.location_id, level.sku) for level in found}
    for key in keys:
        if key not in there:
            raise StockLevelNotFound("locations/{}/stockLevels/{}".format(*key))
    return found


def list_levels(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[StockLevel]:
    """One page of stock levels.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.read(lambda tx: LEVEL_LISTING.page(tx, request, tokens=tokens))


def check_availability(db: Store, skus: Sequence[str], *, location_id: str = "") -> list[Availability]:
    """Units of each SKU that can be sold now, at one location or, when it is empty, at all of them.

    Raises: LocationNotFound, SkuNotFound.
    """

    def work(tx: Transaction) -> list[Availability]:
        if location_id:
            require_location(tx, location_id)
        wanted = msgspec.json.encode(list(skus)).decode()
        rows = store.CHECK_AVAILABILITY.all(tx, skus=wanted, location_id=location_id)
        for sku, _, for_sale in rows:
            if for_sale is None:
                raise SkuNotFound(sku)
        return [Availability(sku, available, bool(for_sale)) for sku, available, for_sale in rows]

    return db.snapshot(work)


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
        old = _level_to_change(mutation.tx, key, etag=etag)
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
        old = _level_to_change(mutation.tx, key, etag=etag)
        on_hand = 0 if old is None else old.on_hand
        if expected_quantity not in (None, on_hand):
            name = "locations/{}/stockLevels/{}".format(*key)
            raise QuantityMismatch(name, expected_quantity=expected_quantity or 0, on_hand=on_hand)
        if old is not None and quantity == on_hand:
            return old
        return _move(mutation, old, key, quantity_delta=quantity - on_hand, cause=COUNT, reason=reason)

    return mutate(db, call, effect, StockLevel)


def _level_to_change(tx: Transaction, key: Key, *, etag: str) -> StockLevel | None:
    """The level as it is, or None where there has been no stock yet.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch.
    """
    location_id, sku = key
    require_location(tx, location_id)
    row = LEVELS.find(tx, key)
    if row is None:
        if product_store.FIND_BY_SKU.one(tx, sku=sku) is None:
            raise SkuNotFound(sku)
        check_etag(_no_level(key), etag)
        return None
    level = StockLevel(*row)
    check_etag(level, etag)
    return level


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
    tx = mutation.tx
    before = old or _no_level(key)
    if before.unpromised + quantity_delta < 0:
        raise OutOfStock({before.sku: (-quantity_delta, before.unpromised)})
    on_hand = before.on_hand + quantity_delta
    if on_hand > ON_HAND_MAX:
        raise InvalidAmount("quantity_delta", f"at most {ON_HAND_MAX} units of a SKU can be at a location")
    new = msgspec.structs.replace(before, on_hand=on_hand, version=before.version + 1, update_time_us=tx.now_us)
    values = dict(zip(LEVELS.columns, msgspec.structs.astuple(new), strict=True))
    write = LEVELS.insert if old is None else LEVELS.update
    write(tx, values)
    if quantity_delta:
        move = Move(new.location_id, new.sku, 0, quantity_delta, 0, 0)
        write_movements(mutation, cause, "", [move], {key: on_hand}, reason=reason)
    mutation.record("stock_level.updated", before=old, after=new)
    return new


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
    read_rows=lambda tx, rows: [StockLevel(*row) for row in rows],
    default_order="sku",
    parent=store.StockLevel.location,
)
MOVEMENT_LISTING = Listing(
    method="ListStockMovements",
    query=lambda: store.StockMovement.select(*MOVEMENTS.fields),
    columns={
        "sku": Column(store.StockMovement.variant, FilterField(Kind.TEXT)),
        "location": Column(store.StockMovement.location, FilterField(Kind.TEXT, prefix="locations/")),
        "cause": Column(store.StockMovement.cause, FilterField(Kind.STATE, choices=CAUSES)),
        "create_time": Column(store.StockMovement.create_time_us, FilterField(Kind.TIME), sortable=True),
        "actor": Column(store.StockMovement.actor, FilterField(Kind.TEXT)),
    },
    unique=(store.StockMovement.id,),
    read_rows=lambda tx, rows: [StockMovement(*row) for row in rows],
)
