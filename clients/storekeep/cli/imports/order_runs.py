"""Runs of an order import: stage all rows, apply cancellations, then send orders in batches, oldest first.

The next batch is built while a call is in progress. The server recognises orders that it already has, so a killed
import can be run again. Rows left out are stored in the staging tables with their reasons.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from storekeep.cli.imports.cancellations import cancel_units
from storekeep.cli.imports.orders import (
    LINES_MAX,
    TARGETS,
    BuiltOrder,
    Line,
    Rules,
    build_order,
    check_number,
    read_line,
    read_number,
    read_order_cells,
)
from storekeep.cli.imports.staging_tables import LINES_FILE, ORDERS_FILE, LeftOutRow, StagingTables
from storekeep.cli.imports.taken_stock import TakenStock, fits_call, merge_locations
from storekeep.client import (
    HistoricOrder,
    InvalidRequest,
    OrderImportOutcome,
    OrderImportProblem,
    OrderImportResult,
    Storekeep,
    WriteOptions,
)
from storekeep.imports.columns import Columns, InvalidCell
from storekeep.imports.field_names import name_options
from storekeep.imports.rows import AnyRow, BadRow, Row, SkippedRow

BATCH_ORDERS_MAX = 100
BATCH_LINES_MAX = LINES_MAX
"""Maximum lines in one call."""
BATCH_BYTES_MAX = 512 * 1024
"""Maximum size of a batch, half of the server's default message limit. Long notes and addresses may reach it."""
CALLS_AHEAD = 2
"""Batches prepared in advance, so that the server never waits for the next."""
IMPORTED = OrderImportOutcome.ORDER_IMPORT_OUTCOME_IMPORTED
ALREADY_THERE = OrderImportOutcome.ORDER_IMPORT_OUTCOME_ALREADY_THERE
REFUSED = OrderImportOutcome.ORDER_IMPORT_OUTCOME_REFUSED
PROBLEM_PREFIX = "ORDER_IMPORT_PROBLEM_"
TARGET_NAMES = {target.name: target.name for target in TARGETS}


@dataclass(frozen=True)
class OrderResult:
    """Outcome of one order.

    Attributes:
        rows: number of its rows in the file.
        reason: why it was left out; empty if it was not.
        notes: what was decided for cells that differ or repeat.
    """

    number: str
    rows: int
    outcome: OrderImportOutcome.ValueType
    reason: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class PreparedOrder:
    """An order to be sent.

    Attributes:
        number: its number in the file.
        rows: number of its rows.
    """

    number: str
    built: BuiltOrder
    rows: int

    @property
    def order(self) -> HistoricOrder:
        """The order as it is sent."""
        return self.built.order


@dataclass(frozen=True)
class Note:
    """What was decided for cells of some orders.

    Attributes:
        orders: number of the orders.
        first: number of the first of them.
    """

    orders: int
    first: str


