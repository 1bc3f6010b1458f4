"""Staging tables for the rows of an order import, so that the rows of an order may be anywhere in the file.

They are in an unnamed temporary SQLite database that ends with the process. Memory holds one order and a few pages.
Rows left out are stored with their reasons. Invariant: every row has exactly one outcome.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from storekeep.cli.imports.orders import Line, LineKind, OrderCells
from storekeep.imports.rows import SkippedRow

LINES_FILE, ORDERS_FILE = "lines", "orders"
"""Names of the two files in reports."""
TABLES = """
CREATE TABLE lines (
    line INTEGER PRIMARY KEY, number TEXT, kind INTEGER, sku TEXT, quantity INTEGER, unit_price TEXT,
    discount_ppm INTEGER, discount_amount TEXT, total TEXT, shipping TEXT, tax TEXT, taxes TEXT, shipped INTEGER,
    placed_us INTEGER, shipped_us INTEGER, customer TEXT, cells TEXT, cancelled INTEGER
);
CREATE TABLE order_rows (
    number TEXT PRIMARY KEY, line INTEGER, placed_us INTEGER, shipped_us INTEGER, customer TEXT, cells TEXT
);
CREATE TABLE cancelled_units (cancellation INTEGER, line INTEGER, units INTEGER);
CREATE TABLE suspects (number TEXT, file TEXT, line INTEGER);
CREATE TABLE strays (line INTEGER PRIMARY KEY);
CREATE TABLE left_out (
    file TEXT, line INTEGER, number TEXT, reason TEXT, cancels INTEGER, PRIMARY KEY (file, line)
) WITHOUT ROWID;
"""
INDEXES = """
CREATE INDEX lines_number ON lines (number);
CREATE INDEX lines_sold ON lines (sku, unit_price) WHERE kind <> 1;
CREATE INDEX cancelled_units_line ON cancelled_units (line);
CREATE INDEX left_out_number ON left_out (number);
"""
INSERT_LINE = "INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_ORDER_ROW = "INSERT OR IGNORE INTO order_rows VALUES (?, ?, ?, ?, ?, ?)"
LEAVE_OUT = "INSERT OR IGNORE INTO left_out VALUES (?, ?, ?, ?, ?)"
LEAVE_OUT_LINES = """
INSERT OR IGNORE INTO left_out
SELECT 'lines', line, number, :reason, 0 FROM lines WHERE number = :number AND kind <> 2
"""
LEAVE_OUT_CANCELLATIONS = """
INSERT OR IGNORE INTO left_out
SELECT 'lines', cancellation, canceller.number, 'it cancels units of order ' || :number || ', which is left out', 1
FROM lines JOIN cancelled_units ON cancelled_units.line = lines.line
JOIN lines AS canceller ON canceller.line = cancellation
WHERE lines.number = :number
"""
LEAVE_OUT_INCOMPLETE_ORDERS = """
INSERT OR IGNORE INTO left_out
SELECT 'lines', lines.line, lines.number,
       'left out because ' || broken.file || ' line ' || broken.first_line || ', of the same order, is left out', 0
FROM (SELECT number, file, MIN(line) AS first_line FROM left_out WHERE number <> '' GROUP BY number) AS broken
JOIN lines ON lines.number = broken.number
WHERE kind <> 2
"""
LEAVE_OUT_SUSPECTS = """
INSERT OR IGNORE INTO left_out
SELECT 'lines', lines.line, lines.number,
       'left out because ' || file || ' line ' || first_line || ', which cannot be read, may belong to it',
       0
FROM (SELECT number, file, MIN(line) AS first_line FROM suspects GROUP BY number) AS broken
JOIN lines ON lines.number = broken.number
WHERE kind <> 2
"""
LEAVE_OUT_ALL_CANCELLATIONS = """
INSERT OR IGNORE INTO left_out
SELECT 'lines', cancellation, canceller.number,
       'it cancels units of order ' || lines.number || ', which is left out', 1
