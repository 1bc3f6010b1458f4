"""Input files of imports and the options for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from storekeep.cli.files import describe_os_error

File = Annotated[str, typer.Argument(metavar="FILE.csv", help="CSV file in UTF-8 with a header line; - reads stdin.")]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="TARGET=HEADER", help="Map a column to a target. May be repeated."),
]
Constant = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TARGET=VALUE", help="Value of a target for rows without one. May be repeated."),
]
Delimiter = Annotated[str, typer.Option("--delimiter", help="Delimiter of the cells: a character or `tab`.")]
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


def parse_delimiter(delimiter: str) -> str:
    """Return the delimiter character; `tab` stands for a tab.

    Raises: typer.BadParameter.
    """
    character = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if len(character) != 1:
        raise typer.BadParameter(f"the delimiter must be one character or tab, not {delimiter!r}")
    return character