class OrderRun:
    """One run of an order import.

    Attributes:
        orders, rows: number of orders and rows by outcome.
        notes: what was decided for cells that differ or repeat within an order, by text.
    """

    def __init__(self, client: Storekeep, staging: StagingTables, *, rules: Rules, write_options: WriteOptions) -> None:
        self._client = client
        self._staging = staging
        self._rules = rules
        self._write_options = write_options
        self._has_order_file = False
        self.orders: Counter[OrderImportOutcome.ValueType] = Counter()
        self.rows: Counter[OrderImportOutcome.ValueType] = Counter()
        self.notes: dict[str, Note] = {}
        self._taken = TakenStock()

    # -- reading

    def read_order_rows(self, rows: Iterable[AnyRow], *, columns: Columns) -> Iterator[LeftOutRow | None]:
        """Load the order file. Yield a LeftOutRow or None for each row."""
        self._has_order_file = True
        for row in rows:
            if isinstance(row, SkippedRow):
                continue
            number = row.key if isinstance(row, BadRow) else ""
            try:
                values = columns.map_row(self._require_readable(row, columns, file=ORDERS_FILE))
                number = values.require("number")
                yield self._staging.add_order_row(row.line, read_number(values), read_order_cells(values))
            except InvalidCell as error:
                left_out = LeftOutRow(ORDERS_FILE, row.line, number, str(error))
                self._staging.leave_out(left_out)
                yield left_out

    def read_line_rows(self, rows: Iterable[AnyRow], *, columns: Columns) -> Iterator[LeftOutRow]:
        """Load the line file. Yield the rows that are left out."""
        yield from self._staging.load_lines(
            row if isinstance(row, SkippedRow) else self._read_line(row, columns) for row in rows
        )

    def _read_line(self, row: Row | BadRow, columns: Columns) -> Line | LeftOutRow:
        number = row.key if isinstance(row, BadRow) else ""
        try:
            values = columns.map_row(self._require_readable(row, columns, file=LINES_FILE))
            number = values.text("number") or ""
            if not number:
                self._staging.suspect(LINES_FILE, row.line, (), is_complete=False)
            return read_line(values, number=read_number(values), rules=self._rules)
        except InvalidCell as error:
            return LeftOutRow(LINES_FILE, row.line, number, str(error))

    def _require_readable(self, row: Row | BadRow, columns: Columns, *, file: str) -> Row:
        """Return a row that can be read. Note the orders that an unreadable one may belong to.

        Raises: InvalidCell.
        """
        if isinstance(row, Row):
            return row
        if row.key:
            raise InvalidCell(row.reason)
        index = columns.positions.get("number", 0)
        numbers = [number for number in row.list_candidates(index) if is_number(number)]
        self._staging.suspect(file, row.line, numbers, is_complete=bool(numbers) and row.has_cell(index))
        raise InvalidCell(row.reason)

    def apply_cancellations(self) -> Iterator[LeftOutRow]:
        """Apply the cancellations and leave out incomplete orders. Yield the cancellations that are impossible."""
        self._staging.leave_out_suspects()
        self._staging.leave_out_incomplete_orders()
        yield from cancel_units(self._staging)
        self._staging.leave_out_incomplete_orders()
        self._staging.leave_out_orders_without_lines()

    # -- sending

    def send(self) -> Iterator[OrderResult]:
        """Send all orders that are not left out. Yield the outcome of each.

        Raises: StorekeepError if a failure affects more than one order.
        """
        for result in self._send_in_batches():
            if result.outcome == REFUSED:
                self._staging.leave_out_order(result.number, reason=result.reason)
            else:
                self.orders[result.outcome] += 1
                self.rows[result.outcome] += result.rows
                for text in result.notes:
                    note = self.notes.get(text, Note(0, result.number))
                    self.notes[text] = Note(note.orders + 1, note.first)
            yield result

    def _send_in_batches(self) -> Iterator[OrderResult]:
        rejected: list[OrderResult] = []
        calls: deque[Future[list[OrderResult]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="import") as pool:
            for batch in split_into_batches(self._prepare_orders(rejected)):
                calls.append(pool.submit(self._send_batch, batch))
                if len(calls) > CALLS_AHEAD:
                    yield from calls.popleft().result()
                yield from rejected
                rejected.clear()
            while calls:
                yield from calls.popleft().result()
        yield from rejected

    def _prepare_orders(self, rejected: list[OrderResult]) -> Iterator[PreparedOrder]:
        """Yield the orders that can be sent. Append the others to `rejected`."""
        for lines, order_cells in self._staging.iterate_orders():
            try:
                if self._has_order_file and order_cells is None:
                    raise InvalidCell("the order file has no row for it")
                yield PreparedOrder(lines[0].number, build_order(lines, order_cells=order_cells), len(lines))
            except InvalidCell as error:
                rejected.append(OrderResult(lines[0].number, len(lines), REFUSED, str(error)))

    def _send_batch(self, batch: Sequence[PreparedOrder]) -> list[OrderResult]:
        """Send a batch. If the server rejects the request, send each of its orders separately.

        If a dry run would have to name too many taken units, send the halves of the batch one after the other.
        """
        orders = [prepared.order for prepared in batch]
        taken = self._taken.list_units(orders)
        if not fits_call(taken):
            if len(batch) > 1:
                middle = len(batch) // 2
                return [*self._send_batch(batch[:middle]), *self._send_batch(batch[middle:])]
            taken = merge_locations(taken)
        try:
            results = self._client.orders.import_orders(orders, taken_units=taken, **self._write_options)
        except InvalidRequest as error:
            if len(batch) == 1:
                reason = name_options(str(error), TARGET_NAMES)
                return [OrderResult(batch[0].number, batch[0].rows, REFUSED, reason)]
            return [result for prepared in batch for result in self._send_batch([prepared])]
        self._taken.add(results)
        return [_to_order_result(prepared, result) for prepared, result in zip(batch, results, strict=True)]


def split_into_batches(orders: Iterable[PreparedOrder]) -> Iterator[list[PreparedOrder]]:
    """Split orders into batches that fit in one call."""
    batch: list[PreparedOrder] = []
    line_count = size_bytes = 0
    for prepared in orders:
        line_count += len(prepared.order.lines)
        size_bytes += prepared.order.ByteSize()
        if batch and (len(batch) == BATCH_ORDERS_MAX or line_count > BATCH_LINES_MAX or size_bytes > BATCH_BYTES_MAX):
            yield batch
            batch, line_count, size_bytes = [], len(prepared.order.lines), prepared.order.ByteSize()
        batch.append(prepared)
    if batch:
        yield batch


def _to_order_result(prepared: PreparedOrder, result: OrderImportResult) -> OrderResult:
    reason = ""
    if result.outcome == REFUSED:
        reason = f"{OrderImportProblem.Name(result.problem).removeprefix(PROBLEM_PREFIX)}: {result.detail}"
    return OrderResult(prepared.number, prepared.rows, result.outcome, reason, prepared.built.notes)


def is_number(text: str) -> bool:
    """Return whether a text can be the number of an order."""
    try:
        check_number(text, target="number")
    except InvalidCell:
        return False
    return True
