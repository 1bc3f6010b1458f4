"""Streaming reader of CSV files: UTF-8, with an optional byte order mark, quoted as in RFC 4180.

A row that cannot be read becomes a `BadRow` with its line number and reason, and reading continues. Only problems of
the whole file, such as a missing header or an endless line, raise FileUnreadable.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

ABSENT = frozenset({"", "NULL"})
"""Texts of cells without a value."""

LINE_CHARS_MAX = 1_000_000
"""Maximum characters of a line, which bounds memory. A file with a longer line is not accepted as CSV."""


class FileUnreadable(Exception):
    """The file as a whole cannot be read as CSV."""


@dataclass(frozen=True)
class Row:
    """The cells of one row by column name, without those that are empty or NULL."""

    line: int
    """Number of its first line in the file, from 1."""
    cells: Mapping[str, str]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read."""

    line: int
    reason: str


class RowReader:
    """Iterates over the rows of a CSV file after its header."""

    def __init__(self, file: BinaryIO, *, delimiter: str = ",") -> None:
        """Read the header. The file must remain open as long as the reader is used.

        Raises: FileUnreadable.
        """
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._delimiter = delimiter
        self._reader = csv.reader(_read_bounded_lines(self._text), delimiter=delimiter, strict=True)
        self.header = self._read_header()

    def __iter__(self) -> Iterator[Row | BadRow]:
        while True:
            line = self._reader.line_num + 1
            try:
                values = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(line, f"not CSV: {error}")
                continue
            if values:
                yield self._to_row(line, values)

    def _read_header(self) -> Sequence[str]:
        try:
            header = [name.strip() for name in next(self._reader)]
        except StopIteration:
            raise FileUnreadable("the file is empty: it must have a header line") from None
        except csv.Error as error:
            raise FileUnreadable(f"line 1: not CSV: {error}") from None
        if _has_undecoded_bytes(header):
            raise FileUnreadable("line 1: the header is not UTF-8")
        if duplicates := {name for name in header if header.count(name) > 1}:
            raise FileUnreadable(f"line 1: the header names a column twice: {', '.join(sorted(duplicates))}")
        return header

    def _to_row(self, line: int, values: list[str]) -> Row | BadRow:
        if len(values) > len(self.header):
            values = _rejoin_cells(values, delimiter=self._delimiter)
        if len(values) != len(self.header):
            return BadRow(line, f"{len(values)} cells, but the header has {len(self.header)}")
        cells = dict(zip(self.header, (value.strip() for value in values), strict=True))
        if undecoded := [name for name, value in cells.items() if _has_undecoded_bytes([value])]:
            return BadRow(line, f"not UTF-8 in column {', '.join(undecoded)}")
        return Row(line, {name: value for name, value in cells.items() if value not in ABSENT})


def _rejoin_cells(values: list[str], *, delimiter: str) -> list[str]:
    """Join cells that begin with a space to the cell before: an unquoted comma split them, as in `24, place Kléber`.

    The caller accepts the result only if it has as many cells as the header.
    """
    joined: list[str] = []
    for value in values:
        if joined and value.startswith(" "):
            joined[-1] += delimiter + value
        else:
            joined.append(value)
    return joined


def _has_undecoded_bytes(values: Sequence[str]) -> bool:
    """Return whether a value has bytes that are not UTF-8, which the decoder turned into surrogates."""
    return any("\udc80" <= char <= "\udcff" for value in values for char in value)


def _read_bounded_lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(LINE_CHARS_MAX + 1):
        if len(line) > LINE_CHARS_MAX:
            raise FileUnreadable(f"a line has more than {LINE_CHARS_MAX:,} characters: this is not a CSV file")
        yield line
