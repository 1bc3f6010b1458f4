"""The stock that a dry run of an order import has used so far, because the server stores nothing of a dry run.

A call names the units that matter for its orders. Invariant: none is left out, so a call that would need too many
takes fewer orders.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from storekeep.client import HistoricOrder, OrderImportResult, TakenUnits

TAKEN_MAX = 5_000
"""Maximum number of taken units, each of one SKU and location, in one call."""
TAKEN_BYTES_MAX = 256 * 1024
"""Maximum size of the taken units in one call, a quarter of the server's message limit by default."""


class TakenStock:
    """The units that the orders of earlier calls would have allocated, by SKU and location."""

    def __init__(self) -> None:
        self._units: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, results: Iterable[OrderImportResult]) -> None:
        """Add the units of the orders of a call, as the server reports them."""
        for result in results:
            for taken in result.taken_units:
                self._units[taken.sku][taken.location] += taken.quantity

    def list_units(self, orders: Iterable[HistoricOrder]) -> list[TakenUnits]:
        """Return the units that matter for orders: of their SKUs, and of their locations where all name one."""
        requested: defaultdict[str, set[str]] = defaultdict(set)
        for order in orders:
            for line in order.lines:
                requested[line.sku].add(order.location)
        return [
            TakenUnits(sku=sku, location=location, quantity=quantity)
            for sku in sorted(requested.keys() & self._units.keys())
            for location, quantity in self._units[sku].items()
            if not requested[sku].isdisjoint(("", location))
        ]


def fits_call(taken: list[TakenUnits]) -> bool:
    """Return whether a call can name these units."""
    return len(taken) <= TAKEN_MAX and sum(one.ByteSize() for one in taken) <= TAKEN_BYTES_MAX


def merge_locations(taken: Iterable[TakenUnits]) -> list[TakenUnits]:
    """Return one entry for each SKU, without a location. An order without a location needs to know no more.

    The server then assumes other locations than those in use, so later orders that name one may be counted wrongly.
    """
    units: Counter[str] = Counter()
    for one in taken:
        units[one.sku] += one.quantity
    return [TakenUnits(sku=sku, quantity=quantity) for sku, quantity in units.items()]
