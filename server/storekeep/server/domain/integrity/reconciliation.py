"""Reconciliation of stock levels with the stock ledger, and of the ledger with reservations and orders.

Reservations and orders are authoritative over the ledger, which gets the missing movements. The ledger is authoritative
over the levels. A repair that would commit more units than are on hand is refused: a person has to decide.
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
from storekeep.server.domain.standard.pages import PageTokens, limit_page_size
from storekeep.server.domain.stock.allocations import ALLOCATE, DEALLOCATE, RELEASE, RESERVE, Move, write_movements
from storekeep.server.domain.stock.stock_events import note_update
from storekeep.server.domain.stock.stock_levels import LEVELS, StockLevel
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
"""The name of the reservation or order, the line number, and the SKU."""


class Difference(msgspec.Struct, frozen=True):
    """A difference between recorded and expected units; see `StockDifference` in the contract."""

    location_id: str
    sku: str
    kind: str
    source: str
    line_number: int
    recorded: int
    expected: int
    repairable: bool = True


class Report(msgspec.Struct, frozen=True):
    """The result of one call."""

    differences: tuple[Difference, ...]
    skus_checked: int
    next_page_token: str = ""


class _Comparison(msgspec.Struct):
    """A stock level as recorded, and as it should be.

    Attributes:
        moved: the sums of its movements, in units: on hand, reserved, allocated.
        level: the recorded level; None if there is none.
        corrections: the reservations and orders that the ledger lacks at this location.
    """

    location_id: str
    sku: str
    moved: tuple[int, int, int]
    level: StockLevel | None = None
    corrections: list[Difference] = []

    @property
    def key(self) -> tuple[str, str]:
        """The location id and the SKU."""
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
        """The differences between the level and its movements, and the movements that are missing."""
        level = self.level
        recorded = (0, 0, 0) if level is None else (level.on_hand, level.reserved, level.allocated)
        for kind, was, moved in zip((ON_HAND, RESERVED, ALLOCATED), recorded, self.moved, strict=True):
            if was != moved:
                yield Difference(self.location_id, self.sku, kind, "", 0, was, moved)
        yield from self.corrections

    @property
    def repairable(self) -> bool:
        """Whether the corrected level satisfies the database constraints."""
        target = self.target
        return target.reserved >= 0 and target.allocated >= 0 and target.uncommitted >= 0


def reconcile(
    db: Store, call: Call, skus: Sequence[str], *, repair: bool, page_size: int, page_token: str, tokens: PageTokens
) -> Report:
    """Compare the stock of the given SKUs, or of one page of all SKUs.

    Args:
        skus: the SKUs to compare; empty for a page of all SKUs.
        repair: whether to repair the differences.
        page_size: SKUs on a page; 0 for the default.
        page_token: the token of the page; empty for the first page.

    Raises: InvalidPageToken, SkuNotFound.
    """
    identity = (METHOD, *skus)
    after = (tokens.read(identity, page_token) or [""])[0]
    size = limit_page_size(page_size, default=SKUS_DEFAULT)

    def effect(mutation: Mutation) -> Report:
        tx = mutation.tx
        checked, more = (list(dict.fromkeys(skus)), False) if skus else _list_next_skus(tx, after, size)
        _check_skus_exist(tx, checked)
        results = [(comparison, list(comparison.differences)) for comparison in _compare(tx, checked)]
        if repair:
            for comparison, differences in results:
                if differences and comparison.repairable:
                    _repair(mutation, comparison)
        reported = [
            msgspec.structs.replace(difference, repairable=comparison.repairable)
            for comparison, differences in results
            for difference in differences
        ]
        return Report(tuple(reported), len(checked), tokens.write(identity, [checked[-1]]) if more else "")

    return mutate(db, call, effect, Report)


def _list_next_skus(tx: Transaction, after: str, size: int) -> tuple[list[str], bool]:
    """Return the SKUs of a page, and whether there are more."""
    rows = store.NEXT_SKUS.all(tx, after=after, rows_max=size + 1)
    return [sku for (sku,) in rows[:size]], len(rows) > size


def _check_skus_exist(tx: Transaction, skus: Sequence[str]) -> None:
    """Raise SkuNotFound for the first SKU that no variant has."""
    for sku, _, for_sale in inventory_store.FIND_FOR_SALE.all(tx, skus=encode(skus).decode(), now_us=tx.now_us):
        if for_sale is None:
            raise SkuNotFound(sku)


# -- comparing


def _compare(tx: Transaction, skus: Sequence[str]) -> list[_Comparison]:
    """Compare every stock level of the SKUs, and add the corrections that the ledger needs."""
    skus_json = encode(skus).decode()
    rows = store.LEVELS_AND_MOVED.all(tx, skus=skus_json)
    comparisons = {comparison.key: comparison for comparison in map(_read_comparison, rows)}
    for difference in [*_compare_reservations(tx, skus_json), *_compare_orders(tx, skus_json)]:
        key = difference.location_id, difference.sku
        comparison = comparisons.setdefault(key, _Comparison(*key, (0, 0, 0)))
        comparison.corrections.append(difference)
    return sorted(comparisons.values(), key=lambda comparison: comparison.key[::-1])


def _read_comparison(row: Sequence[Any]) -> _Comparison:
    location_id, sku, on_hand, reserved, allocated, *level = row
    recorded = None if level[0] is None else StockLevel(location_id, sku, *level)
    return _Comparison(location_id, sku, (on_hand, reserved, allocated), recorded)


def _compare_reservations(tx: Transaction, skus_json: str) -> Iterator[Difference]:
    """Yield the differences between active reservations and the ledger."""
    expected = {tuple(row[:4]): row[4] for row in store.ACTIVE_RESERVATION_LINES.all(tx, skus=skus_json)}
    recorded = {tuple(row[:4]): row[4] for row in store.PROMISES_MOVED.all(tx, skus=skus_json) if row[4]}
    for source, line_number, sku, location in sorted(expected.keys() | recorded.keys()):
        key = source, line_number, sku, location
        recorded_units, expected_units = recorded.get(key, 0), expected.get(key, 0)
        if recorded_units != expected_units:
            yield Difference(location, sku, RESERVATION, source, line_number, recorded_units, expected_units)


def _compare_orders(tx: Transaction, skus_json: str) -> Iterator[Difference]:
    """Yield the differences between the open lines of orders and the ledger."""
    open_states = encode(sorted(HOLDS_STOCK)).decode()
    rows = store.OPEN_LINES.all(tx, skus=skus_json, open_states=open_states)
    expected = {(source, number, sku): (location, units) for source, number, sku, location, units in rows}
    recorded: dict[Line, dict[str, int]] = defaultdict(dict)
    for source, number, sku, location, _, allocated in store.PROMISES_MOVED.all(tx, skus=skus_json):
        if allocated:
            recorded[source, number, sku][location] = allocated
    for line in sorted(expected.keys() | recorded.keys()):
        home, units = expected.get(line, ("", 0))
        yield from _compare_line(line, home, units, recorded.get(line, {}))


def _compare_line(line: Line, home: str, units: int, allocated: dict[str, int]) -> Iterator[Difference]:
    """Yield the differences of one order line.

    Missing units are allocated at the order's own location. Excess units are taken from its last locations first.

    Args:
        home: the id of the order's location.
        units: the open units of the line.
        allocated: location id -> units that the ledger has allocated to the line.
    """
    missing = units - sum(allocated.values())
    if missing > 0:
        yield _make_order_difference(line, home, allocated.get(home, 0), missing)
    for location in sorted(allocated, reverse=True):
        if missing >= 0:
            break
        change = max(missing, -allocated[location])
        missing -= change
        yield _make_order_difference(line, location, allocated[location], change)


def _make_order_difference(line: Line, location: str, recorded: int, change: int) -> Difference:
    source, line_number, sku = line
    return Difference(location, sku, ORDER, source, line_number, recorded, recorded + change)


# -- repairing

CAUSES = {
    (RESERVATION, True): RESERVE,
    (RESERVATION, False): RELEASE,
    (ORDER, True): ALLOCATE,
    (ORDER, False): DEALLOCATE,
}


def _repair(mutation: Mutation, comparison: _Comparison) -> None:
    """Write the missing movements, and set the level to the sum of all movements."""
    for change in comparison.corrections:
        delta = change.expected - change.recorded
        committed = (delta, 0) if change.kind == RESERVATION else (0, delta)
        move = Move(comparison.location_id, comparison.sku, change.line_number, 0, *committed)
        cause = CAUSES[change.kind, delta > 0]
        write_movements(mutation, cause, change.source, [move], {comparison.key: comparison.moved[0]}, reason=REASON)
    old, new = comparison.level, comparison.target
    new = msgspec.structs.replace(new, version=new.version + 1, update_time_us=mutation.tx.now_us)
    values = dict(zip(LEVELS.columns, msgspec.structs.astuple(new), strict=True))
    write = LEVELS.insert if old is None else LEVELS.update
    write(mutation.tx, values)
    note_update(mutation, old, new)
    mutation.record("stock_level.updated", before=old, after=new)
