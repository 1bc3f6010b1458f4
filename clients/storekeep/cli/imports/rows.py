"""Rows: a CSV file, read as a stream: UTF-8, quoted as in RFC 4180; a line may begin with a byte order mark.

A row that cannot be read is one `BadRow` with its line number and reason; the rows after it are read all the same.
Only what concerns the whole file (no header, an endless line) is raised.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

ABSENT = frozenset({"", "NULL"})
"""Cells that hold no value."""

LINE_CHARS_MAX = 1_000_000
"""A longer line is taken for a file that is not CSV: it would have to be held in memory."""


class FileUnreadable(Exception):
    """The file as a whole cannot be read as CSV."""


@dataclass(frozen=True)
class Row:
    """One row, by the header's names. Cells that are empty or NULL are not there."""

    line: int
    """The line of the file on which it begins, from 1."""
    cells: Mapping[str, str]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be imported."""

    line: int
    reason: str


class RowReader:
    """The rows of a CSV file, after its header."""

    def __init__(self, file: BinaryIO, *, delimiter: str = ",") -> None:
        """Read the header. The file is open for as long as the reader lives.

        Raises: FileUnreadable.
        """
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._delimiter = delimiter
        self._reader = csv.reader(_bounded_lines(self._text), delimiter=delimiter, strict=True)
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
                yield self._row(line, values)

    def _read_header(self) -> Sequence[str]:
        try:
            header = [name.strip() for name in next(self._reader)]
        except StopIteration:
            raise FileUnreadable("the file is empty: it needs a header line") from None
        except csv.Error as error:
            raise FileUnreadable(f"line 1: not CSV: {error}") from None
        if _undecoded(header):
            raise FileUnreadable("line 1: the header is not UTF-8")
        if twice := {name for name in header if header.count(name) > 1}:
            raise FileUnreadable(f"line 1: the header names a column twice: {', '.join(sorted(twice))}")
        return header

    def _row(self, line: int, values: list[str]) -> Row | BadRow:
        if len(values) > len(self.header):
            values = _rejoined(values, delimiter=self._delimiter)
        if len(values) != len(self.header):
            return BadRow(line, f"{len(values)} cells where the header has {len(self.header)}")
        cells = dict(zip(self.header, (value.strip() for value in values), strict=True))
        if wrong := [name for name, value in cells.items() if _undecoded([value])]:
            return BadRow(line, f"not UTF-8 in column {', '.join(wrong)}")
        return Row(line, {name: value for name, value in cells.items() if value not in ABSENT})


def _rejoined(values: list[str], *, delimiter: str) -> list[str]:
    """Put cells together again that an unquoted comma has cut, as in `24, place Kléber`: they begin with a space.

    Only a row that then has as many cells as the header is taken; any other is as wrong as before.
    """
    joined: list[str] = []
    for value in values:
        if joined and value.startswith(" "):
            joined[-1] += delimiter + value
        else:
            joined.append(value)
    return joined


def _undecoded(values: Sequence[str]) -> bool:
    """Say whether bytes were left that are not UTF-8: the decoder hides them in surrogates."""
    return any("\udc80" <= char <= "\udcff" for value in values for char in value)


def _bounded_lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(LINE_CHARS_MAX + 1):
        if len(line) > LINE_CHARS_MAX:
            raise FileUnreadable(f"a line has more than {LINE_CHARS_MAX:,} characters: this is no CSV file")
        yield line
