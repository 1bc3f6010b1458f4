"""Input files of imports and the options for them."""

from __future__ import annotations

import os
import sys
import zoneinfo
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from storekeep.cli.files import describe_os_error
from storekeep.imports.rows import ABSENT, Layout, check_encoding
from storekeep.imports.spellings import Spelling, check_date_format

File = Annotated[str, typer.Argument(metavar="FILE.csv", help="CSV file with a header line; - reads stdin.")]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="TARGET=HEADER", help="Map a column to a target. May be repeated."),
]
Constant = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TARGET=VALUE", help="Value of a target for rows without one. May be repeated."),
]
Delimiter = Annotated[
    str,
    typer.Option(
        "--delimiter",
        help="Delimiter of the cells: a character or `tab`.",
        show_default="comma, or what a first line such as sep=; states",
    ),
]
Encoding = Annotated[
    str,
    typer.Option(
        "--encoding", help="Encoding, such as cp1252.", show_default="UTF-8, or what a byte order mark states"
    ),
]
Null = Annotated[
    list[str] | None,
    typer.Option(
        "--null",
        metavar="TEXT",
        help="Text of an unquoted cell without a value; empty for no such text. May be repeated.",
        show_default="NULL",
    ),
]
DecimalComma = Annotated[
    bool, typer.Option("--decimal-comma", help="Decimals are after a comma: 1.234,50 is one thousand and more.")
]
DateFormat = Annotated[
    list[str] | None,
    typer.Option(
        "--date-format",
        metavar="FORMAT",
        help="Format of dates, such as %d.%m.%Y or %m/%d/%Y %H:%M. May be repeated.",
        show_default="ISO 8601",
    ),
]
SkuMapFile = Annotated[
    Path | None,
    typer.Option(
        "--sku-map", metavar="FILE.csv", help="Make SKUs for texts that are none, and keep the pairs in this file."
    ),
]
ConfirmImport = Annotated[bool, typer.Option("--yes", help="Apply the import (default: dry run).")]


@contextmanager
def open_file(file: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes; `-` is stdin.

    Raises: typer.BadParameter.
    """
    if file == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            binary = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise typer.BadParameter(f"cannot read {file}: {describe_os_error(error)}") from None
        yield binary


def get_size(binary: BinaryIO) -> int | None:
    """Return the size of a file in bytes; None if it has none, such as a pipe."""
    return os.fstat(binary.fileno()).st_size if binary.seekable() else None


def get_offset(binary: BinaryIO) -> int:
    """Return the bytes read from a file so far; 0 if it has no offset, such as a pipe."""
    return binary.tell() if binary.seekable() else 0


def parse_layout(*, delimiter: str, encoding: str, null: Sequence[str] | None) -> Layout:
    """Return how a file is written.

    Raises: typer.BadParameter.
    """
    character = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if len(character) > 1 or character in ('"', "\r", "\n"):
        raise typer.BadParameter(f"the delimiter must be one character or tab, not {delimiter!r}")
    try:
        known = check_encoding(encoding) if encoding else ""
    except LookupError:
        raise typer.BadParameter(f"{encoding!r} is not an encoding such as cp1252 or utf-16-le") from None
    return Layout(character, known, ABSENT if null is None else frozenset(filter(None, null)))


def parse_spelling(*, decimal_comma: bool, date_formats: Sequence[str], time_zone: str) -> Spelling:
    """Return how numbers and dates are written.

    Raises: typer.BadParameter.
    """
    for date_format in date_formats:
        try:
            check_date_format(date_format)
        except ValueError as error:
            raise typer.BadParameter(f"{error}; a format is such as %d.%m.%Y") from None
    return Spelling(decimal_comma, tuple(date_formats), parse_time_zone(time_zone))


def parse_time_zone(name: str) -> tzinfo:
    """Return a time zone. UTC needs no database of time zones.

    Raises: typer.BadParameter.
    """
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(f"{name!r} is not a time zone such as Europe/London") from None
