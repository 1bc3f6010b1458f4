"""Stock levels: the units of each SKU at each location, and the ledger of their movements.

Invariant: the units on hand are the sum of the movements; reserved and allocated units never exceed the units on hand
plus the backorder limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.catalog.quantity_rules import check_quantities
from storekeep.server.domain.errors import (
    InvalidAmount,
    InvalidField,
    LocationNotFound,
    NotForSale,
    OutOfStock,
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
    RETURN,
    SHIP,
    Move,
    move_stock,
    sum_quantities,
    write_movements,
)
from storekeep.server.domain.stock.expiry import expire_batch_by_sku
from storekeep.server.domain.stock.stock_events import note_update
from storekeep.server.domain.stock.stock_levels import LEVELS, StockLevel
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as product_store
from storekeep.server.store.tables import stock as store
from storekeep.server.store.tables.expiry import EXPIRED_UNITS

RECEIVE, ADJUST, COUNT, WRITE_OFF = "RECEIVE", "ADJUST", "COUNT", "WRITE_OFF"
TRANSFER = "TRANSFER"
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
REQUIRED_SIGNS = {RECEIVE: 1, RETURN: 1, WRITE_OFF: -1}
"""The sign that the units of a cause must have; those of other causes may have either."""
ON_HAND_MAX = 10**12
"""The maximum units of one SKU at one location."""
Key = tuple[str, ...]
encode = msgspec.json.encode


class StockMovement(msgspec.Struct, frozen=True):
    """One entry of the stock ledger; see `StockMovement` in the contract."""

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
        """Return the resource name."""
        return f"stockMovements/{self.id}"


class Availability(msgspec.Struct, frozen=True):
    """The available units of one SKU, and whether it is for sale.

    Attributes:
        locations: location id -> available units, in the order of use. Locations with 0 are absent.
    """

    sku: str
    for_sale: bool
    locations: dict[str, int]

    @property
    def available(self) -> int:
        """Return the available units over all locations."""
        return sum(self.locations.values())


class Transfer(msgspec.Struct, frozen=True):
    """A transfer of units to another location.

    Attributes:
        source: the `source` of its movements in the stock ledger.
        levels: the levels at the source location by SKU, then those at the destination by SKU.
    """

    source: str
    levels: tuple[StockLevel, ...]


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
    """Return one stock level.

    Raises: StockLevelNotFound.
    """
    return batch_get_levels(db, [key])[0]


def batch_get_levels(db: Store, keys: Sequence[Key]) -> list[StockLevel]:
    """Return stock levels from one snapshot, in the order of the keys.

    Raises: StockLevelNotFound, for the first that is missing; BatchTooLarge.
    """
    levels = db.snapshot(lambda tx: _read_levels(tx, LEVELS.find_many(tx, keys)))
    existing = {(level.location_id, level.sku) for level in levels}
    for key in keys:
        if key not in existing:
            raise StockLevelNotFound("locations/{}/stockLevels/{}".format(*key))
    check_batch(levels)
    return levels


def list_levels(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[StockLevel]:
    """Return one page of stock levels.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LEVEL_LISTING.page(tx, request, tokens=tokens))


