"""`storekeep import orders`: the command, its options, progress, report and summary."""

from __future__ import annotations

import csv
import sys
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from storekeep.cli.commands import command
from storekeep.cli.exits import Exit
from storekeep.cli.files import create_file, describe_os_error
from storekeep.cli.imports.columns import Columns, InvalidMapping, Target, read_columns
from storekeep.cli.imports.files import (
    Column,
    ConfirmImport,
    Constant,
    Delimiter,
    File,
    get_offset,
    get_size,
    open_file,
    parse_delimiter,
)
from storekeep.cli.imports.order_runs import ALREADY_THERE, IMPORTED, OrderResult, OrderRun
from storekeep.cli.imports.orders import LINE_TARGETS, NUMBER, ORDER_TARGETS, TARGETS, Rules
from storekeep.cli.imports.reports import escape_formula
from storekeep.cli.imports.rows import BadRow, FileUnreadable, Row, RowReader
from storekeep.cli.imports.runs import FAILURES_KEPT_MAX
from storekeep.cli.imports.staging_tables import LeftOutRow, StagingTables
from storekeep.cli.pairs import parse_labels
from storekeep.cli.sessions import Session
from storekeep.client import StorekeepError

EXAMPLE = "storekeep import orders lines.csv --orders orders.csv --column number=id --set currency=EUR --yes"
REPORT_COLUMNS = ("file", "line", "number", "reason")

OrdersFile = Annotated[
    str, typer.Option("--orders", metavar="FILE.csv", help="File with one row per order, for order-level targets.")
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.csv", help="Write the rows that are left out, and why, to this file."),
]
CancelNegative = Annotated[
    bool,
    typer.Option(
        "--cancel-negative",
        help="Let rows with a negative quantity cancel units of the customer's latest earlier orders.",
    ),
]
ShippingSku = Annotated[
    list[str] | None,
    typer.Option("--shipping-sku", metavar="SKU", help="SKU of rows with shipping costs. May be repeated."),
]
TimeZone = Annotated[
    str, typer.Option("--time-zone", metavar="ZONE", help="Time zone of dates without one, such as Europe/London.")
]


def add_orders(group: typer.Typer) -> None:
    """Add the command to `storekeep import`."""
    import_orders.__doc__ = f"{import_orders.__doc__}\n\nTargets:\n\n{_describe_targets(TARGETS)}"
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
    yes: ConfirmImport = False,
) -> None:
    """Import historic orders with their own numbers, prices and dates from a CSV file with one row per order line."""
    session.default_to_dry_run(action="An import", yes=yes)
    rules = Rules(_get_time_zone(time_zone), frozenset(shipping_sku or ()), cancel_negative)
    mapping = parse_labels(column or ()), parse_labels(constant or ())
    with ExitStack() as stack:
        binary = stack.enter_context(open_file(file))
        order_binary = stack.enter_context(open_file(orders_file)) if orders_file else None
        output = _Output(session, report)
        staging = StagingTables()
        stack.callback(staging.close)
        run = OrderRun(session.client, staging, rules=rules, write_options=session.write_options)
        try:
            _load_files(run, binary, order_binary, mapping=mapping, delimiter=parse_delimiter(delimiter), output=output)
            for result in output.track_sending(run.send(), total=staging.count_orders()):
                output.show_result(result)
        except StorekeepError:
            orders_done = run.orders.total()
            session.screen.show_notice(f"Stopped after {orders_done} orders; run the import again to continue.")
            raise
        except (FileUnreadable, InvalidMapping) as error:
            raise typer.BadParameter(str(error)) from None
        output.show_summary(run, staging)


def _load_files(
    run: OrderRun,
    binary: BinaryIO,
    order_binary: BinaryIO | None,
    *,
    mapping: tuple[dict[str, str], dict[str, str]],
    delimiter: str,
    output: _Output,
) -> None:
    """Load both files, the order file first, and apply the cancellations.

    Raises: FileUnreadable, InvalidMapping.
    """
    reader = RowReader(binary, delimiter=delimiter)
    line_targets: Sequence[Target] = TARGETS
    if order_binary is not None:
        order_reader = RowReader(order_binary, delimiter=delimiter)
        order_targets, line_targets = (NUMBER, *ORDER_TARGETS), (NUMBER, *LINE_TARGETS)
        columns = _select_columns(order_targets, order_reader, mapping)
        for left_out in run.read_order_rows(order_reader, columns=columns):
            output.show_left_out(left_out)
    columns = _select_columns(line_targets, reader, mapping)
    for left_out in run.read_line_rows(output.track_reading(reader, binary), columns=columns):
        output.show_left_out(left_out)
    for left_out in run.apply_cancellations():
        output.show_left_out(left_out)