FROM cancelled_units JOIN lines ON lines.line = cancelled_units.line
JOIN lines AS canceller ON canceller.line = cancellation
WHERE lines.number IN (SELECT number FROM left_out WHERE NOT cancels)
"""
FORGET_PLACED_STRAYS = """
DELETE FROM strays
WHERE line IN (SELECT line FROM suspects WHERE file = 'lines' AND number IN (SELECT number FROM lines))
"""
SUSPECT_NEIGHBOURS = """
INSERT INTO suspects
SELECT (SELECT number FROM lines WHERE lines.line < strays.line ORDER BY lines.line DESC LIMIT 1), 'lines', line
FROM strays
UNION ALL
SELECT (SELECT number FROM lines WHERE lines.line > strays.line ORDER BY lines.line LIMIT 1), 'lines', line
FROM strays
"""
SUSPECT_ALL = "INSERT INTO suspects SELECT DISTINCT number, 'lines', (SELECT MIN(line) FROM strays) FROM lines"
IS_GROUPED = """
SELECT (SELECT COUNT(DISTINCT number) FROM lines) = COUNT(*)
FROM (SELECT number, LAG(number) OVER (ORDER BY line) AS previous FROM lines)
WHERE number IS NOT previous
"""
SOLD = """
SELECT lines.line, lines.number, kind, sku, quantity - cancelled, unit_price,
       COALESCE(order_rows.placed_us, lines.placed_us) AS placed,
       COALESCE(order_rows.customer, lines.customer) AS buyer,
       discount_ppm IS NOT NULL AND discount_ppm <> 0 OR discount_amount IS NOT NULL AND discount_amount <> '0'
       OR tax IS NOT NULL AND tax <> '0'
FROM lines LEFT JOIN order_rows ON order_rows.number = lines.number
WHERE kind <> 1 AND (sku, unit_price) IN (SELECT sku, unit_price FROM lines WHERE kind = 2)
  AND lines.number NOT IN (SELECT number FROM left_out)
ORDER BY buyer, sku, unit_price, placed, kind, lines.line
"""
ORDERS = """
SELECT lines.*, order_rows.number IS NOT NULL,
       order_rows.placed_us, order_rows.shipped_us, order_rows.customer, order_rows.cells
