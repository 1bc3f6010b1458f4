"""Reconciliation: stock levels against the ledger, and the ledger against what keeps or was promised units.

Of a promise, the reservation or the order is right, and the ledger gets the movement that it lacks; of a level, the
ledger is right. Refuses to repair a level so that more is promised than is there: that needs a person.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import SkuNotFound
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.states import HOLDS_STOCK
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock.allocations import ALLOCATE, DEALLOCATE, RELEASE, RESERVE, Move, write_movements
from storekeep.server.domain.stock.levels import LEVELS, StockLevel
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import reconciliation as store
from storekeep.server.store.tables import stock as inventory_store

ON_HAND, RESERVED, ALLOCATED = "ON_HAND", "RESERVED", "ALLOCATED"
RESERVATION, ORDER = "RESERVATION", "ORDER"
METHOD = "ReconcileStock"
SKUS_DEFAULT = 200
REASON = "reconciled"
encode = msgspec.json.encode
Line = tuple[str, int, str]
"""Source, line number, SKU."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not what another adds up to; see `StockDifference` in the contract."""

    location_id: str
    sku: str
    kind: str
    source: str
    line_number: int
    recorded: int
    expected: int
    repairable: bool = True


class Report(msgspec.Struct, frozen=True):
    """What one call found."""

    differences: tuple[Difference, ...]
    skus_checked: int
    next_page_token: str = ""


class _Place(msgspec.Struct):
    """One level as it is written, and as it should be.

    Attributes:
        level: None where there is none.
        moved: what its movements add up to: on hand, reserved, allocated.
        corrections: what the ledger lacks of promises there.
    """

    location_id: str
    sku: str
    moved: tuple[int, int, int]
    level: StockLevel | None = None
    corrections: list[Difference] = []

    @property
    def key(self) -> tuple[str, str]:
        """Location and SKU."""
        return self.location_id, self.sku

    @property
    def target(self) -> StockLevel:
        """The level as it should be."""
        old = self.level or StockLevel(self.location_id, self.sku, 0, 0, 0, 0, version=0, update_time_us=0)
        on_hand, reserved, allocated = self.moved
        for change in self.corrections:
            reserved += (change.expected - change.recorded) * (change.kind == RESERVATION)
            allocated += (change.expected - change.recorded) * (change.kind == ORDER)
        return msgspec.structs.replace(old, on_hand=on_hand, reserved=reserved, allocated=allocated)

    @property
    def differences(self) -> Iterator[Difference]:
        """Where the level is not what its movements add up to, and what these lack."""
        level = self.level
        recorded = (0, 0, 0) if level is None else (level.on_hand, level.reserved, level.allocated)
        for kind, was, moved in zip((ON_HAND, RESERVED, ALLOCATED), recorded, self.moved, strict=True):
            if was != moved:
                yield Difference(self.location_id, self.sku, kind, "", 0, was, moved)
        yield from self.corrections

    @property
    def repairable(self) -> bool:
        """Whether the database would take the level as it should be."""
        target = self.target
        return target.reserved >= 0 and target.allocated >= 0 and target.unpromised >= 0


def reconcile(
    db: Store, call: Call, skus: Sequence[str], *, repair: bool, page_size: int, page_token: str, tokens: PageTokens
) -> Report:
    """Compare the stock of some SKUs, or of a page of all of them, and repair what differs when told so.

    Raises: InvalidPageToken, SkuNotFound.
    """
    identity = (METHOD, *skus)
    after = (tokens.read(identity, page_token) or [""])[0]
    size = page_size or SKUS_DEFAULT

    def effect(mutation: Mutation) -> Report:
        tx = mutation.tx
        wanted, more = (list(dict.fromkeys(skus)), False) if skus else _next_skus(tx, after, size)
        _require(tx, wanted)
        places = _compare(tx, wanted)
        found = [(place, list(place.differences)) for place in places]
        if repair:
            for place, differences in found:
                if differences and place.repairable:
                    _repair(mutation, place)
        told = [
            msgspec.structs.replace(difference, repairable=place.repairable)
            for place, differences in found
            for difference in differences
        ]
        return Report(tuple(told), len(wanted), tokens.write(identity, [wanted[-1]]) if more else "")

    return mutate(db, call, effect, Report)


def _next_skus(tx: Transaction, after: str, size: int) -> tuple[list[str], bool]:
    """The SKUs of a page, and whether there are more."""
    rows = store.NEXT_SKUS.all(tx, after=after, rows_max=size + 1)
    return [sku for (sku,) in rows[:size]], len(rows) > size


