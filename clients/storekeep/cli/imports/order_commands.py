"""`storekeep import orders`: its command line: one file or two, the rules, progress, the report, the summary."""

from __future__ import annotations

import csv
import sys
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from storekeep.cli.commands import command
from storekeep.cli.exits import Exit
from storekeep.cli.imports.columns import Columns, MappingRefused, Target, read_columns
from storekeep.cli.imports.files import (
    Column,
    Constant,
    Delimiter,
    File,
    ReallyDoIt,
    one_character,
    opened,
    place_in,
    size_of,
)
from storekeep.cli.imports.order_runs import ALREADY_THERE, IMPORTED, OrderRun, Sent
from storekeep.cli.imports.orders import LINE_TARGETS, NUMBER, ORDER_TARGETS, TARGETS, Rules
from storekeep.cli.imports.reports import safe_cell
from storekeep.cli.imports.rows import BadRow, FileUnreadable, Row, RowReader
from storekeep.cli.imports.runs import FAILURES_KEPT_MAX
from storekeep.cli.imports.spools import LeftOut, Spool
from storekeep.cli.pairs import labels
from storekeep.cli.sessions import Session
from storekeep.client import StorekeepError

EXAMPLE = "storekeep import orders lines.csv --orders orders.csv --column number=id --set currency=EUR --yes"
REPORT_COLUMNS = ("file", "line", "number", "reason")

OrdersFile = Annotated[
    str, typer.Option("--orders", metavar="FILE.csv", help="One row per order, with what concerns all of it.")
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.csv", help="Write every row that was not imported, and why, to it."),
]
CancelNegative = Annotated[
    bool,
    typer.Option(
        "--cancel-negative",
        help="A row with a negative quantity takes its units off the customer's newest earlier order.",
    ),
]
ShippingSku = Annotated[
    list[str] | None,
    typer.Option("--shipping-sku", metavar="SKU", help="Rows with it are what shipping costs. Repeat."),
]
TimeZone = Annotated[
    str, typer.Option("--time-zone", metavar="ZONE", help="Of dates that name none, such as Europe/London.")
]


def add_orders(group: typer.Typer) -> None:
    """Add the command to `storekeep import`."""
    import_orders.__doc__ = f"{import_orders.__doc__}\n\nThe targets are:\n\n{_described(TARGETS)}"
    command(group, "orders", example=EXAMPLE, writes=True)(import_orders)


def import_orders(
    session: Session,
    file: File,
    orders_file: OrdersFile = "",
    column: Column = None,
    constant: Constant = None,
    delimiter: Delimiter = ",",
    cancel_negative: CancelNegative = False,
    shipping_sku: ShippingSku = None,
    time_zone: TimeZone = "UTC",
    report: Report = None,
    yes: ReallyDoIt = False,
) -> None:
    """Import historic orders from a CSV file with one row per line, with their own numbers, prices and dates."""
    session.hold_back(what="An import", yes=yes)
    rules = Rules(_zone(time_zone), frozenset(shipping_sku or ()), cancel_negative)
    mapping = labels(column or ()), labels(constant or ())
    with ExitStack() as stack:
        binary = stack.enter_context(opened(file))
        heads = stack.enter_context(opened(orders_file)) if orders_file else None
        output = _Output(session, report)
        spool = Spool()
        stack.callback(spool.close)
        run = OrderRun(session.client, spool, rules=rules, write_options=session.write_options)
        try:
            _read(run, binary, heads, mapping=mapping, delimiter=one_character(delimiter), output=output)
            for sent in output.progress(run.send(), total=spool.count_orders()):
                output.tell_sent(sent)
        except StorekeepError:
            done = run.orders.total()
            session.screen.remark(f"Stopped after {done} orders; run it again to go on.")
            raise
        except (FileUnreadable, MappingRefused) as error:
            raise typer.BadParameter(str(error)) from None
        output.show(run, spool)


def _read(
    run: OrderRun,
    binary: BinaryIO,
    heads: BinaryIO | None,
    *,
    mapping: tuple[dict[str, str], dict[str, str]],
    delimiter: str,
    output: _Output,
) -> None:
    """Read both files, the one of orders first, and settle what they say together.

    Raises: FileUnreadable, MappingRefused.
    """
    reader = RowReader(binary, delimiter=delimiter)
    of_lines: Sequence[Target] = TARGETS
    if heads is not None:
        head_reader = RowReader(heads, delimiter=delimiter)
        of_heads, of_lines = (NUMBER, *ORDER_TARGETS), (NUMBER, *LINE_TARGETS)
        columns = _columns(of_heads, head_reader, mapping)
        for left_out in run.read_heads(head_reader, columns=columns):
            output.tell(left_out)
    columns = _columns(of_lines, reader, mapping)
    for left_out in run.read_lines(output.reading(reader, binary), columns=columns):
        output.tell(left_out)
    for left_out in run.settle():
        output.tell(left_out)


