"""Spools: the rows of an import of orders, kept on disk, so that the rows of an order may stand anywhere in a file.

They are in a temporary database of SQLite that has no name and ends with the process; memory holds one order and a few
pages. What is left out is kept with its reason, and every row ends as exactly one thing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from storekeep.cli.imports.orders import Line, LineKind, OrderCells

LINES_FILE, ORDERS_FILE = "lines", "orders"
"""What a report calls the two files."""
TABLES = """
CREATE TABLE lines (
    line INTEGER PRIMARY KEY, number TEXT, kind INTEGER, sku TEXT, quantity INTEGER, unit_price TEXT,
    discount_ppm INTEGER, discount_amount TEXT, total TEXT,
    placed_us INTEGER, shipped_us INTEGER, customer TEXT, cells TEXT, cancelled INTEGER
);
CREATE TABLE heads (
    number TEXT PRIMARY KEY, line INTEGER, placed_us INTEGER, shipped_us INTEGER, customer TEXT, cells TEXT
);
CREATE TABLE takings (cancellation INTEGER, line INTEGER, units INTEGER);
CREATE TABLE left_out (
    file TEXT, line INTEGER, number TEXT, reason TEXT, cancels INTEGER, PRIMARY KEY (file, line)
) WITHOUT ROWID;
"""
INDEXES = """
CREATE INDEX lines_number ON lines (number);
CREATE INDEX lines_sold ON lines (sku, unit_price) WHERE kind <> 1;
CREATE INDEX takings_line ON takings (line);
CREATE INDEX left_out_number ON left_out (number);
"""
INSERT_LINE = "INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_HEAD = "INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, ?, ?)"
LEAVE_OUT = "INSERT OR IGNORE INTO left_out VALUES (?, ?, ?, ?, ?)"
LEAVE_OUT_LINES = """
INSERT OR IGNORE INTO left_out
SELECT 'lines', line, number, :reason, 0 FROM lines WHERE number = :number AND kind <> 2
"""
LEAVE_OUT_TAKERS = """
INSERT OR IGNORE INTO left_out
SELECT 'lines', takings.cancellation, taker.number, 'it cancels units of ' || :number || ', which is left out', 1
FROM lines JOIN takings ON takings.line = lines.line JOIN lines AS taker ON taker.line = takings.cancellation
WHERE lines.number = :number
"""
TAINTED = """
SELECT number, MIN(file || ' line ' || line) FROM left_out
WHERE number <> '' AND EXISTS (SELECT 1 FROM lines WHERE lines.number = left_out.number AND kind <> 2
    AND NOT EXISTS (SELECT 1 FROM left_out AS known WHERE known.file = 'lines' AND known.line = lines.line))
GROUP BY number
"""
SOLD = """
SELECT lines.line, lines.number, kind, sku, quantity, unit_price,
       COALESCE(heads.placed_us, lines.placed_us) AS placed, COALESCE(heads.customer, lines.customer) AS buyer,
       discount_ppm IS NOT NULL AND discount_ppm <> 0 OR discount_amount IS NOT NULL AND discount_amount <> '0'
FROM lines LEFT JOIN heads ON heads.number = lines.number
WHERE kind <> 1 AND (sku, unit_price) IN (SELECT sku, unit_price FROM lines WHERE kind = 2)
  AND lines.number NOT IN (SELECT number FROM left_out)