def _select_columns(
    targets: Sequence[Target], reader: RowReader, mapping: tuple[dict[str, str], dict[str, str]]
) -> Columns:
    """Return the mapping of one file: the part of the command line that applies to its targets.

    Raises: InvalidMapping.
    """
    for options in mapping:
        if unknown := options.keys() - {target.name for target in TARGETS}:
            raise InvalidMapping(f"no target {min(unknown)!r}; targets: {', '.join(t.name for t in TARGETS)}")
    names = {target.name for target in targets}
    mapped, constants = ({name: options[name] for name in options if name in names} for options in mapping)
    return read_columns(targets, header=reader.header, mapped=mapped, constants=constants, labels=False)


class _Output:
    """Output of a run: progress and notices on stderr, the report, and the summary."""

    def __init__(self, session: Session, report: Path | None) -> None:
        self._session = session
        self._screen = session.screen
        self._report = report

    def show_left_out(self, left_out: LeftOutRow | None) -> None:
        """Print why a row was left out."""
        if left_out is not None:
            self._screen.show_notice(f"{left_out.file} line {left_out.line}: {left_out.reason}")

    def show_result(self, result: OrderResult) -> None:
        """Print why an order was left out."""
        if result.reason:
            self._screen.show_notice(f"order {result.number}: {result.reason}")

    def track_reading(self, rows: Iterable[Row | BadRow], binary: BinaryIO) -> Iterator[Row | BadRow]:
        """Yield the rows, and show on a terminal how much of the file is read."""
        with self._new_progress_bar() as progress:
            task = progress.add_task("reading", total=get_size(binary), done="")
            for number, row in enumerate(rows, start=1):
                progress.update(task, completed=get_offset(binary), done=f"{number} rows")
                yield row

    def track_sending(self, results: Iterator[OrderResult], *, total: int) -> Iterator[OrderResult]:
        """Yield the results, and show on a terminal how many orders are done."""
        with self._new_progress_bar() as progress:
            task = progress.add_task("importing", total=total, done="")
            for number, result in enumerate(results, start=1):
                progress.update(task, completed=number, done=f"{number} of {total} orders")
                yield result

    def _new_progress_bar(self) -> Progress:
        parts = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
        )
        return Progress(*parts, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)

    def show_summary(self, run: OrderRun, staging: StagingTables) -> None:
        """Write the report and print the summary.

        Raises: typer.Exit if a row was left out.
        """
        if self._report is not None:
            self._write_report(staging.iterate_left_out(), self._report)
        orders = {
            "imported": run.orders[IMPORTED],
            "alreadyThere": run.orders[ALREADY_THERE],
            "cancellations": 0,
            "leftOut": staging.orders_left_out,
        }
        rows = {
            "imported": run.rows[IMPORTED],
            "alreadyThere": run.rows[ALREADY_THERE],
            "cancellations": staging.cancellations,
            "leftOut": staging.rows_left_out,
        }
        if self._screen.as_json:
            self._show_document(orders, rows, staging)
        else:
            named_counts = self._name_counts(orders, rows)
            cells = [[name, *(str(count) for count in counts.values())] for name, counts in named_counts]
            self._screen.show_rows(cells, columns=["", "imported", "already there", "cancellations", "left out"])
        if staging.has_left_out:
            raise typer.Exit(Exit.PARTLY)

    def _name_counts(self, orders: dict[str, int], rows: dict[str, int]) -> Iterator[tuple[str, dict[str, int]]]:
        yield "orders", orders
        yield "rows", rows

    def _show_document(self, orders: dict[str, int], rows: dict[str, int], staging: StagingTables) -> None:
        left_out = (row for row, _ in zip(staging.iterate_left_out(), range(FAILURES_KEPT_MAX), strict=False))
        failures = [
            {"file": row.file, "line": row.line, "number": row.number, "reason": row.reason} for row in left_out
        ]
        del orders["cancellations"]
        document = {
            "orders": orders,
            "rows": {**rows, "total": staging.rows},
            "dryRun": self._session.dry_run,
            "failures": failures,
        }
        self._screen.show_document(document)

    def _write_report(self, left_out: Iterator[LeftOutRow], path: Path) -> None:
        try:
            with create_file(path, newline="") as file:
                writer = csv.writer(file)
                writer.writerow(REPORT_COLUMNS)
                writer.writerows(map(escape_formula, (row.file, row.line, row.number, row.reason)) for row in left_out)
        except OSError as error:
            raise typer.BadParameter(f"cannot write {path}: {describe_os_error(error)}") from None


def _describe_targets(targets: Iterable[Target]) -> str:
    return "\n\n".join(f"{target.name}: {target.help}{' Required.' if target.required else ''}" for target in targets)


def _get_time_zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(f"{name!r} is not a time zone such as Europe/London") from None
