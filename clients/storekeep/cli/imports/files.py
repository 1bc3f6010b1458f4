"""Files of imports: opened by name, or stdin; how large they are; what separates their cells."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

File = Annotated[str, typer.Argument(metavar="FILE.csv", help="UTF-8, with a header line; - for stdin.")]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="TARGET=HEADER", help="Fill a target from a column. Repeat."),
]
Constant = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TARGET=VALUE", help="Fill a target where the row does not. Repeat."),
]
Delimiter = Annotated[str, typer.Option("--delimiter", help="What separates the cells.")]
ReallyDoIt = Annotated[bool, typer.Option("--yes", help="Really import; without it, this is a dry run.")]


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a file to read its bytes; `-` is stdin.

    Raises: typer.BadParameter.
    """
    if file == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            binary = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise typer.BadParameter(f"Cannot read {file}: {error.strerror}") from None
        yield binary


def size_of(binary: BinaryIO) -> int | None:
    """Return the bytes of a file; None for what has no size, such as a pipe."""
    return os.fstat(binary.fileno()).st_size if binary.seekable() else None


def place_in(binary: BinaryIO) -> int:
    """Return how many bytes of a file have been read; 0 for what cannot say so."""
    return binary.tell() if binary.seekable() else 0


def one_character(delimiter: str) -> str:
    """Return the delimiter, which may be given by its name.

    Raises: typer.BadParameter.
    """
    known = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if len(known) != 1:
        raise typer.BadParameter(f"The delimiter is one character, or tab; not {delimiter!r}.")
    return known
