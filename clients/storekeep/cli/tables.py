"""Tables of results, made with rich. `screens` loads this module only when it prints one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from storekeep.cli.cells import PPM_SUFFIX, format_any, format_cell, format_path, format_percent
from storekeep.cli.exits import OutputClosed
from storekeep.cli.texts import replace_unprintable
from storekeep.cli.widths import NARROW_GAP, WHOLE_COLUMNS, WIDE_GAP, break_cell, fit_columns, shorten
from storekeep.client import Money

PIPE_WIDTH = 10_000
"""Width in characters when stdout is not a terminal, large enough that no column is cut."""


class Output(Console):
    """The console of stdout. It raises OutputClosed on a broken pipe, where rich would exit."""

    def __init__(self) -> None:
        super().__init__(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)

    def print_table(self, table: Table) -> None:
        """Print a table. In a pipe, its lines do not end with the spaces that fill its last column."""
        if self.is_terminal:
            self.print(table, crop=False)
            return
        with self.capture() as capture:
            self.print(table, crop=False)
        lines = (line.rstrip(" ") for line in capture.get().split("\n"))
        self.out("\n".join(lines), end="")

    def on_broken_pipe(self) -> None:
        """Report the broken pipe."""
        raise OutputClosed


def build_row_table(
    rows: Iterable[Sequence[str]], columns: Sequence[str], *, width: int, keeps_all: bool = False
) -> tuple[Table, tuple[str, ...]]:
    """Return a table of rows of text in `width` characters, and the columns that it leaves out.

    Args:
        keeps_all: leave no column out.
    """
    cells = [[replace_unprintable(value) for value in row] for row in rows]
    layout = fit_columns(columns, cells, width=width, keeps_all=keeps_all)
    if layout.is_narrow:
        cells = [
            [break_cell(value, column=column) for value, column in zip(row, columns, strict=True)] for row in cells
        ]
        layout = fit_columns(columns, cells, width=width, keeps_all=keeps_all)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0 if layout.is_narrow else 1))
    needed = sum(layout.widths.values()) + (NARROW_GAP if layout.is_narrow else WIDE_GAP) * (len(layout.widths) - 1)
    if needed > width:
        table.width = needed  # the terminal breaks the lines, so that no number is broken in its column
    for column, chars in layout.widths.items():
        table.add_column(column.replace("_", " ").upper(), overflow="fold", width=chars)
    for row in cells:
        values = dict(zip(columns, row, strict=True))
        table.add_row(*(Text(shorten(values[name], chars, column=name)) for name, chars in layout.widths.items()))
    return table, layout.left_out


def build_details(message: Message, columns: Sequence[str] = (), *, width: int) -> Table:
    """Return the fields of a message that have a value, one per line, in `width` characters.

    Args:
        columns: the fields, which may be nested (default: all).
    """
    if not columns:
        return _build_all_details(message, width=width)
    table = _build_label_table()
    for column in columns:
        table.add_row(Text(column.replace("_", " ")), Text(format_path(message, column)))
    return table


def build_fact_table(facts: Iterable[tuple[str, str]]) -> Table:
    """Return labels and values, one pair per line, without those that have no value."""
    table = _build_label_table()
    for label, value in facts:
        if value:
            table.add_row(Text(label), Text(replace_unprintable(value)))
    return table


def _build_all_details(message: Message, *, width: int) -> Table:
    table = _build_label_table()
    value_width = width - max(len(field.name) for field in message.DESCRIPTOR.fields) - 1
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        label = Text(field.name.replace("_", " "))
        if _is_table(field.is_repeated, value):
            table.add_row(label, _build_inner_table(value))
        elif isinstance(value, AnyMessage):
            if message.HasField(field.name):
                table.add_row(label, Text(format_any(value, indent=2)))
        elif _is_resource(field, message):
            table.add_row(label, _build_all_details(value, width=value_width))
        elif text := format_cell(message, field.name):
            fits = cell_len(text) <= value_width
            table.add_row(label, Text(text if fits else break_cell(text, column=field.name)))
    return table


def _build_inner_table(messages: Sequence[Message]) -> Table:
    """Return a table of all fields of repeated messages. It breaks long values into several lines."""
    columns = [field.name for field in messages[0].DESCRIPTOR.fields]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        label = column.removesuffix(PPM_SUFFIX).replace("_", " ").upper()
        table.add_column(label, overflow="fold", no_wrap=column in WHOLE_COLUMNS)
    for message in messages:
        table.add_row(*(Text(replace_unprintable(_format_inner(message, column))) for column in columns))
    return table


def _format_inner(message: Message, column: str) -> str:
    return format_percent(getattr(message, column)) if column.endswith(PPM_SUFFIX) else format_cell(message, column)


def _build_label_table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _is_table(repeated: bool, value: Any) -> bool:
    if not repeated or isinstance(value, Mapping) or not len(value):
        return False
    return isinstance(value[0], Message) and not isinstance(value[0], Money)


def _is_resource(field: Any, message: Message) -> bool:
    """Return whether a field holds a resource, such as a created API key."""
    kind = field.message_type
    return kind is not None and not field.is_repeated and message.HasField(field.name) and "etag" in kind.fields_by_name
