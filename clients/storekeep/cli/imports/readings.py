"""How the files of one import are read: the options of the command line, and the known format if one is given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, BinaryIO

import typer

from storekeep.cli.imports.files import parse_layout, parse_spelling
from storekeep.cli.imports.formats.catalogue import FORMATS
from storekeep.cli.imports.formats.sources import Format, JoinTable, Source
from storekeep.cli.pairs import parse_labels
from storekeep.cli.screens import Screen
from storekeep.imports.columns import (
    Columns,
    InvalidMapping,
    Target,
    list_needed_columns,
    read_columns,
    suggest_delimiter,
)
from storekeep.imports.records import FileUnreadable
from storekeep.imports.rows import AnyRow, BadRow, Layout, Row, RowReader
from storekeep.imports.spellings import Spelling

FormatName = Annotated[
    str, typer.Option("--format", metavar="NAME", help=f"Columns of a known export: {', '.join(FORMATS)}.")
]
KEY = (Target("key", "Key of the row.", required=True),)


@dataclass(frozen=True)
class Reading:
    """How the files of one import are read.

    Attributes:
        mapped, constants: columns and constants by target, from the command line.
        known: the known format; None if there is none.
    """

    layout: Layout
    spelling: Spelling
    mapped: Mapping[str, str]
    constants: Mapping[str, str]
    known: Format | None = None

    def open(
        self,
        binary: BinaryIO,
        *,
        targets: Sequence[Target],
        source: Source | None,
        prefixes: Collection[str] = (),
        others: Collection[str] = (),
    ) -> tuple[RowReader, Columns]:
        """Read the header of a file and map its columns.

        Args:
            source: the file in the known format; None without one.
            prefixes: prefixes of targets such as `label.KEY`.
            others: targets that another file has; what the command line says about them is ignored.

        Raises: FileUnreadable, InvalidMapping.
        """
        mapped = {target: column for target, column in self.mapped.items() if target not in others}
        constants = {target: value for target, value in self.constants.items() if target not in others}
        if source is None:
            needed = list_needed_columns(targets, mapped=mapped, constants=constants)
            reader = RowReader(binary, layout=self.layout, needed=needed)
            columns = read_columns(
                targets, reader, mapped=mapped, constants=constants, prefixes=prefixes, spelling=self.spelling
            )
            return reader, columns
        reader = RowReader(binary, layout=self.layout, needed={*source.needed, *mapped.values()})
        if missing := [column for column in source.needed if column not in reader.header]:
            name, hint = "" if self.known is None else self.known.name, suggest_delimiter(reader.header)
            raise InvalidMapping(f"the file is not of the format {name}: it has no column {', '.join(missing)}{hint}")
        known = {target: column for target, column in source.columns.items() if column in reader.header}
        columns = read_columns(
            targets,
            reader,
            mapped={**known, **mapped},
            constants={**source.constants, **constants},
            prefixes=prefixes,
            computed=source.computed,
            spelling=self.spelling,
        )
        return reader, columns

    def read_join(self, binary: BinaryIO, join: JoinTable) -> None:
        """Read the third file of a format into a table.

        Raises: FileUnreadable, InvalidMapping.
        """
        assert self.known is not None  # noqa: S101 - only formats have a third file
        source = self.known.join
        assert source is not None  # noqa: S101
        targets = (*KEY, *(Target(name, "") for name in (*source.columns, *source.constants) if name != "key"))
        reader, columns = Reading(self.layout, self.spelling, {}, {}, self.known).open(
            binary, targets=targets, source=source
        )
        for row in reader:
            if isinstance(row, BadRow) or "key" not in (cells := columns.map_row(row).by_target):
                raise FileUnreadable(f"line {row.line} of the file of --join cannot be read, and orders may need it")
            join.add(cells["key"], {target: text for target, text in cells.items() if target != "key"})


def show_ignored_columns(screen: Screen, columns: Sequence[str], constants: Collection[str]) -> None:
    """Print the columns whose values are not imported, if there are any, and why.

    `constants`: the targets of --set.
    """
    if replaced := ", ".join(name for name in columns if name in constants):
        screen.show_notice(f"Not imported, because --set replaces them: the columns {replaced}.")
    if unknown := ", ".join(name for name in columns if name not in constants):
        screen.show_notice(f"Not imported, because they are no targets: the columns {unknown}. See --column.")


def adapt_rows(rows: Iterable[Row | BadRow], source: Source | None, join: JoinTable) -> Iterator[AnyRow]:
    """Yield the rows of a file, converted by its format."""
    return iter(rows) if source is None or source.adapt is None else source.adapt(rows, join)


def parse_reading(
    *,
    column: Sequence[str] | None,
    constant: Sequence[str] | None,
    delimiter: str,
    encoding: str,
    null: Sequence[str] | None,
    decimal_comma: bool,
    format_name: str,
    noun: str,
    date_format: Sequence[str] | None = None,
    time_zone: str = "",
) -> Reading:
    """Return how the files are read.

    `noun`: what is imported, as for `get_source`.

    Raises: typer.BadParameter.
    """
    known = None
    if format_name:
        known = FORMATS.get(format_name)
        if known is None:
            fitting = _list_formats(noun)
            close = get_close_matches(format_name, fitting, n=1)
            advice = f"did you mean {close[0]}?" if close else f"formats: {', '.join(fitting)}"
            raise typer.BadParameter(f"no format {format_name!r}; {advice}")
        if decimal_comma or date_format:
            raise typer.BadParameter(f"--format {format_name} defines how numbers and dates are written")
    spelling = parse_spelling(
        decimal_comma=decimal_comma,
        date_formats=(date_format or ()) if known is None else known.date_formats,
        time_zone=time_zone or ("UTC" if known is None else known.time_zone),
    )
    layout = parse_layout(delimiter=delimiter, encoding=encoding, null=null)
    columns, constants = (
        parse_labels(column or (), form="TARGET=HEADER"),
        parse_labels(constant or (), form="TARGET=VALUE"),
    )
    return Reading(layout, spelling, columns, constants, known)


def _list_formats(noun: str) -> list[str]:
    """Return the formats that have a file for one import."""
    return [name for name, other in FORMATS.items() if getattr(other, noun) is not None]


def get_source(known: Format | None, noun: str) -> Source | None:
    """Return the file of a format for one import; None without a format.

    Raises: typer.BadParameter if the format has none.
    """
    if known is None:
        return None
    source: Source | None = getattr(known, noun)
    if source is None:
        fitting = _list_formats(noun)
        words = "orders" if noun == "lines" else noun
        raise typer.BadParameter(f"the format {known.name} has no {words}; formats that have: {', '.join(fitting)}")
    return source