def list_low_stock(
    db: Store, request: ListRequest, *, location_id: str, available_max: int, tokens: PageTokens
) -> Page[StockLevel]:
    """Return one page of levels with at most `available_max` units for sale, the lowest first. Backorders do not count.

    Args:
        location_id: list levels of this location; empty for all locations.

    Raises: LocationNotFound, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[StockLevel]:
        if location_id and store.LOCATION_DELETE_TIME.one(tx, id=location_id) is None:
            raise LocationNotFound(f"locations/{location_id}")
        listing = _build_low_listing(available_max, now_us=tx.now_us)
        return listing.page(tx, replace(request, parent=location_id), tokens=tokens)

    return db.snapshot(work)


def _build_low_listing(available_max: int, *, now_us: int) -> Listing[StockLevel]:
    levels = store.select_levels_for_sale(*LEVELS.fields, now_us=now_us)
    return Listing(
        method=f"ListLowStock/{available_max}",
        query=lambda: levels.where(available_max >= store.SELLABLE_ON_HAND),
        columns={"left": Column(store.SELLABLE_ON_HAND, sortable=True)},
        unique=(store.StockLevel.variant, store.StockLevel.location),
        read_rows=_read_levels,
        default_order="left",
        parent=store.StockLevel.location,
    )


def _read_levels(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[StockLevel]:
    """Build levels from rows. Units of expired reservations and orders do not count, even if not written yet."""
    levels = [StockLevel(*row) for row in rows]
    skus = encode(sorted({level.sku for level in levels})).decode()
    expired = {row[:2]: row[2:] for row in EXPIRED_UNITS.all(tx, skus=skus, now_us=tx.now_us)}
    if not expired:
        return levels
    return [_subtract_expired(level, *expired.get((level.location_id, level.sku), (0, 0))) for level in levels]


def _subtract_expired(level: StockLevel, reserved: int, allocated: int) -> StockLevel:
    return msgspec.structs.replace(level, reserved=level.reserved - reserved, allocated=level.allocated - allocated)


def check_availability(db: Store, skus: Sequence[str], *, location_id: str = "") -> list[Availability]:
    """Return the available units of each SKU, in the order of `skus`.

    Args:
        location_id: count this location only; empty for all locations.

    Raises: LocationNotFound, SkuNotFound.
    """

    def work(tx: Transaction) -> list[Availability]:
        if location_id:
            require_location(tx, location_id)
        for_sale = {sku: is_for_sale for sku, _, is_for_sale in _read_offers(tx, skus)}
        available = _read_available(tx, for_sale, location_id=location_id)
        return [Availability(sku, for_sale[sku], available[sku]) for sku in skus]

    return db.snapshot(work)


def _read_offers(tx: Transaction, skus: Iterable[str]) -> list[tuple[str, str, bool]]:
    """Return (SKU, quantity rules as JSON, whether it is for sale) of each SKU, in order.

    Raises: SkuNotFound.
    """
    rows = store.FIND_FOR_SALE.all(tx, skus=encode(list(skus)).decode(), now_us=tx.now_us)
    for sku, _, for_sale in rows:
        if for_sale is None:
            raise SkuNotFound(sku)
    return [(sku, rules, bool(for_sale)) for sku, rules, for_sale in rows]


def require_for_sale(tx: Transaction, quantities: Mapping[str, int], *, sold: Container[str] | None = None) -> None:
    """Raise unless all SKUs are for sale, and these units of each keep its quantity rules.

    Args:
        quantities: units by SKU.
        sold: the SKUs that must be for sale; None for all.

    Raises: SkuNotFound, NotForSale, QuantityNotAllowed.
    """
    offers = _read_offers(tx, quantities)
    for sku, _, for_sale in offers:
        if not for_sale and (sold is None or sku in sold):
            raise NotForSale(sku)
    check_quantities(quantities, [(sku, rules) for sku, rules, _ in offers])


def _read_available(tx: Transaction, skus: Iterable[str], *, location_id: str) -> dict[str, dict[str, int]]:
    """Return SKU -> location id -> available units, in the order of use. Locations with 0 are absent."""
    skus_json = encode(sorted(skus)).decode()
    expired = {
        (location, sku): reserved + allocated
        for location, sku, reserved, allocated in EXPIRED_UNITS.all(tx, skus=skus_json, now_us=tx.now_us)
    }
    levels = [
        (priority, -(units + expired.get((location, sku), 0)), location, sku)
        for sku, location, units, priority in store.LEVELS_TO_TAKE_FROM.all(tx, skus=skus_json, location_id=location_id)
    ]
    available: dict[str, dict[str, int]] = defaultdict(dict)
    for _, negative_units, location, sku in sorted(levels):
        if negative_units < 0:
            available[sku][location] = -negative_units
    return available


def get_movement(db: Store, movement_id: int) -> StockMovement:
    """Return one entry of the stock ledger.

    Raises: StockMovementNotFound.
    """
    row = db.read(lambda tx: MOVEMENTS.find(tx, (movement_id,))) if movement_id < 2**63 else None
    if row is None:
        raise StockMovementNotFound(f"stockMovements/{movement_id}")
    return StockMovement(*row)


def list_movements(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[StockMovement]:
    """Return one page of the stock ledger.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.read(lambda tx: MOVEMENT_LISTING.page(tx, request, tokens=tokens))


# -- changing levels


def adjust_stock(db: Store, call: Call, key: Key, **adjustment: Any) -> StockLevel:
    """Add or subtract units on hand; see `adjust_level`.

    Raises: the errors of `adjust_level`.
    """
    return mutate(db, call, lambda mutation: adjust_level(mutation, key, **adjustment), StockLevel)


def adjust_level(
    mutation: Mutation, key: Key, *, quantity_delta: int, cause: str = ADJUST, reason: str = "", etag: str = ""
) -> StockLevel:
    """Add or subtract units on hand within a running mutation.

    Args:
        quantity_delta: units to add; negative to subtract. The caller has called `check_sign`.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock, InvalidAmount.
    """
    old = find_level_for_update(mutation, key, etag=etag)
    return _change_on_hand(mutation, old, key, quantity_delta=quantity_delta, cause=cause, reason=reason)