FROM lines JOIN (
    SELECT lines.number, MIN(COALESCE(order_rows.placed_us, lines.placed_us)) AS placed_us,
           MIN(lines.line) AS first_line
    FROM lines LEFT JOIN order_rows ON order_rows.number = lines.number
    WHERE kind <> 2 AND lines.number NOT IN (SELECT number FROM left_out)
    GROUP BY lines.number
) AS order_dates ON order_dates.number = lines.number
LEFT JOIN order_rows ON order_rows.number = lines.number
WHERE kind <> 2
ORDER BY order_dates.placed_us, order_dates.first_line, lines.line
"""
ORDERS_WITHOUT_LINES = """
INSERT OR IGNORE INTO left_out
SELECT 'orders', line, number, 'the other file has no lines of this order', 0 FROM order_rows
WHERE number NOT IN (SELECT number FROM lines) AND number NOT IN (SELECT number FROM left_out)
"""
LINE_FIELDS = (
    *("sku", "quantity", "unit_price", "discount_ppm", "discount_amount", "total"),
    *("shipping", "tax", "taxes", "shipped"),
)
ORDER_FIELDS = ("placed_us", "shipped_us", "customer", "cells")
COLUMNS = len(("line", "number", "kind", *LINE_FIELDS, *ORDER_FIELDS, "cancelled"))


@dataclass(frozen=True)
class LeftOutRow:
    """A row that is not imported.

    Attributes:
        file: LINES_FILE or ORDERS_FILE.
        line: number of its first line in the file, from 1.
        number: number of its order; empty if it could not be read.
    """

    file: str
    line: int
    number: str
    reason: str


@dataclass(frozen=True)
class SoldRow:
    """A row that sold or cancelled units, with the fields that cancellations need.

    Attributes:
        adjusted: whether it has a discount or a tax.
    """

    line: int
    number: str
    kind: LineKind
    sku: str
    quantity: int
    unit_price: str
    placed_us: int | None
    customer: str | None
    adjusted: bool


class StagingTables:
    """The rows of one import, on disk. Not thread-safe."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(TABLES)
        self.rows = 0
        """Rows of the line file, valid or not."""
        self.skipped = 0
        """Rows of the line file without an order line."""

    def close(self) -> None:
        """Close and delete the temporary database."""
        self._database.close()

    # -- loading

    def load_lines(self, rows: Iterable[Line | LeftOutRow | SkippedRow]) -> Iterator[LeftOutRow]:
        """Store the rows of the line file; yield those that are left out."""
        self._database.execute("BEGIN")
        for row in rows:
            self.rows += 1
            if isinstance(row, Line):
                self._database.execute(INSERT_LINE, _to_row(row))
            elif isinstance(row, SkippedRow):
                self.skipped += 1
            else:
                self.leave_out(row)
                yield row
        self._database.execute("COMMIT")
        self._database.executescript(INDEXES)

    def add_order_row(self, line: int, number: str, cells: OrderCells) -> LeftOutRow | None:
        """Store a row of the order file. Return it as left out if its number is a repeat, else None."""
        values = (number, line, cells.placed_us, cells.shipped_us, cells.customer, cells.cells)
        if self._database.execute(INSERT_ORDER_ROW, values).rowcount:
            return None
        (first,) = self._database.execute("SELECT line FROM order_rows WHERE number = ?", (number,)).fetchone()
        duplicate = LeftOutRow(ORDERS_FILE, line, number, f"{number} is already on line {first}")
        self.leave_out(duplicate)
        return duplicate

    # -- leaving out

    def leave_out(self, row: LeftOutRow, *, cancels: bool = False) -> None:
        """Leave out a row and store the reason. The first reason of a row is kept."""
        self._database.execute(LEAVE_OUT, (row.file, row.line, row.number, row.reason, cancels))

    def leave_out_order(self, number: str, *, reason: str) -> None:
        """Leave out all rows of an order, and the rows that cancel its units."""
        self._database.execute(LEAVE_OUT_LINES, {"number": number, "reason": reason})
        self._database.execute(LEAVE_OUT_CANCELLATIONS, {"number": number})

    def suspect(self, file: str, line: int, numbers: Sequence[str], *, is_complete: bool) -> None:
        """Note that a row which cannot be read may belong to any of the orders with these numbers.

        If its number is not surely one of these, and no order has one of them, the row is a stray: it may belong to any
        order beside it, or to any order at all if the rows of orders are not together in the file.
        """
        self._database.executemany("INSERT INTO suspects VALUES (?, ?, ?)", ((one, file, line) for one in numbers))
        if file == LINES_FILE and not is_complete:
            self._database.execute("INSERT INTO strays VALUES (?)", (line,))

    def leave_out_suspects(self) -> None:
        """Leave out every order that a row which cannot be read may belong to."""
        self._database.execute(FORGET_PLACED_STRAYS)
        if self._count("SELECT COUNT(*) FROM strays"):
            is_grouped = self._count(IS_GROUPED)
            self._database.execute(SUSPECT_NEIGHBOURS if is_grouped else SUSPECT_ALL)
        self._database.execute(LEAVE_OUT_SUSPECTS)

    def leave_out_incomplete_orders(self) -> None:
        """Leave out every order of which a row is already left out, because it would be incomplete."""
        self._database.execute(LEAVE_OUT_INCOMPLETE_ORDERS)
        self._database.execute(LEAVE_OUT_ALL_CANCELLATIONS)

    def leave_out_orders_without_lines(self) -> None:
        """Leave out the orders without lines."""
        self._database.execute(ORDERS_WITHOUT_LINES)

    # -- cancelling

    def iterate_sold_rows(self) -> Iterator[SoldRow]:
        """Yield the rows that cancellations may affect, by customer, SKU and price, oldest first, sales first."""
        for line, number, kind, sku, quantity, price, placed_us, customer, adjusted in self._database.execute(SOLD):
            yield SoldRow(line, number, LineKind(kind), sku, quantity, price, placed_us, customer, bool(adjusted))

    def cancel(self, cancellation: int, units_by_line: Iterable[tuple[int, int]]) -> None:
        """Cancel units of lines. `units_by_line` are pairs of line number in the file and units."""
        for line, units in units_by_line:
            self._database.execute("INSERT INTO cancelled_units VALUES (?, ?, ?)", (cancellation, line, units))
            self._database.execute("UPDATE lines SET cancelled = cancelled + ? WHERE line = ?", (units, line))

    # -- reading

    def iterate_orders(self) -> Iterator[tuple[Sequence[Line], OrderCells | None]]:
        """Yield the orders that are not left out, oldest first: their lines, and their row of the order file."""
        for _, rows in groupby(self._database.execute(ORDERS), key=lambda row: row[1]):
            line_rows = list(rows)
            has_order_row, *order_cells = line_rows[0][COLUMNS:]
            yield [_to_line(row) for row in line_rows], OrderCells(*order_cells) if has_order_row else None

    def count_orders(self) -> int:
        """Return the number of orders with a readable row that are not left out so far."""
        query = (
            "SELECT COUNT(DISTINCT number) FROM lines WHERE kind <> 2 AND number NOT IN (SELECT number FROM left_out)"
        )
        return self._count(query)

    def iterate_left_out(self) -> Iterator[LeftOutRow]:
        """Yield all rows that are left out, by file and line."""
        for row in self._database.execute("SELECT file, line, number, reason FROM left_out ORDER BY file, line"):
            yield LeftOutRow(*row)

    @property
    def has_left_out(self) -> bool:
        """Whether a row of either file is left out."""
        return self._count("SELECT EXISTS (SELECT 1 FROM left_out)") == 1

    @property
    def rows_left_out(self) -> int:
        """Number of rows of the line file that are left out."""
        return self._count("SELECT COUNT(*) FROM left_out WHERE file = 'lines'")

    @property
    def orders_left_out(self) -> int:
        """Number of orders of which a row is left out."""
        return self._count("SELECT COUNT(DISTINCT number) FROM left_out WHERE number <> '' AND NOT cancels")

    @property
    def cancellations(self) -> int:
        """Number of rows that cancel units of other rows."""
        query = """
        SELECT COUNT(*) FROM lines WHERE kind = 2
        AND line NOT IN (SELECT line FROM left_out WHERE file = 'lines')
        """
        return self._count(query)

    def _count(self, query: str) -> int:
        (count,) = self._database.execute(query).fetchone()
        return int(count)


def _to_row(line: Line) -> tuple[object, ...]:
    order = line.order
    return (
        line.line,
        line.number,
        int(line.kind),
        line.sku,
        line.quantity,
        line.unit_price,
        line.discount_ppm,
        line.discount_amount,
        line.total,
        line.shipping,
        line.tax,
        line.taxes,
        line.shipped,
        order.placed_us,
        order.shipped_us,
        order.customer,
        order.cells,
        line.cancelled,
    )


def _to_line(row: Sequence[Any]) -> Line:
    """Return the line of a row of the table, whose columns are the fields of `Line` in their order."""
    line, number, kind, *values = row[: COLUMNS - len(ORDER_FIELDS) - 1]
    *order, cancelled = row[COLUMNS - len(ORDER_FIELDS) - 1 : COLUMNS]
    fields = dict(zip(LINE_FIELDS, values, strict=True))
    return Line(line, number, LineKind(kind), **fields, order=OrderCells(*order), cancelled=cancelled)
