"""`storekeep import`: the commands for products, customers and stock, their progress and summary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from storekeep.cli.commands import command, new_group
from storekeep.cli.exits import Exit
from storekeep.cli.imports import customers, order_commands, products, stock
from storekeep.cli.imports.columns import LABEL_PREFIX, OPTION_PREFIX, InvalidMapping, Target
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
from storekeep.cli.imports.readings import FormatName, Reading, adapt_rows, get_source, parse_reading
from storekeep.cli.imports.records import FileUnreadable
from storekeep.cli.imports.runs import Failure, Importer, Outcome, Run, Summary
from storekeep.cli.imports.sku_maps import SkuMap
from storekeep.cli.sessions import Session
from storekeep.client import StorekeepError

Distinct = Annotated[bool, typer.Option("--distinct", help="Use the first row of each key and skip its repeats.")]


@dataclass(frozen=True)
class Kind:
    """A kind of resource that can be imported.

    Attributes:
        prefixes: help of targets such as `label.KEY`, by prefix.
    """

    noun: str
    targets: tuple[Target, ...]
    importer: Callable[..., Importer[Any]]
    prefixes: Mapping[str, str]
    example: str


KINDS = (
    Kind(
        "products",
        products.TARGETS,
        products.ProductImporter,
        prefixes={LABEL_PREFIX: "The label KEY of the product.", OPTION_PREFIX: "The option KEY of the variant."},
        example="storekeep import products tea.csv --column sku=code --column price=net --set currency=EUR --yes",
    ),
    Kind(
        "customers",
        customers.TARGETS,
        customers.CustomerImporter,
        prefixes={LABEL_PREFIX: "The label KEY of the customer."},
        example="storekeep import customers people.csv --column id=number --column city=town --yes",
    ),
    Kind(
        "stock",
        stock.TARGETS,
        stock.StockImporter,
        prefixes={},
        example="storekeep import stock count.csv --column sku=code --column quantity=units --yes",
    ),
)


def add_imports(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app,
        "import",
        help="Import products, customers, stock and historic orders from CSV files. A repeated import changes nothing.",
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
        session.default_to_dry_run(action="An import", yes=yes)
        reading = parse_reading(
            column=column,
            constant=constant,
            delimiter=delimiter,
            encoding=encoding,
            null=null,
            decimal_comma=decimal_comma,
            format_name=format_name,
        )
        with open_file(file) as binary:
            summary = _import(session, kind, binary, reading=reading, distinct=distinct, sku_map=sku_map)
        _show_summary(session, summary)

    targets = "\n\n".join(
        f"{target.name}: {target.help}{' Required.' if target.required else ''}" for target in kind.targets
    )
    prefixed = "".join(f"\n\n{prefix}KEY: {text}" for prefix, text in kind.prefixes.items())
    intro = f"Import {kind.noun} from a CSV file. Only differences are written."
    run.__doc__ = f"{intro}\n\nTargets:\n\n{targets}{prefixed}"
    command(group, kind.noun, example=kind.example, writes=True)(run)


def _import(
    session: Session, kind: Kind, binary: BinaryIO, *, reading: Reading, distinct: bool, sku_map: Path | None
) -> Summary:
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
    return summary


def _show_summary(session: Session, summary: Summary) -> None:
    counts = {outcome.value: summary.counts[outcome] for outcome in Outcome}
    if session.screen.as_json:
        failures = [{"line": failure.line, "reason": failure.reason} for failure in summary.failures]
        session.screen.show_document({**counts, "dryRun": session.dry_run, "failures": failures})
    else:
        session.screen.show_rows([[str(count) for count in counts.values()]], columns=list(counts))
    if summary.failed:
        raise typer.Exit(Exit.PARTLY)


def _track_progress(
    session: Session, results: Iterator[Outcome | Failure], binary: BinaryIO
) -> Iterator[Outcome | Failure]:
    """Yield the results, and show on a terminal how much of the file is done."""
    parts = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]} rows"), TimeElapsedColumn())
    hidden = not sys.stderr.isatty()
    with Progress(*parts, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        task = progress.add_task("importing", total=get_size(binary), rows=0)
        for number, result in enumerate(results, start=1):
            progress.update(task, completed=get_offset(binary), rows=number)
            yield result
