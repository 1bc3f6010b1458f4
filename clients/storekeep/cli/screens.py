"""Output of commands: tables, one JSON document, CSV or names.

Results go to stdout; notices, progress and errors go to stderr, so that a pipe receives only results. JSON uses the
proto3 mapping (lowerCamelCase, 64-bit integers as strings). A list is one array, written as its items arrive.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import typer
from google.protobuf.message import Message

from storekeep.cli.cells import format_cell, format_csv_path, format_path, restore_integers
from storekeep.cli.outputs import OutputFormat, check_choice, check_columns
from storekeep.cli.texts import escape_document, replace_unprintable

if TYPE_CHECKING:
    from rich.table import Table

    from storekeep.cli.tables import Output


class Screen:
    """Prints results in one of the output formats. An empty line separates the parts of a result in tables."""

    def __init__(self, output: OutputFormat = OutputFormat.TABLE, columns: Sequence[str] = ()) -> None:
        """Create a screen that prints to stdout.

        Args:
            columns: the fields to show (default: those of the command).
        """
        self._format = output
        self._columns = tuple(columns)
        self._is_empty = True
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without ü shows ?

    @property
    def as_json(self) -> bool:
        """Return whether results are JSON."""
        return self._format is OutputFormat.JSON

    @property
    def names_only(self) -> bool:
        """Return whether of each result only the name is printed."""
        return self._format is OutputFormat.NAME

    @property
    def has_default_layout(self) -> bool:
        """Return whether results are laid out by the command: as tables, without a choice of columns."""
        return self._format is OutputFormat.TABLE and not self._columns

    @cached_property
    def _out(self) -> Output:
        from storekeep.cli.tables import Output

        return Output()

    def show_notice(self, text: str) -> None:
        """Print a line to stderr that is not a result."""
        sys.stderr.write(f"{replace_unprintable(text)}\n")

    def show_message(self, message: Message) -> None:
        """Print one resource with all its fields, or those of `--columns`."""
        check_columns(message.DESCRIPTOR, self._columns)
        if self.as_json:
            self.show_document(to_document(message, self._columns))
        elif self._format is OutputFormat.TABLE:
            from storekeep.cli.tables import build_details

            self._print(build_details(message, self._columns, width=self._out.width))
        else:
            self.show_messages([message], columns=[field.name for field in message.DESCRIPTOR.fields])

    def show_document(self, document: object) -> None:
        """Print a JSON document."""
        sys.stdout.write(_format_json(document, indent=2) + "\n")

    def show_facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Print labels and values, one pair per line, without those that have no value."""
        from storekeep.cli.tables import build_fact_table

        self._print(build_fact_table(facts))

    def show_messages(self, messages: Iterable[Message], *, columns: Sequence[str], descriptor: Any = None) -> None:
        """Print resources: the fields in `columns` as table or CSV, all fields as a JSON array, or only their names.

        The fields of `--columns` take precedence.

        Args:
            descriptor: the type of the messages; needed if there may be none.
        """
        if descriptor is not None:
            check_columns(descriptor, self._columns)
        checked = self._check_first(messages)
        shown = self._columns or tuple(columns)
        if self.as_json:
            _write_array(checked, self._columns)
        elif self.names_only:
            _write_lines(_get_name(message, shown[0]) for message in checked)
        else:
            format_field = format_csv_path if self._format is OutputFormat.CSV else format_path
            self._show_cells(([format_field(message, column) for column in shown] for message in checked), shown)

    def show_stream(self, messages: Iterable[Message], *, columns: Sequence[str]) -> None:
        """Print each message when it arrives: its fields in `columns` on a line, or one JSON document per line."""
        for message in self._check_first(messages):
            if self.as_json:
                text = _format_json(to_document(message, self._columns))
            else:
                text = "  ".join(replace_unprintable(format_path(message, path)) for path in self._columns or columns)
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    def show_rows(self, rows: Iterable[Sequence[str]], *, columns: Sequence[str]) -> None:
        """Print rows of text as a table or CSV, as a JSON array of objects, or only their first values."""
        for column in self._columns:
            check_choice(column, columns)
        shown = self._columns or tuple(columns)
        chosen = ([dict(zip(columns, row, strict=True))[column] for column in shown] for row in rows)
        if self.as_json:
            self.show_document([dict(zip(shown, row, strict=True)) for row in chosen])
        elif self.names_only:
            _write_lines(row[0] for row in chosen)
        else:
            self._show_cells(chosen, shown)

    def _check_first(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the messages after a check that the first has the fields of `--columns`."""
        for index, message in enumerate(messages):
            if not index:
                check_columns(message.DESCRIPTOR, self._columns)
            yield message

    def _show_cells(self, rows: Iterable[Sequence[str]], columns: Sequence[str]) -> None:
        if self._format is OutputFormat.CSV:
            _write_csv(rows, columns)
            return
        from storekeep.cli.tables import build_row_table

        shown = list(rows)
        if not shown:
            self.show_notice("Nothing found.")
            return
        table, left_out = build_row_table(shown, columns, width=self._out.width, keeps_all=bool(self._columns))
        self._print(table)
        if left_out:
            self.show_notice(f"No room for {', '.join(left_out)}: see --columns, or --output csv.")

    def _print(self, table: Table) -> None:
        if not self._is_empty:
            self._out.print()
        self._is_empty = False
        self._out.print_table(table)


def to_document(message: Message, columns: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON document of a message. It includes fields that are 0 or empty, but no absent ones.

    Args:
        columns: the fields to include, each as a whole (default: all).
    """
    from google.protobuf.json_format import MessageToDict

    document: dict[str, Any] = restore_integers(MessageToDict(message, always_print_fields_with_no_presence=True))
    if not columns:
        return document
    fields = message.DESCRIPTOR.fields_by_name
    names = dict.fromkeys(fields[column.partition(".")[0]].json_name for column in columns)
    return {name: document[name] for name in names if name in document}


def _format_json(document: object, *, indent: int | None = None) -> str:
    """Return the text of a document, escaped to ASCII if the encoding of stdout is not UTF-8."""
    ascii_only = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    return escape_document(json.dumps(document, ensure_ascii=ascii_only, indent=indent))


def _write_array(messages: Iterable[Message], columns: Sequence[str]) -> None:
    separator = "["
    for message in messages:
        sys.stdout.write(f"{separator}\n{_format_json(to_document(message, columns))}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def _write_csv(rows: Iterable[Sequence[str]], columns: Sequence[str]) -> None:
    """Write rows as RFC 4180 describes them, with a header and line feeds. Write nothing if the first row fails."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    printable = ([replace_unprintable(value) for value in row] for row in rows)
    first = list(islice(printable, 1))
    writer.writerow(columns)
    writer.writerows(chain(first, printable))


def _write_lines(texts: Iterable[str]) -> None:
    sys.stdout.writelines(f"{' '.join(replace_unprintable(text).split())}\n" for text in texts)


def _get_name(message: Message, column: str) -> str:
    """Return the resource name of a message, or the text of its `column` if it has none.

    Raises: typer.BadParameter if that is not a text.
    """
    fields = message.DESCRIPTOR.fields_by_name
    if "name" not in fields and fields[column].message_type is not None:
        raise typer.BadParameter("this result has no name: use --output json, csv or table")
    return format_cell(message, "name" if "name" in message.DESCRIPTOR.fields_by_name else column)
