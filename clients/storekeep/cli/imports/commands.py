"""`storekeep import`: the commands for all but orders, their progress and summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from storekeep.cli.commands import command, new_group
from storekeep.cli.exits import Exit
from storekeep.cli.imports import order_commands
from storekeep.cli.imports.files import (
    Column,
    ConfirmImport,
    Constant,
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
from storekeep.cli.imports.formats.sources import JoinTable
from storekeep.cli.imports.readings import (
    FormatName,
    Reading,
    adapt_rows,
    get_source,
    parse_reading,
    show_ignored_columns,
)
from storekeep.cli.sessions import Session
from storekeep.client import StorekeepError
from storekeep.imports.columns import InvalidMapping
from storekeep.imports.kinds import KINDS, Kind
from storekeep.imports.records import FileUnreadable
from storekeep.imports.runs import Failure, Run, Summary
from storekeep.imports.sku_maps import SkuMap
from storekeep.imports.writes import Outcome

Distinct = Annotated[bool, typer.Option("--distinct", help="Use the first row of each key and skip its repeats.")]


EXAMPLES = {
    "categories": "storekeep import categories tree.csv --column id=code --column parent=group --yes",
    "products": "storekeep import products tea.csv --column sku=code --column price=net --set currency=EUR --yes",
    "prices": "storekeep import prices list.csv --column sku=code --column price=net --set currency=EUR --yes",
    "coupons": "storekeep import coupons codes.csv --set promotion=spring --set max_uses=1 --yes",
    "customers": "storekeep import customers people.csv --column id=number --column city=town --yes",
    "stock": "storekeep import stock count.csv --column sku=code --column quantity=units --yes",
}


def add_imports(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app,
        "import",
        help="Import categories, products, prices, coupons, customers, stock and historic orders from CSV files. "
        "A repeated import changes nothing.",
        example="storekeep import products tea.csv --dry-run",
    )
    for kind in KINDS:
        _add_kind(group, kind)
    order_commands.add_orders(group)


def _add_kind(group: typer.Typer, kind: Kind) -> None:
    def run(
        session: Session,
        file: File,
        format_name: FormatName = "",
        column: Column = None,
        constant: Constant = None,
        delimiter: Delimiter = "",
        encoding: Encoding = "",
        null: Null = None,
        decimal_comma: DecimalComma = False,
        distinct: Distinct = False,
        sku_map: SkuMapFile = None,
        yes: ConfirmImport = False,
    ) -> None:
        reading = parse_reading(
            column=column,
            constant=constant,
            delimiter=delimiter,
            encoding=encoding,
            null=null,
            decimal_comma=decimal_comma,
            format_name=format_name,
            noun=kind.noun,
        )
        with open_file(file) as binary:
            session.default_to_dry_run(action="an import", yes=yes)
            summary, ignored = _import(session, kind, binary, reading=reading, distinct=distinct, sku_map=sku_map)
        show_ignored_columns(session.screen, ignored, reading.constants)
        _show_summary(session, summary, ignored)

    targets = "\n\n".join(
        f"{target.name}: {target.help}{' Required.' if target.required else ''}" for target in kind.targets
    )
    prefixed = "".join(f"\n\n{prefix}KEY: {text}" for prefix, text in kind.prefixes.items())
    intro = f"Import {kind.noun} from a CSV file. Only differences are written."
    run.__doc__ = f"{intro}\n\nTargets:\n\n{targets}{prefixed}"
    command(group, kind.noun, example=EXAMPLES[kind.noun], writes=True)(run)


def _import(
    session: Session, kind: Kind, binary: BinaryIO, *, reading: Reading, distinct: bool, sku_map: Path | None
) -> tuple[Summary, Sequence[str]]:
    """Import a file. Return what happened, and the columns whose values were ignored."""
    summary = Summary()
    source = get_source(reading.known, kind.noun)
    join = JoinTable()
    try:
        reader, columns = reading.open(binary, targets=kind.targets, source=source, prefixes=kind.prefixes)
        skus = SkuMap(sku_map, dry_run=session.dry_run)
        importer = kind.importer(session.client, write_options=session.creation_options, skus=skus)
        run = Run(importer, columns=columns, distinct=distinct or (source is not None and source.distinct))
        rows = run.import_rows(adapt_rows(reader, source, join))
        for result in _track_progress(session, rows, binary):
            if isinstance(result, Failure):
                session.screen.show_notice(f"line {result.line}: {result.reason}")
            summary.add(result)
    except StorekeepError:
        session.screen.show_notice(f"Stopped after {summary.rows} rows; run the import again to continue.")
        raise
    except (FileUnreadable, InvalidMapping) as error:
        raise typer.BadParameter(str(error)) from None
    finally:
        join.close()
    return summary, () if source is not None else columns.ignored


def _show_summary(session: Session, summary: Summary, ignored: Sequence[str]) -> None:
    counts = {outcome.value: summary.counts[outcome] for outcome in Outcome}
    if session.screen.as_json:
        failures = [{"line": failure.line, "reason": failure.reason} for failure in summary.failures]
        session.screen.show_document(
            {**counts, "dryRun": session.dry_run, "ignoredColumns": list(ignored), "failures": failures}
        )
    else:
        session.screen.show_rows([[str(count) for count in counts.values()]], columns=list(counts))
    if summary.failed:
        raise typer.Exit(Exit.PARTLY)


def _track_progress(
    session: Session, results: Iterator[Outcome | Failure], binary: BinaryIO
) -> Iterator[Outcome | Failure]:
    """Yield the results, and show on a terminal how much of the file is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    parts = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]} rows"), TimeElapsedColumn())
    hidden = not sys.stderr.isatty()
    with Progress(*parts, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        task = progress.add_task("importing", total=get_size(binary), rows=0)
        for number, result in enumerate(results, start=1):
            progress.update(task, completed=get_offset(binary), rows=number)
            yield result
