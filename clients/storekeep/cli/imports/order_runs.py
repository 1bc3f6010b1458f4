"""Runs of an import of orders: rows into a spool, cancellations, then orders in batches, the oldest first.

One call is under way while the next batch is made. An order that the server has already is told apart by the server,
so a run that was killed is simply run again. Whatever is left out is kept in the spool with its reason.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from storekeep.cli.imports.cancellations import cancel_units
from storekeep.cli.imports.columns import CellRefused, Columns
from storekeep.cli.imports.orders import LINES_MAX, Line, Rules, build_order, read_line, read_number, read_order_cells
from storekeep.cli.imports.rows import BadRow, Row
from storekeep.cli.imports.spools import LINES_FILE, ORDERS_FILE, LeftOut, Spool
from storekeep.client import (
    HistoricOrder,
    InvalidRequest,
    OrderImportOutcome,
    OrderImportProblem,
    OrderImportResult,
    Storekeep,
    WriteOptions,
)

BATCH_ORDERS_MAX = 100
BATCH_LINES_MAX = LINES_MAX
"""What the contract takes in one call."""
BATCH_BYTES_MAX = 512 * 1024
"""Half of what a server takes in one message by default: so many long notes and addresses do not fill it."""
CALLS_AHEAD = 2
"""Batches that wait for the one call under way: enough that the server never waits for the next."""
IMPORTED = OrderImportOutcome.ORDER_IMPORT_OUTCOME_IMPORTED
ALREADY_THERE = OrderImportOutcome.ORDER_IMPORT_OUTCOME_ALREADY_THERE
REFUSED = OrderImportOutcome.ORDER_IMPORT_OUTCOME_REFUSED
PROBLEM_PREFIX = "ORDER_IMPORT_PROBLEM_"


@dataclass(frozen=True)
class Sent:
    """What became of one order.

    Attributes:
        rows: how many of the file are in it.
        reason: why it was left out; empty when it was not.
    """

    number: str
    rows: int
    outcome: OrderImportOutcome.ValueType
    reason: str = ""


@dataclass(frozen=True)
class Wanted:
    """An order that is to be sent."""

    order: HistoricOrder
    rows: int


class OrderRun:
    """One import of orders.

    Attributes:
        orders, rows: how many were imported, or there already.
    """

    def __init__(self, client: Storekeep, spool: Spool, *, rules: Rules, write_options: WriteOptions) -> None:
        self._client = client
        self._spool = spool
        self._rules = rules
        self._write_options = write_options
        self._has_heads = False
        self.orders: Counter[OrderImportOutcome.ValueType] = Counter()
        self.rows: Counter[OrderImportOutcome.ValueType] = Counter()

    # -- reading

    def read_heads(self, rows: Iterable[Row | BadRow], *, columns: Columns) -> Iterator[LeftOut | None]:
        """Read the file of orders; yield for each row what it is left out as, None where it is not."""
        self._has_heads = True
        for row in rows:
            number = ""
            try:
                values = columns.values(_readable(row))
                number = read_number(values)
                yield self._spool.add_head(row.line, number, read_order_cells(values, rules=self._rules))
            except CellRefused as error:
                left_out = LeftOut(ORDERS_FILE, row.line, number, str(error))
                self._spool.leave_out(left_out)
                yield left_out

    def read_lines(self, rows: Iterable[Row | BadRow], *, columns: Columns) -> Iterator[LeftOut]:
        """Read the file of lines; yield the rows that are left out."""
        yield from self._spool.fill(self._read_line(row, columns) for row in rows)

    def _read_line(self, row: Row | BadRow, columns: Columns) -> Line | LeftOut:
        number = ""
        try:
            values = columns.values(_readable(row))
            number = read_number(values)
            return read_line(values, number=number, rules=self._rules)
        except CellRefused as error:
            return LeftOut(LINES_FILE, row.line, number, str(error))

    def settle(self) -> Iterator[LeftOut]:
        """Apply the cancellations, leave out what cannot be whole; yield the cancellations that find too little."""
        self._spool.leave_rests_out()
        yield from cancel_units(self._spool)
        self._spool.leave_rests_out()
        self._spool.leave_heads_out()

    # -- sending

    def send(self) -> Iterator[Sent]:
        """Send every order that is left; yield what became of each.

        Raises: the client's errors that concern more than one order.
        """
        for sent in self._results():
            if sent.outcome == REFUSED:
                self._spool.leave_order_out(sent.number, reason=sent.reason)
            else:
                self.orders[sent.outcome] += 1
                self.rows[sent.outcome] += sent.rows
            yield sent

    def _results(self) -> Iterator[Sent]:
        refused: list[Sent] = []
        calls: deque[Future[list[Sent]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="import") as pool:
            for batch in batched(self._wanted(refused)):
                calls.append(pool.submit(self._send_batch, batch))
                if len(calls) > CALLS_AHEAD:
                    yield from calls.popleft().result()
                yield from refused
                refused.clear()
            while calls:
                yield from calls.popleft().result()
        yield from refused

    def _wanted(self, refused: list[Sent]) -> Iterator[Wanted]:
        """The orders that can be sent; the others go to `refused`."""
        for lines, head in self._spool.orders():
            try:
                if self._has_heads and head is None:
                    raise CellRefused("the file of orders does not have it")
                yield Wanted(build_order(lines, head=head), len(lines))
            except CellRefused as error:
                refused.append(Sent(lines[0].number, len(lines), REFUSED, str(error)))

    def _send_batch(self, batch: Sequence[Wanted]) -> list[Sent]:
        """Send a batch; where the contract does not take it, each of its orders for itself."""
        try:
            results = self._client.orders.import_orders([wanted.order for wanted in batch], **self._write_options)
        except InvalidRequest as error:
            if len(batch) == 1:
                return [Sent(batch[0].order.number, batch[0].rows, REFUSED, str(error))]
            return [sent for wanted in batch for sent in self._send_batch([wanted])]
        return [_sent(wanted, result) for wanted, result in zip(batch, results, strict=True)]


def batched(orders: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """Cut orders into batches that one call takes."""
    batch: list[Wanted] = []
    lines = size = 0
    for wanted in orders:
        lines += len(wanted.order.lines)
        size += wanted.order.ByteSize()
        if batch and (len(batch) == BATCH_ORDERS_MAX or lines > BATCH_LINES_MAX or size > BATCH_BYTES_MAX):
            yield batch
            batch, lines, size = [], len(wanted.order.lines), wanted.order.ByteSize()
        batch.append(wanted)
    if batch:
        yield batch


def _sent(wanted: Wanted, result: OrderImportResult) -> Sent:
    reason = ""
    if result.outcome == REFUSED:
        reason = f"{OrderImportProblem.Name(result.problem).removeprefix(PROBLEM_PREFIX)}: {result.detail}"
    return Sent(result.number, wanted.rows, result.outcome, reason)


def _readable(row: Row | BadRow) -> Row:
    if isinstance(row, BadRow):
        raise CellRefused(row.reason)
    return row