def _require(tx: Transaction, skus: Sequence[str]) -> None:
    """Refuse a SKU that no variant has.

    Raises: SkuNotFound.
    """
    for sku, for_sale in inventory_store.OFFERED.all(tx, skus=encode(skus).decode()):
        if for_sale is None:
            raise SkuNotFound(sku)


# -- comparing


def _compare(tx: Transaction, skus: Sequence[str]) -> list[_Place]:
    """Every place of some SKUs, with what the ledger lacks of promises there."""
    asked = encode(skus).decode()
    places = {place.key: place for place in map(_place_of, store.LEVELS_AND_MOVED.all(tx, skus=asked))}
    for difference in [*_lacking_reservations(tx, asked), *_lacking_orders(tx, asked)]:
        key = difference.location_id, difference.sku
        place = places.setdefault(key, _Place(*key, (0, 0, 0)))
        place.corrections.append(difference)
    return sorted(places.values(), key=lambda place: place.key[::-1])


def _place_of(row: Sequence[Any]) -> _Place:
    location_id, sku, on_hand, reserved, allocated, *level = row
    written = None if level[0] is None else StockLevel(location_id, sku, *level)
    return _Place(location_id, sku, (on_hand, reserved, allocated), written)


def _lacking_reservations(tx: Transaction, asked: str) -> Iterator[Difference]:
    """Where the ledger has not reserved what active reservations keep."""
    expected = {tuple(row[:4]): row[4] for row in store.KEPT.all(tx, skus=asked)}
    recorded = {tuple(row[:4]): row[4] for row in store.PROMISES_MOVED.all(tx, skus=asked) if row[4]}
    for source, line_number, sku, location in sorted(expected.keys() | recorded.keys()):
        key = source, line_number, sku, location
        was, should = recorded.get(key, 0), expected.get(key, 0)
        if was != should:
            yield Difference(location, sku, RESERVATION, source, line_number, was, should)


def _lacking_orders(tx: Transaction, asked: str) -> Iterator[Difference]:
    """Where the ledger has not allocated what is open of orders."""
    open_states = encode(sorted(HOLDS_STOCK)).decode()
    rows = store.OPEN_LINES.all(tx, skus=asked, open_states=open_states)
    expected = {(source, number, sku): (location, units) for source, number, sku, location, units in rows}
    recorded: dict[Line, dict[str, int]] = defaultdict(dict)
    for source, number, sku, location, _, allocated in store.PROMISES_MOVED.all(tx, skus=asked):
        if allocated:
            recorded[source, number, sku][location] = allocated
    for line in sorted(expected.keys() | recorded.keys()):
        home, units = expected.get(line, ("", 0))
        yield from _lacking_line(line, home, units, recorded.get(line, {}))


def _lacking_line(line: Line, home: str, units: int, there: dict[str, int]) -> Iterator[Difference]:
    """What a line lacks goes to its order's own location; what it has too much is taken from its last locations first.

    Args:
        there: location -> units that the ledger has allocated to it.
    """
    lacking = units - sum(there.values())
    if lacking > 0:
        yield _order_difference(line, home, there.get(home, 0), lacking)
    for location in sorted(there, reverse=True):
        if lacking >= 0:
            break
        change = max(lacking, -there[location])
        lacking -= change
        yield _order_difference(line, location, there[location], change)


def _order_difference(line: Line, location: str, recorded: int, change: int) -> Difference:
    source, line_number, sku = line
    return Difference(location, sku, ORDER, source, line_number, recorded, recorded + change)


# -- repairing

CAUSES = {
    (RESERVATION, True): RESERVE,
    (RESERVATION, False): RELEASE,
    (ORDER, True): ALLOCATE,
    (ORDER, False): DEALLOCATE,
}


def _repair(mutation: Mutation, place: _Place) -> None:
    """Give the ledger what it lacks, and have the level be what it adds up to."""
    for change in place.corrections:
        delta = change.expected - change.recorded
        promised = (delta, 0) if change.kind == RESERVATION else (0, delta)
        move = Move(place.location_id, place.sku, change.line_number, 0, *promised)
        cause = CAUSES[change.kind, delta > 0]
        write_movements(mutation, cause, change.source, [move], {place.key: place.moved[0]}, reason=REASON)
    old, new = place.level, place.target
    new = msgspec.structs.replace(new, version=new.version + 1, update_time_us=mutation.tx.now_us)
    values = dict(zip(LEVELS.columns, msgspec.structs.astuple(new), strict=True))
    write = LEVELS.insert if old is None else LEVELS.update
    write(mutation.tx, values)
    mutation.record("stock_level.updated", before=old, after=new)