def check_sign(quantity_delta: int, cause: str) -> None:
    """Raise InvalidField if the sign contradicts the cause: a receipt adds units, a write-off removes some."""
    sign = REQUIRED_SIGNS.get(cause)
    if sign and quantity_delta * sign < 0:
        direction, verb = ("positive", "adds") if sign > 0 else ("negative", "removes")
        raise InvalidField("quantity_delta", f"must be {direction}, because {cause} {verb} units; ADJUST allows both")


def find_level_for_update(mutation: Mutation, key: Key, *, etag: str) -> StockLevel | None:
    """Write pending expiries of the SKU, then return the level, or None if it does not exist yet.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch.
    """
    tx = mutation.tx
    location_id, sku = key
    require_location(tx, location_id)
    _expire_all_by_sku(mutation, [sku])
    row = LEVELS.find(tx, key)
    if row is None:
        if product_store.FIND_BY_SKU.one(tx, sku=sku) is None:
            raise SkuNotFound(sku)
        check_etag(build_empty_level(key), etag)
        return None
    level = StockLevel(*row)
    check_etag(level, etag)
    return level


def _expire_all_by_sku(mutation: Mutation, skus: Sequence[str]) -> None:
    """Write all pending expiries of reservations and orders with units of these SKUs."""
    while expire_batch_by_sku(mutation, skus):
        pass


def build_empty_level(key: Key) -> StockLevel:
    """Return a level as it is before its first movement: version 0, no units."""
    return StockLevel(
        key[0], key[1], on_hand=0, reserved=0, allocated=0, backorder_limit=0, version=0, update_time_us=0
    )


def _change_on_hand(
    mutation: Mutation, old: StockLevel | None, key: Key, *, quantity_delta: int, cause: str, reason: str
) -> StockLevel:
    """Change the units on hand, write the movement and return the new level.

    Raises: OutOfStock, InvalidAmount.
    """
    before = old or build_empty_level(key)
    if before.movable + quantity_delta < 0:
        raise OutOfStock({before.sku: (-quantity_delta, before.movable)})
    on_hand = before.on_hand + quantity_delta
    if on_hand > ON_HAND_MAX:
        raise InvalidAmount("quantity_delta", f"a location can hold at most {ON_HAND_MAX} units of a SKU")
    changed = msgspec.structs.replace(before, on_hand=on_hand)
    return write_on_hand(mutation, old, changed, quantity_delta=quantity_delta, cause=cause, reason=reason)


def write_on_hand(
    mutation: Mutation, old: StockLevel | None, changed: StockLevel, *, quantity_delta: int, cause: str, reason: str
) -> StockLevel:
    """Write a level with other units on hand, and the movement; return the new level."""
    new = _save_level(mutation, old, changed)
    if quantity_delta:
        move = Move(new.location_id, new.sku, 0, quantity_delta, 0, 0)
        on_hand: dict[Key, int] = {(new.location_id, new.sku): new.on_hand}
        write_movements(mutation, cause, "", [move], on_hand, reason=reason)
    mutation.record("stock_level.updated", before=old, after=new)
    return new


def _save_level(mutation: Mutation, old: StockLevel | None, new: StockLevel) -> StockLevel:
    """Write the next version of a level. Insert the row if `old` is None."""
    new = msgspec.structs.replace(new, version=new.version + 1, update_time_us=mutation.tx.now_us)
    values = dict(zip(LEVELS.columns, msgspec.structs.astuple(new), strict=True))
    write = LEVELS.insert if old is None else LEVELS.update
    write(mutation.tx, values)
    note_update(mutation, old, new)
    return new


def update_level(db: Store, call: Call, key: Key, *, changes: Mapping[str, int], etag: str = "") -> StockLevel:
    """Change the backorder limit and the thresholds of a level, in units.

    Args:
        changes: `backorder_limit`, `safety_threshold` and `low_stock_threshold`. Nothing is written if no value
            differs.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock if too many units are
        reserved or allocated.
    """

    def effect(mutation: Mutation) -> StockLevel:
        old = find_level_for_update(mutation, key, etag=etag)
        new = msgspec.structs.replace(old or build_empty_level(key), **changes)
        if new == old:
            return new
        if new.uncommitted < 0:
            committed = new.reserved + new.allocated
            raise OutOfStock({new.sku: (committed, committed + new.uncommitted)})
        new = _save_level(mutation, old, new)
        mutation.record("stock_level.updated", before=old, after=new)
        return new

    return mutate(db, call, effect, StockLevel)


# -- transfers


