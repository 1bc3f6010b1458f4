"""Records of CSV text, quoted as in RFC 4180, with recovery from broken quotes.

A record that cannot be read becomes a `BrokenRecord` of its first line alone, and reading goes on with the next line,
so that one unclosed quote does not hide the rows after it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

LINE_CHARS_MAX = 1_000_000
"""Maximum characters of a line, which bounds memory. A file with a longer line is not accepted as CSV."""
RECORD_LINES_MAX = 1000
RECORD_CHARS_MAX = 1_000_000
"""Maximum lines and characters of one record, which bound the search for a closing quote."""

_QUOTED = re.compile(r'([^"]*+(?:""[^"]*+)*+)"')
_SPLIT_QUOTES = re.compile('=?"+')


class FileUnreadable(Exception):
    """The file as a whole cannot be read as CSV."""


class _InvalidQuotes(Exception):
    """The quotes of a record do not follow RFC 4180."""


class Lines(Protocol):
    """A text file."""

    def readline(self, size: int = -1, /) -> str:
        """Return the next line with its end, or an empty string at the end of the file."""


@dataclass(frozen=True)
class Record:
    """The cells of one record.

    Attributes:
        line: number of its first line in the file, from 1.
        quoted: indexes of the cells that are in quotes.
        rest: its lines after the first.
    """

    line: int
    cells: Sequence[str]
    quoted: frozenset[int] = frozenset()
    rest: Sequence[str] = ()


@dataclass(frozen=True)
class BrokenRecord:
    """A line that cannot be read. `cells` are its parts between delimiters, whatever its quotes."""

    line: int
    reason: str
    cells: Sequence[str]


class RecordReader:
    """Iterates over the records of a text file. Blank lines are skipped."""

    def __init__(self, text: Lines, *, delimiter: str) -> None:
        self._text = text
        self._delimiter = delimiter
        self._pending: deque[str] = deque()
        self._line = 0

    def __iter__(self) -> Iterator[Record | BrokenRecord]:
        """Yield the records.

        Raises: FileUnreadable if a line is too long.
        """
        while line := self._next_line():
            if '"' not in line:
                body = line.rstrip("\r\n")
                if body:
                    yield Record(self._line, body.split(self._delimiter))
            else:
                yield self._read_quoted(line)

    def split_line(self, line: str) -> Sequence[str] | None:
        """Return the cells of a line that is a record by itself, or None if it is not."""
        try:
            cells, _, is_open = _Parser(self._delimiter).feed(line)
        except _InvalidQuotes:
            return None
        return None if is_open else cells

    def reread_rest(self, record: Record) -> None:
        """Read the lines of the last record again, except its first, as records of their own."""
        self._pending.extendleft(reversed(record.rest))
        self._line -= len(record.rest)

    def _read_quoted(self, first: str) -> Record | BrokenRecord:
        number, parser = self._line, _Parser(self._delimiter)
        rest: list[str] = []
        chars = len(first)
        line = first
        try:
            while True:
                cells, quoted, is_open = parser.feed(line)
                if not is_open:
                    return Record(number, cells, frozenset(quoted), rest)
                line = self._next_line()
                if not line:
                    raise _InvalidQuotes("a quote is not closed")
                rest.append(line)
                chars += len(line)
                if len(rest) >= RECORD_LINES_MAX or chars > RECORD_CHARS_MAX:
                    raise _InvalidQuotes(f"a quote is not closed within {RECORD_LINES_MAX:,} lines")
        except _InvalidQuotes as error:
            self.reread_rest(Record(number, (), rest=rest))
            cells = [_SPLIT_QUOTES.sub("", cell).strip() for cell in first.split(self._delimiter)]
            return BrokenRecord(number, f"not CSV: {error}", cells)

    def _next_line(self) -> str:
        line = self._pending.popleft() if self._pending else self._text.readline(LINE_CHARS_MAX + 1)
        if len(line) > LINE_CHARS_MAX:
            raise FileUnreadable(f"a line has more than {LINE_CHARS_MAX:,} characters: this is not a CSV file")
        self._line += bool(line)
        return line


class _Parser:
    """Parses one record line by line."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._cells: list[str] = []
        self._quoted: list[int] = []
        self._open: list[str] | None = None
        """Parts of the quoted cell that is not closed yet."""

    def feed(self, line: str) -> tuple[list[str], list[int], bool]:
        """Parse the next line. Return the cells, the indexes of quoted cells, and whether a quote is open.

        Raises: _InvalidQuotes.
        """
        body = line.rstrip("\r\n")
        position: int | None = 0
        while position is not None:
            if self._open is None and body.startswith('"', position):
                self._open = []
                position += 1
            if self._open is None:
                position = self._take_plain(body, position)
            else:
                match = _QUOTED.match(body, position)
                if match is None:
                    self._open.append(body[position:] + line[len(body) :])
                    return self._cells, self._quoted, True
                self._open.append(match[1])
                position = self._close_quote(body, match.end())
        return self._cells, self._quoted, False

    def _take_plain(self, body: str, position: int) -> int | None:
        """Take an unquoted cell. Return the position after its delimiter; None at the end of the line."""
        end = body.find(self._delimiter, position)
        self._cells.append(body[position:] if end < 0 else body[position:end])
        return None if end < 0 else end + 1

    def _close_quote(self, body: str, position: int) -> int | None:
        """End the quoted cell. Return the position after its delimiter; None at the end of the line."""
        if position < len(body) and body[position] != self._delimiter:
            raise _InvalidQuotes(f"text after a closing quote: {body[position : position + 20]!r}")
        self._quoted.append(len(self._cells))
        self._cells.append("".join(self._open or ()).replace('""', '"'))
        self._open = None
        return None if position >= len(body) else position + 1
