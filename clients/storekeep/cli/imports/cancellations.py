"""Cancellation rows, which have a negative quantity and cancel units of earlier orders.

A row cancels units of the customer's latest earlier order that has the SKU at the same price without a discount or
tax. If that order has too few units left, the row continues with the order before it. It cancels all its units or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from storekeep.cli.imports.orders import LineKind
from storekeep.cli.imports.staging_tables import LINES_FILE, LeftOutRow, SoldRow, StagingTables


def cancel_units(staging: StagingTables) -> Iterator[LeftOutRow]:
    """Apply all cancellations; yield those that exceed the units of earlier orders."""
    sold_rows = staging.iterate_sold_rows()
    for (customer, sku, price), rows in groupby(sold_rows, key=lambda row: (row.customer, row.sku, row.unit_price)):
        available: list[tuple[int, int]] = []
        for row in rows:
            if row.kind is not LineKind.CANCELLATION:
                if row.placed_us is not None and not row.adjusted:
                    available.append((row.line, row.quantity))
                continue
            if (problem := _cancel_row(staging, row, available)) is not None:
                reason = f"{problem} of {sku} at {price} for {customer or 'no customer'}"
                left_out = LeftOutRow(LINES_FILE, row.line, row.number, reason)
                staging.leave_out(left_out, cancels=True)
                yield left_out


def _cancel_row(staging: StagingTables, row: SoldRow, available: list[tuple[int, int]]) -> str | None:
    """Apply one cancellation to the latest available units. Return the reason if that is impossible."""
    if row.customer is None or row.placed_us is None:
        return "it has no customer or no date, so it cancels no units"
    available_units = sum(units for _, units in available)
    if available_units < row.quantity:
        return f"it cancels more units ({row.quantity}) than earlier orders have ({available_units})"
    units_by_line: list[tuple[int, int]] = []
    remaining = row.quantity
    while remaining:
        line, units = available.pop()
        cancelled = min(units, remaining)
        units_by_line.append((line, cancelled))
        remaining -= cancelled
        if cancelled < units:
            available.append((line, units - cancelled))
    staging.cancel(row.line, units_by_line)
    return None
