"""Stock events: `stock.low`, `stock.out` and `stock.back`, when the units left to sell cross a threshold.

Invariant: a mutation writes one event for each level whose condition differs between its start and its end, after its
other events. A level that a mutation creates has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from storekeep.server.domain.mutations import Mutation
from storekeep.server.domain.stock.stock_levels import LEVELS, StockLevel

STOCKED, LOW, OUT = "STOCKED", "LOW", "OUT"
EVENTS = {
    (STOCKED, LOW): "stock.low",
    (STOCKED, OUT): "stock.out",
    (LOW, OUT): "stock.out",
    (OUT, LOW): "stock.back",
    (OUT, STOCKED): "stock.back",
}
"""The conditions before and after a mutation -> the event. A level that is no longer low was never gone, so that it
has no event."""
Level = tuple[str, ...]
"""Location id and SKU."""


class MovedLevel(NamedTuple):
    """A level after a change; the columns of `MOVE_LEVELS`."""

    location_id: str
    sku: str
    on_hand: int
    left: int
    low_stock_threshold: int
    version: int


def note_moves(mutation: Mutation, moved: Iterable[MovedLevel], units: Mapping[Level, int]) -> None:
    """Note existing levels that have been changed.

    Args:
        units: the change of the units left to sell, by level.
    """
    for level in moved:
        if level.version > 1:
            key = level.location_id, level.sku
            note_change(mutation, key, left=level.left - units[key], change=units[key], low=level.low_stock_threshold)


def note_change(mutation: Mutation, level: Level, *, left: int, change: int, low: int) -> None:
    """Note a change of the units left to sell at a level.

    Args:
        left: the units before the change.
        change: the change in units.
        low: the low stock threshold.
    """
    before = _get_condition(left, low)
    if before != _get_condition(left + change, low):
        _note(mutation, level, before)


def note_update(mutation: Mutation, old: StockLevel | None, new: StockLevel) -> None:
    """Note a change of a whole level; `old` is None for a new level."""
    if old is None or not old.version:
        return
    before = _get_condition(old.left, old.low_stock_threshold)
    if before != _get_condition(new.left, new.low_stock_threshold):
        _note(mutation, (new.location_id, new.sku), before)


def _get_condition(left: int, low: int) -> str:
    if left <= 0:
        return OUT
    return LOW if left <= low else STOCKED


def _note(mutation: Mutation, level: Level, before: str) -> None:
    """Keep the condition of a level at the start of the mutation, and who changed it last."""
    first, _ = mutation.get_collected(_record_events).get(level, (before, None))
    mutation.collect(_record_events, level, (first, mutation))


def _record_events(noted: Mapping[Level, tuple[str, Mutation]]) -> None:
    """Write the events of the levels whose condition differs in the end."""
    levels = sorted(noted)
    tx = noted[levels[0]][1].tx
    for row in LEVELS.find_many(tx, levels):
        level: Any = StockLevel(*row)
        before, mutation = noted[level.location_id, level.sku]
        event = EVENTS.get((before, _get_condition(level.left, level.low_stock_threshold)))
        if event is not None:
            mutation.by(mutation.call).record(event, before=level, after=level)