def transfer_stock(
    db: Store,
    call: Call,
    lines: Sequence[tuple[str, int]],
    *,
    source_id: str,
    destination_id: str,
    reason: str = "",
) -> Transfer:
    """Move units from one location to another, all lines or none. Reserved and allocated units cannot be moved.

    Args:
        lines: (SKU, units); several lines may have the same SKU.

    Raises: InvalidField, LocationNotFound, ResourceDeleted, SkuNotFound, OutOfStock, InvalidAmount.
    """
    if source_id == destination_id:
        raise InvalidField("destination", "the destination must differ from the source")
    quantities = sum_quantities(lines)

    def effect(mutation: Mutation) -> Transfer:
        for location_id in (source_id, destination_id):
            require_location(mutation.tx, location_id)
        _read_offers(mutation.tx, quantities)
        _expire_all_by_sku(mutation, list(quantities))
        old = _prepare_transfer(mutation.tx, quantities, source_id, destination_id)
        source = f"transfers/{new_id()}"
        changes = {key: (-1 if key[0] == source_id else 1) * quantities[key[1]] for key in old}
        moves = [Move(key[0], key[1], 0, delta, 0, 0) for key, delta in changes.items()]
        move_stock(mutation, TRANSFER, source, moves, reason=reason)
        return Transfer(source, tuple(_record_move(mutation, old[key], delta) for key, delta in changes.items()))

    return mutate(db, call, effect, Transfer)


def _record_move(mutation: Mutation, old: StockLevel, delta: int) -> StockLevel:
    """Write the event and the audit entry of a level that a transfer has changed. Return its new version."""
    new = msgspec.structs.replace(
        old, on_hand=old.on_hand + delta, version=old.version + 1, update_time_us=mutation.tx.now_us
    )
    mutation.record("stock_level.updated", before=old if old.version else None, after=new)
    return new


def _prepare_transfer(
    tx: Transaction, quantities: dict[str, int], source_id: str, destination_id: str
) -> dict[Key, StockLevel]:
    """Return the levels that a transfer changes. Insert missing levels at the destination.

    Raises: OutOfStock, InvalidAmount.
    """
    keys = [(location_id, sku) for location_id in (source_id, destination_id) for sku in quantities]
    existing = {(level.location_id, level.sku): level for level in map(_build_level, LEVELS.find_many(tx, keys))}
    levels: dict[Key, StockLevel] = {key: existing.get(key) or build_empty_level(key) for key in keys}
    movable = {sku: levels[source_id, sku].movable for sku in quantities}
    short = {sku: (units, movable[sku]) for sku, units in quantities.items() if units > movable[sku]}
    if short:
        raise OutOfStock(short)
    if any(levels[destination_id, sku].on_hand + units > ON_HAND_MAX for sku, units in quantities.items()):
        raise InvalidAmount("lines", f"a location can hold at most {ON_HAND_MAX} units of a SKU")
    new = [sku for sku in quantities if (destination_id, sku) not in existing]
    if new:
        store.INSERT_LEVELS.run(tx, location_id=destination_id, skus=encode(new).decode(), now_us=tx.now_us)
    return levels


def _build_level(row: Sequence[Any]) -> StockLevel:
    return StockLevel(*row)


def require_location(tx: Transaction, location_id: str) -> None:
    """Raise unless the location exists and is not deleted.

    Raises: LocationNotFound, ResourceDeleted.
    """
    row = store.LOCATION_DELETE_TIME.one(tx, id=location_id)
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
        "update_time": Column(store.StockLevel.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.StockLevel.variant, store.StockLevel.location),
    read_rows=_read_levels,
    default_order="sku",
    parent=store.StockLevel.location,
)
MOVEMENT_LISTING = Listing(
    method="ListStockMovements",
    query=lambda: store.StockMovement.select(*MOVEMENTS.fields),
    columns={
        "sku": Column(store.StockMovement.variant, FilterField(Kind.TEXT), matches=store.compare_movement_sku),
        "location": Column(store.StockMovement.location, FilterField(Kind.TEXT, prefix="locations/")),
        "cause": Column(
            store.StockMovement.cause, FilterField(Kind.STATE, choices=CAUSES, prefix="STOCK_MOVEMENT_CAUSE_")
        ),
        "create_time": Column(store.StockMovement.create_time_us, FilterField(Kind.TIME), sortable=True),
        "actor": Column(store.StockMovement.actor, FilterField(Kind.TEXT)),
        "source": Column(store.StockMovement.source, FilterField(Kind.TEXT)),
    },
    unique=(store.StockMovement.id,),
    read_rows=lambda tx, rows: [StockMovement(*row) for row in rows],
)
