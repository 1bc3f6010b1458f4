"""`storekeep import orders`: the command, its options, progress, report and summary."""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from storekeep.cli.commands import command
from storekeep.cli.exits import Exit
from storekeep.cli.files import create_file, describe_os_error
from storekeep.cli.imports.files import (
    Column,
    ConfirmImport,
    Constant,
    DateFormat,
    DecimalComma,
    Delimiter,
    Encoding,
    File,
    Null,
    SkuMapFile,
    get_offset,
    get_size,
    open_file,
)
from storekeep.cli.imports.formats.sources import Format, JoinTable
from storekeep.cli.imports.order_runs import ALREADY_THERE, IMPORTED, OrderResult, OrderRun
from storekeep.cli.imports.orders import LINE_TARGETS, NUMBER, ORDER_TARGETS, TARGETS, Rules
from storekeep.cli.imports.readings import (
    FormatName,
    Reading,
    adapt_rows,
    get_source,
    parse_reading,
    show_ignored_columns,
)
from storekeep.cli.imports.staging_tables import LeftOutRow, StagingTables
from storekeep.cli.sessions import Session
from storekeep.client import StorekeepError
from storekeep.imports.columns import InvalidMapping, Target
from storekeep.imports.records import FileUnreadable
from storekeep.imports.reports import escape_formula
from storekeep.imports.rows import BadRow, Row
from storekeep.imports.runs import FAILURES_KEPT_MAX
from storekeep.imports.sku_maps import SkuMap

if TYPE_CHECKING:
    from rich.progress import Progress

EXAMPLE = "storekeep import orders lines.csv --orders orders.csv --column number=id --set currency=EUR --yes"
REPORT_COLUMNS = ("file", "line", "number", "reason")

OrdersFile = Annotated[
    str, typer.Option("--orders", metavar="FILE.csv", help="File with one row per order, for order-level targets.")
]
JoinFile = Annotated[
    str, typer.Option("--join", metavar="FILE.csv", help="Third file of a format that has one, such as olist.")
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
    str,
    typer.Option(
        "--time-zone",
        metavar="ZONE",
        help="Time zone of dates without one, such as Europe/London.",
        show_default="UTC, or that of the format",
    ),
]


def add_orders(group: typer.Typer) -> None:
    """Add the command to `storekeep import`."""
    import_orders.__doc__ = f"{import_orders.__doc__}\n\nTargets:\n\n{_describe_targets(TARGETS)}"
    command(group, "orders", example=EXAMPLE, writes=True)(import_orders)


def import_orders(
    session: Session,
    file: File,
    orders_file: OrdersFile = "",
    join_file: JoinFile = "",
    format_name: FormatName = "",
    column: Column = None,
    constant: Constant = None,
    delimiter: Delimiter = "",
    encoding: Encoding = "",
    null: Null = None,
    decimal_comma: DecimalComma = False,
    date_format: DateFormat = None,
    time_zone: TimeZone = "",
    cancel_negative: CancelNegative = False,
    shipping_sku: ShippingSku = None,
    sku_map: SkuMapFile = None,
    report: Report = None,
    yes: ConfirmImport = False,
) -> None:
    """Import historic orders with their own numbers, prices and dates from a CSV file with one row per order line."""
    reading = parse_reading(
        column=column,
        constant=constant,
        delimiter=delimiter,
        encoding=encoding,
        null=null,
        decimal_comma=decimal_comma,
        format_name=format_name,
        noun="lines",
        date_format=date_format,
        time_zone=time_zone,
    )
    with ExitStack() as stack:
        files = _open_files(stack, reading, file, orders_file, join_file)
        session.default_to_dry_run(action="an import", yes=yes)
        output = _Output(session, report)
        staging = StagingTables()
        stack.callback(staging.close)
        try:
            skus = SkuMap(sku_map, dry_run=session.dry_run)
            rules = _build_rules(reading.known, skus, shipping_sku=shipping_sku, cancel_negative=cancel_negative)
            run = OrderRun(session.client, staging, rules=rules, write_options=session.creation_options)
            output.show_ignored(_load_files(run, reading, files, output=output), reading.constants)
            _send(session, run, staging, output=output)
        except (FileUnreadable, InvalidMapping) as error:
            raise typer.BadParameter(str(error)) from None
        output.show_summary(run, staging)


@dataclass(frozen=True)
class _Files:
    """The open files. `orders` and `join` are None if there are none."""

    lines: BinaryIO
    orders: BinaryIO | None
    join: BinaryIO | None


def _open_files(stack: ExitStack, reading: Reading, file: str, orders_file: str, join_file: str) -> _Files:
    """Open the files.

    Raises: typer.BadParameter, also if a file of the format is missing.
    """
    known = reading.known
    if known is not None and known.lines is not None and (known.orders is not None) != bool(orders_file):
        verb = "needs" if known.orders is not None else "has no use for"
        raise typer.BadParameter(f"the format {known.name} {verb} --orders FILE.csv")
    if join_file and (known is None or known.join is None):
        raise typer.BadParameter("--join is only for a format with a third file, such as olist")
    return _Files(
        stack.enter_context(open_file(file)),
        stack.enter_context(open_file(orders_file)) if orders_file else None,
        stack.enter_context(open_file(join_file)) if join_file else None,
    )


