"""Cancellations: rows with a negative quantity, which take units off what was ordered before.

The rule: the units come off the newest earlier order of the same customer that has the SKU at the same price and no
discount; when that has too few left, off the one before, and so on. All of them or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from storekeep.cli.imports.orders import LineKind
from storekeep.cli.imports.spools import LINES_FILE, LeftOut, Sold, Spool


def cancel_units(spool: Spool) -> Iterator[LeftOut]:
    """Take the units of each cancellation off what it cancels; yield the cancellations that find too few."""
    for (customer, sku, price), rows in groupby(spool.sold(), key=lambda row: (row.customer, row.sku, row.unit_price)):
        free: list[tuple[int, int]] = []
        for row in rows:
            if row.kind is not LineKind.CANCELLATION:
                if row.placed_us is not None and not row.discounted:
                    free.append((row.line, row.quantity))
                continue
            if (problem := _take(spool, row, free)) is not None:
                reason = f"{problem} of {sku} at {price} for {customer or 'nobody'}"
                left_out = LeftOut(LINES_FILE, row.line, row.number, reason)
                spool.leave_out(left_out, cancels=True)
                yield left_out


def _take(spool: Spool, row: Sold, free: list[tuple[int, int]]) -> str | None:
    """Take the units of one cancellation off the newest of what is free; say why not, where there are too few."""
    if row.customer is None or row.placed_us is None:
        return "it names no customer or no date: nothing is cancelled"
    there = sum(units for _, units in free)
    if there < row.quantity:
        return f"it cancels {row.quantity} units, and earlier orders have {there}"
    takings: list[tuple[int, int]] = []
    missing = row.quantity
    while missing:
        line, units = free.pop()
        taken = min(units, missing)
        takings.append((line, taken))
        missing -= taken
        if taken < units:
            free.append((line, units - taken))
    spool.cancel(row.line, takings)
    return None