ORDER BY buyer, sku, unit_price, placed, kind, lines.line
"""
ORDERS = """
SELECT lines.*, heads.number IS NOT NULL, heads.placed_us, heads.shipped_us, heads.customer, heads.cells
FROM lines JOIN (
    SELECT lines.number, MIN(COALESCE(heads.placed_us, lines.placed_us)) AS placed_us, MIN(lines.line) AS first_line
    FROM lines LEFT JOIN heads ON heads.number = lines.number
    WHERE kind <> 2 AND lines.number NOT IN (SELECT number FROM left_out)
    GROUP BY lines.number
) AS found ON found.number = lines.number
LEFT JOIN heads ON heads.number = lines.number
WHERE kind <> 2
ORDER BY found.placed_us, found.first_line, lines.line
"""
HEADS_WITHOUT_LINES = """
INSERT OR IGNORE INTO left_out
SELECT 'orders', line, number, 'no row of the other file is a line of it', 0 FROM heads
WHERE number NOT IN (SELECT number FROM lines) AND number NOT IN (SELECT number FROM left_out)
"""
COLUMNS = 14


@dataclass(frozen=True)
class LeftOut:
    """A row that was not imported.

    Attributes:
        file: of the two.
        number: of its order; empty where it could not be read.
    """

    file: str
    line: int
    number: str
    reason: str


@dataclass(frozen=True)
class Sold:
    """A row that sold or cancelled units, as far as cancelling needs it."""

    line: int
    number: str
    kind: LineKind
    sku: str
    quantity: int
    unit_price: str
    placed_us: int | None
    customer: str | None
    discounted: bool


class Spool:
    """The rows of one import. Not thread-safe."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(TABLES)
        self.rows = 0
        """Rows of the file of lines, good or bad."""

    def close(self) -> None:
        """Forget all of it."""
        self._database.close()

    # -- filling

    def fill(self, rows: Iterable[Line | LeftOut]) -> Iterator[LeftOut]:
        """Keep the rows of the file of lines; yield those that are left out as they come."""
        self._database.execute("BEGIN")
        for row in rows:
            self.rows += 1
            if isinstance(row, Line):
                self._database.execute(INSERT_LINE, _as_row(row))
            else:
                self.leave_out(row)
                yield row
        self._database.execute("COMMIT")
        self._database.executescript(INDEXES)

    def add_head(self, line: int, number: str, cells: OrderCells) -> LeftOut | None:
        """Keep a row of the file of orders; what it is left out as where its number came before."""
        values = (number, line, cells.placed_us, cells.shipped_us, cells.customer, cells.cells)
        if self._database.execute(INSERT_HEAD, values).rowcount:
            return None
        (first,) = self._database.execute("SELECT line FROM heads WHERE number = ?", (number,)).fetchone()
        repeated = LeftOut(ORDERS_FILE, line, number, f"{number} was on line {first} already")
        self.leave_out(repeated)
        return repeated

    # -- leaving out

    def leave_out(self, row: LeftOut, *, cancels: bool = False) -> None:
        """Keep why a row is left out; the first reason stays."""
        self._database.execute(LEAVE_OUT, (row.file, row.line, row.number, row.reason, cancels))

    def leave_order_out(self, number: str, *, reason: str) -> None:
        """Leave out all rows of an order, and those that cancel units of it."""
        self._database.execute(LEAVE_OUT_LINES, {"number": number, "reason": reason})
        self._database.execute(LEAVE_OUT_TAKERS, {"number": number})

    def leave_rests_out(self) -> None:
        """Leave out the orders of which a row is left out already: without it they would not be what they were."""
        for number, place in self._database.execute(TAINTED).fetchall():
            self.leave_order_out(number, reason=f"left out with {place}, which is of the same order")

    def leave_heads_out(self) -> None:
        """Leave out the orders that have no lines."""
        self._database.execute(HEADS_WITHOUT_LINES)

    # -- cancelling

    def sold(self) -> Iterator[Sold]:
        """What cancellations may concern, by customer, SKU and price, from the oldest; sales before cancellations."""
        for line, number, kind, sku, quantity, price, placed_us, customer, discounted in self._database.execute(SOLD):
            yield Sold(line, number, LineKind(kind), sku, quantity, price, placed_us, customer, bool(discounted))

    def cancel(self, cancellation: int, takings: Iterable[tuple[int, int]]) -> None:
        """Take units off lines; `takings` are pairs of line and units."""
        for line, units in takings:
            self._database.execute("INSERT INTO takings VALUES (?, ?, ?)", (cancellation, line, units))
            self._database.execute("UPDATE lines SET cancelled = cancelled + ? WHERE line = ?", (units, line))

    # -- reading

    def orders(self) -> Iterator[tuple[Sequence[Line], OrderCells | None]]:
        """The orders that are not left out, the oldest first, with what the file of orders says of each."""
        for _, rows in groupby(self._database.execute(ORDERS), key=lambda row: row[1]):
            kept = list(rows)
            has_head, *head = kept[0][COLUMNS:]
            yield [_as_line(row) for row in kept], OrderCells(*head) if has_head else None

    def count_orders(self) -> int:
        """How many orders have a row that could be read, without those that are left out by now."""
        wanted = (
            "SELECT COUNT(DISTINCT number) FROM lines WHERE kind <> 2 AND number NOT IN (SELECT number FROM left_out)"
        )
        return self._count(wanted)

    def left_out(self) -> Iterator[LeftOut]:
        """All rows that are left out, in the order of the files."""
        for row in self._database.execute("SELECT file, line, number, reason FROM left_out ORDER BY file, line"):
            yield LeftOut(*row)

    @property
    def anything_left_out(self) -> bool:
        """Whether any row of either file is."""
        return self._count("SELECT EXISTS (SELECT 1 FROM left_out)") == 1

    @property
    def rows_left_out(self) -> int:
        """Rows of the file of lines."""
        return self._count("SELECT COUNT(*) FROM left_out WHERE file = 'lines'")

    @property
    def orders_left_out(self) -> int:
        """Orders of which a row was left out, by their numbers."""
        return self._count("SELECT COUNT(DISTINCT number) FROM left_out WHERE number <> '' AND NOT cancels")

    @property
    def cancellations(self) -> int:
        """Rows that cancelled units of others."""
        wanted = """
        SELECT COUNT(*) FROM lines WHERE kind = 2
        AND line NOT IN (SELECT line FROM left_out WHERE file = 'lines')
        """
        return self._count(wanted)

    def _count(self, wanted: str) -> int:
        (count,) = self._database.execute(wanted).fetchone()
        return int(count)


def _as_row(line: Line) -> tuple[object, ...]:
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
        order.placed_us,
        order.shipped_us,
        order.customer,
        order.cells,
        line.cancelled,
    )


def _as_line(row: Sequence[object]) -> Line:
    line, number, kind, sku, quantity, price, ppm, amount, total, placed_us, shipped_us, customer, cells, cancelled = (
        row[:COLUMNS]
    )
    order = OrderCells(placed_us, shipped_us, customer, cells)  # type: ignore[arg-type]  # a row has the columns' types
    return Line(line, number, LineKind(kind), sku, quantity, price, ppm, amount, total, order, cancelled)  # type: ignore[arg-type]