def _build_rules(
    known: Format | None, skus: SkuMap, *, shipping_sku: Sequence[str] | None, cancel_negative: bool
) -> Rules:
    shipping_skus = frozenset(shipping_sku or ()) | (frozenset() if known is None else known.shipping_skus)
    return Rules(skus, shipping_skus, cancel_negative or (known is not None and known.cancel_negative))


def _load_files(run: OrderRun, reading: Reading, files: _Files, *, output: _Output) -> list[str]:
    """Load the files, the lines last, and apply the cancellations. Return the columns whose values are ignored.

    Raises: FileUnreadable, InvalidMapping.
    """
    known = reading.known
    source = get_source(known, "lines")
    ignored: dict[str, None] = {}
    order_names = {target.name for target in ORDER_TARGETS}
    if unknown := {*reading.mapped, *reading.constants} - {target.name for target in TARGETS}:
        raise InvalidMapping(f"no target {min(unknown)!r}; targets: {', '.join(target.name for target in TARGETS)}")
    with closing(JoinTable()) as join:
        if files.join is not None:
            reading.read_join(files.join, join)
        if files.orders is not None:
            order_source = None if known is None else known.orders
            reader, columns = reading.open(
                files.orders,
                targets=(NUMBER, *ORDER_TARGETS),
                source=order_source,
                others={target.name for target in LINE_TARGETS},
            )
            for left_out in run.read_order_rows(adapt_rows(reader, order_source, join), columns=columns):
                output.show_left_out(left_out)
            ignored |= dict.fromkeys(columns.ignored)
        is_split = files.orders is not None
        reader, columns = reading.open(
            files.lines,
            targets=(NUMBER, *LINE_TARGETS) if is_split else TARGETS,
            source=source,
            others=order_names if is_split else (),
        )
        rows = adapt_rows(output.track_reading(reader, files.lines), source, join)
        for left_out in run.read_line_rows(rows, columns=columns):
            output.show_left_out(left_out)
        ignored |= dict.fromkeys(columns.ignored)
    for left_out in run.apply_cancellations():
        output.show_left_out(left_out)
    return [] if known is not None else list(ignored)


def _send(session: Session, run: OrderRun, staging: StagingTables, *, output: _Output) -> None:
    try:
        for result in output.track_sending(run.send(), total=staging.count_orders()):
            output.show_result(result)
    except StorekeepError:
        notice = f"Stopped after {run.orders.total()} orders; run the import again to continue."
        session.screen.show_notice(notice)
        raise
    for text, note in run.notes.items():
        count = f"order {note.first}" if note.orders == 1 else f"{note.orders} orders (first {note.first})"
        session.screen.show_notice(f"{count}: {text}")


class _Output:
    """Output of a run: progress and notices on stderr, the report, and the summary."""

    def __init__(self, session: Session, report: Path | None) -> None:
        self._session = session
        self._screen = session.screen
        self._report = report
        self._ignored: list[str] = []

    def show_ignored(self, columns: Sequence[str], constants: Collection[str]) -> None:
        """Print the columns whose values are not imported."""
        self._ignored = list(columns)
        show_ignored_columns(self._screen, columns, constants)

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
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

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
            "skipped": 0,
            "leftOut": staging.orders_left_out,
        }
        rows = {
            "imported": run.rows[IMPORTED],
            "alreadyThere": run.rows[ALREADY_THERE],
            "cancellations": staging.cancellations,
            "skipped": staging.skipped,
            "leftOut": staging.rows_left_out,
        }
        if self._screen.as_json:
            self._show_document(run, orders, rows, staging)
        else:
            named_counts = self._name_counts(orders, rows)
            cells = [[name, *(str(count) for count in counts.values())] for name, counts in named_counts]
            self._screen.show_rows(
                cells, columns=["", "imported", "already there", "cancellations", "skipped", "left out"]
            )
        if staging.has_left_out:
            raise typer.Exit(Exit.PARTLY)

    def _name_counts(self, orders: dict[str, int], rows: dict[str, int]) -> Iterator[tuple[str, dict[str, int]]]:
        yield "orders", orders
        yield "rows", rows

    def _show_document(
        self, run: OrderRun, orders: dict[str, int], rows: dict[str, int], staging: StagingTables
    ) -> None:
        left_out = (row for row, _ in zip(staging.iterate_left_out(), range(FAILURES_KEPT_MAX), strict=False))
        failures = [
            {"file": row.file, "line": row.line, "number": row.number, "reason": row.reason} for row in left_out
        ]
        del orders["cancellations"], orders["skipped"]
        document = {
            "orders": orders,
            "rows": {**rows, "total": staging.rows},
            "dryRun": self._session.dry_run,
            "ignoredColumns": self._ignored,
            "notes": [{"orders": note.orders, "first": note.first, "text": text} for text, note in run.notes.items()],
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
