"""Output of commands, as tables or as one JSON document.

Results go to stdout; notices, progress and errors go to stderr, so that a pipe receives only results. JSON uses the
proto3 mapping (lowerCamelCase, 64-bit integers as strings). A list is one array, written as its items arrive.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from storekeep.cli.cells import restore_integers
from storekeep.cli.texts import escape_document, replace_unprintable

if TYPE_CHECKING:
    from rich.table import Table

    from storekeep.cli.tables import Output


class Screen:
    """Prints results as tables or as JSON. An empty line separates the parts of a result."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._is_empty = True
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without ü shows ?

    @cached_property
    def _out(self) -> Output:
        from storekeep.cli.tables import Output

        return Output()

    def show_notice(self, text: str) -> None:
        """Print a line to stderr that is not a result."""
        sys.stderr.write(f"{replace_unprintable(text)}\n")

    def show_message(self, message: Message) -> None:
        """Print one resource with all its fields."""
        if self.as_json:
            self.show_document(to_document(message))
            return
        from storekeep.cli.tables import build_details

        self._print(build_details(message))

    def show_document(self, document: object) -> None:
        """Print a JSON document."""
        sys.stdout.write(_format_json(document, indent=2) + "\n")

    def show_facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Print labels and values, one pair per line, without those that have no value."""
        from storekeep.cli.tables import build_fact_table

        self._print(build_fact_table(facts))

    def show_messages(self, messages: Iterable[Message], *, columns: Sequence[str]) -> None:
        """Print resources as a table with the fields in `columns`, or as a JSON array with all fields."""
        if self.as_json:
            _write_array(messages)
            return
        from storekeep.cli.tables import build_message_table

        self._print(build_message_table(messages, columns=columns))

    def show_rows(self, rows: Iterable[Sequence[str]], *, columns: Sequence[str]) -> None:
        """Print rows of text as a table, or as a JSON array of objects."""
        if self.as_json:
            self.show_document([dict(zip(columns, row, strict=True)) for row in rows])
            return
        from storekeep.cli.tables import build_row_table

        self._print(build_row_table(rows, columns))

    def _print(self, table: Table) -> None:
        if not self._is_empty:
            self._out.print()
        self._is_empty = False
        self._out.print(table)


def to_document(message: Message) -> dict[str, Any]:
    """Return the JSON document of a message. It includes fields that are 0 or empty, but no absent ones."""
    from google.protobuf.json_format import MessageToDict

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
