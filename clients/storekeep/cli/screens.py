"""Screens: what a command shows: tables for people, one JSON document for programs. Results go to stdout,
remarks, progress and errors to stderr, so that a pipe gets results only.

JSON is proto3's own mapping (lowerCamelCase, 64-bit integers as strings). A list is one array, written as its
items arrive.
"""  # noqa: D205

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

from storekeep.cli.cells import cell, escaped, printable, whole_numbers
from storekeep.client import Money

PIPE_WIDTH = 10_000
"""Where stdout is no terminal, no column is cut to fit one."""


class OutputClosed(Exception):
    """Whoever read stdout has stopped reading. Not an OSError, which typer would end the run for in its own way."""


class _Output(Console):
    """A console that says when nobody reads it, where rich would exit."""

    def on_broken_pipe(self) -> None:
        raise OutputClosed


class Screen:
    """Shows results the way the caller wants them."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that has no ü shows ?, and the run goes on
        self._out = _Output(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
        self.err = Console(stderr=True, highlight=False)

    def remark(self, text: str) -> None:
        """Say something that is not a result, on stderr."""
        self.err.print(Text(printable(text)), soft_wrap=True)

    def show_message(self, message: Message) -> None:
        """Show one resource, with all its fields."""
        if self.as_json:
            self.show_document(as_document(message))
        else:
            self._out.print(_details(message))

    def show_document(self, document: object) -> None:
        """Show one JSON document, as it is."""
        sys.stdout.write(_json(document, indent=2) + "\n")

    def show_facts(self, facts: Iterable[tuple[str, str]], *, right: bool = False) -> None:
        """Show what there is of labels and values, one a line; those without a value are left out."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold", justify="right" if right else "left")
        for label, value in facts:
            if value:
                table.add_row(Text(label), Text(printable(value)))
        self._out.print(table)

    def show_text(self, text: str) -> None:
        """Show a line that is the result."""
        self._out.print(Text(printable(text)), soft_wrap=True)

    def show_messages(self, messages: Iterable[Message], *, columns: Sequence[str]) -> None:
        """Show resources: as a table with the fields in `columns`, or as one JSON array with all fields."""
        if self.as_json:
            _write_array(messages)
        else:
            self._out.print(_table(messages, columns=columns))

    def show_rows(self, rows: Iterable[Sequence[str]], *, columns: Sequence[str]) -> None:
        """Show rows of text as a table, or as one JSON array of objects."""
        if self.as_json:
            self.show_document([dict(zip(columns, row, strict=True)) for row in rows])
            return
        table = _empty_table(columns)
        for row in rows:
            table.add_row(*(Text(printable(value)) for value in row))
        self._out.print(table)


def as_document(message: Message) -> dict[str, Any]:
    """Return a message as its JSON document: fields that are 0 or empty are there, absent ones are not."""
    document: dict[str, Any] = whole_numbers(MessageToDict(message, always_print_fields_with_no_presence=True))
    return document


def _json(document: object, *, indent: int | None = None) -> str:
    """Return the text of a document; where stdout cannot take every character, ASCII that says the same."""
    ascii_only = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    return escaped(json.dumps(document, ensure_ascii=ascii_only, indent=indent))


def _write_array(messages: Iterable[Message]) -> None:
    separator = "["
    for message in messages:
        sys.stdout.write(f"{separator}\n{_json(as_document(message))}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def _table(messages: Iterable[Message], *, columns: Sequence[str]) -> Table:
    table = _empty_table(columns)
    for message in messages:
        table.add_row(*(Text(cell(message, column)) for column in columns))
    return table


def _empty_table(columns: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " ").upper(), overflow="fold")
    return table


def _details(message: Message) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if _is_table(field.is_repeated, value):
            columns = [inner.name for inner in value[0].DESCRIPTOR.fields]
            table.add_row(Text(_label(field.name)), _table(value, columns=columns))
        elif _is_resource(field, message):
            table.add_row(Text(_label(field.name)), _details(value))
        elif text := cell(message, field.name):
            table.add_row(Text(_label(field.name)), Text(text))
    return table


def _is_table(repeated: bool, value: Any) -> bool:
    if not repeated or isinstance(value, Mapping) or not len(value):
        return False
    return isinstance(value[0], Message) and not isinstance(value[0], Money)


def _is_resource(field: Any, message: Message) -> bool:
    """Say whether a field holds one resource with a name of its own, such as the key that was made."""
    kind = field.message_type
    return kind is not None and not field.is_repeated and message.HasField(field.name) and "etag" in kind.fields_by_name


def _label(field: str) -> str:
    return field.replace("_", " ")