def _columns(targets: Sequence[Target], reader: RowReader, mapping: tuple[dict[str, str], dict[str, str]]) -> Columns:
    """The mapping of one file: of what the command line says, that which is for its targets.

    Raises: MappingRefused.
    """
    for given in mapping:
        if unknown := given.keys() - {target.name for target in TARGETS}:
            raise MappingRefused(f"there is no target {min(unknown)!r}; there are {', '.join(t.name for t in TARGETS)}")
    names = {target.name for target in targets}
    mapped, constants = ({name: given[name] for name in given if name in names} for given in mapping)
    return read_columns(targets, header=reader.header, mapped=mapped, constants=constants, labels=False)


class _Output:
    """What the run shows: progress and remarks on stderr, the report, and the summary."""

    def __init__(self, session: Session, report: Path | None) -> None:
        self._session = session
        self._screen = session.screen
        self._report = report

    def tell(self, left_out: LeftOut | None) -> None:
        """Say what a row was left out for."""
        if left_out is not None:
            self._screen.remark(f"{left_out.file} line {left_out.line}: {left_out.reason}")

    def tell_sent(self, sent: Sent) -> None:
        """Say what an order was left out for."""
        if sent.reason:
            self._screen.remark(f"order {sent.number}: {sent.reason}")

    def reading(self, rows: Iterable[Row | BadRow], binary: BinaryIO) -> Iterator[Row | BadRow]:
        """Show, on a terminal, how much of a file is read."""
        with self._bar() as progress:
            task = progress.add_task("reading", total=size_of(binary), done="")
            for number, row in enumerate(rows, start=1):
                progress.update(task, completed=place_in(binary), done=f"{number} rows")
                yield row

    def progress(self, results: Iterator[Sent], *, total: int) -> Iterator[Sent]:
        """Show, on a terminal, how many orders are done."""
        with self._bar() as progress:
            task = progress.add_task("importing", total=total, done="")
            for number, sent in enumerate(results, start=1):
                progress.update(task, completed=number, done=f"{number} of {total} orders")
                yield sent

    def _bar(self) -> Progress:
        parts = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
        )
        return Progress(*parts, console=self._screen.err, disable=not sys.stderr.isatty(), transient=True)

    def show(self, run: OrderRun, spool: Spool) -> None:
        """Write the report and show the summary.

        Raises: typer.Exit where anything was left out.
        """
        if self._report is not None:
            self._write_report(spool.left_out(), self._report)
        orders = {
            "imported": run.orders[IMPORTED],
            "alreadyThere": run.orders[ALREADY_THERE],
            "cancellations": 0,
            "leftOut": spool.orders_left_out,
        }
        rows = {
            "imported": run.rows[IMPORTED],
            "alreadyThere": run.rows[ALREADY_THERE],
            "cancellations": spool.cancellations,
            "leftOut": spool.rows_left_out,
        }
        if self._screen.as_json:
            self._show_document(orders, rows, spool)
        else:
            cells = [[name, *(str(count) for count in counts.values())] for name, counts in self._named(orders, rows)]
            self._screen.show_rows(cells, columns=["", "imported", "already there", "cancellations", "left out"])
        if spool.anything_left_out:
            raise typer.Exit(Exit.PARTLY)

    def _named(self, orders: dict[str, int], rows: dict[str, int]) -> Iterator[tuple[str, dict[str, int]]]:
        yield "orders", orders
        yield "rows", rows

    def _show_document(self, orders: dict[str, int], rows: dict[str, int], spool: Spool) -> None:
        kept = (left_out for left_out, _ in zip(spool.left_out(), range(FAILURES_KEPT_MAX), strict=False))
        failures = [{"file": row.file, "line": row.line, "number": row.number, "reason": row.reason} for row in kept]
        del orders["cancellations"]
        document = {
            "orders": orders,
            "rows": {**rows, "total": spool.rows},
            "dryRun": self._session.dry_run,
            "failures": failures,
        }
        self._screen.show_document(document)

    def _write_report(self, left_out: Iterator[LeftOut], path: Path) -> None:
        try:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(REPORT_COLUMNS)
                writer.writerows(map(safe_cell, (row.file, row.line, row.number, row.reason)) for row in left_out)
        except OSError as error:
            raise typer.BadParameter(f"Cannot write {path}: {error.strerror}") from None


def _described(targets: Iterable[Target]) -> str:
    return "\n\n".join(f"{target.name}: {target.help}{' Required.' if target.required else ''}" for target in targets)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(f"{name!r} is no time zone, such as Europe/London") from None
