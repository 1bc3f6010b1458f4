"""Output of commands, as tables or as one JSON document.

Results go to stdout; notices, progress and errors go to stderr, so that a pipe receives only results. JSON uses the
proto3 mapping (lowerCamelCase, 64-bit integers as strings). A list is one array, written as its items arrive.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from storekeep.cli.cells import escape_document, format_cell, replace_unprintable, restore_integers
from storekeep.client import Money

PIPE_WIDTH = 10_000
"""Width in characters when stdout is not a terminal, large enough that no column is cut."""


class OutputClosed(Exception):
    """The reader of stdout closed the pipe. It is not an OSError, because typer handles those itself."""


class _Output(Console):
    """A console that raises OutputClosed on a broken pipe, where rich would exit."""

    def on_broken_pipe(self) -> None:
        raise OutputClosed


class Screen:
    """Prints results as tables or as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without ü shows ?
        self._out = _Output(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
        self.err = Console(stderr=True, highlight=False)

    def show_notice(self, text: str) -> None:
        """Print a line to stderr that is not a result."""
        self.err.print(Text(replace_unprintable(text)), soft_wrap=True)

    def show_message(self, message: Message) -> None:
        """Print one resource with all its fields."""
        if self.as_json:
            self.show_document(to_document(message))
        else:
            self._out.print(_build_details(message))

    def show_document(self, document: object) -> None:
        """Print a JSON document."""
        sys.stdout.write(_format_json(document, indent=2) + "\n")

    def show_facts(self, facts: Iterable[tuple[str, str]], *, right: bool = False) -> None:
        """Print labels and values, one pair per line, without those that have no value."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold", justify="right" if right else "left")
        for label, value in facts:
            if value:
                table.add_row(Text(label), Text(replace_unprintable(value)))
        self._out.print(table)

    def show_text(self, text: str) -> None:
        """Print one line as the result."""
        self._out.print(Text(replace_unprintable(text)), soft_wrap=True)

    def show_messages(self, messages: Iterable[Message], *, columns: Sequence[str]) -> None:
        """Print resources as a table with the fields in `columns`, or as a JSON array with all fields."""
        if self.as_json:
            _write_array(messages)
        else:
            self._out.print(_build_table(messages, columns=columns))

    def show_rows(self, rows: Iterable[Sequence[str]], *, columns: Sequence[str]) -> None:
        """Print rows of text as a table, or as a JSON array of objects."""
        if self.as_json:
            self.show_document([dict(zip(columns, row, strict=True)) for row in rows])
            return
        table = _build_empty_table(columns)
        for row in rows:
            table.add_row(*(Text(replace_unprintable(value)) for value in row))
        self._out.print(table)


def to_document(message: Message) -> dict[str, Any]:
    """Return the JSON document of a message. It includes fields that are 0 or empty, but no absent ones."""
    document: dict[str, Any] = restore_integers(MessageToDict(message, always_print_fields_with_no_presence=True))
    return document


def _format_json(document: object, *, indent: int | None = None) -> str:
    """Return the text of a document, escaped to ASCII if the encoding of stdout is not UTF-8."""
    ascii_only = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    return escape_document(json.dumps(document, ensure_ascii=ascii_only, indent=indent))


def _write_array(messages: Iterable[Message]) -> None:
    separator = "["
    for message in messages:
        sys.stdout.write(f"{separator}\n{_format_json(to_document(message))}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def _build_table(messages: Iterable[Message], *, columns: Sequence[str]) -> Table:
    table = _build_empty_table(columns)
    for message in messages:
        table.add_row(*(Text(format_cell(message, column)) for column in columns))
    return table


def _build_empty_table(columns: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " ").upper(), overflow="fold")
    return table


def _build_details(message: Message) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if _is_table(field.is_repeated, value):
            columns = [inner.name for inner in value[0].DESCRIPTOR.fields]
            table.add_row(Text(_format_label(field.name)), _build_table(value, columns=columns))
        elif _is_resource(field, message):
            table.add_row(Text(_format_label(field.name)), _build_details(value))
        elif text := format_cell(message, field.name):
            table.add_row(Text(_format_label(field.name)), Text(text))
    return table


def _is_table(repeated: bool, value: Any) -> bool:
    if not repeated or isinstance(value, Mapping) or not len(value):
        return False
    return isinstance(value[0], Message) and not isinstance(value[0], Money)


def _is_resource(field: Any, message: Message) -> bool:
    """Return whether a field holds a resource, such as a created API key."""
    kind = field.message_type
    return kind is not None and not field.is_repeated and message.HasField(field.name) and "etag" in kind.fields_by_name


def _format_label(field: str) -> str:
    return field.replace("_", " ")
