"""Streaming reader of the rows of a CSV file, whatever its encoding, delimiter and lines above the header.

Nothing is guessed: a byte order mark states a Unicode encoding, options state the rest. A row that cannot be read
becomes a `BadRow` with its line number and reason, and reading continues. Only problems of the whole file, such as a
missing header or an endless line, raise FileUnreadable.
"""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from storekeep.imports.records import LINE_CHARS_MAX, BrokenRecord, FileUnreadable, Record, RecordReader
from storekeep.imports.reports import unescape_formula

ABSENT = frozenset({"NULL"})
"""Texts of unquoted cells that have no value by default. An empty cell never has one."""
HEADER_RECORDS_MAX = 50
"""Maximum records up to the header: lines with a title or a date may be above it."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and the encodings that they state. UTF-32 is first, because its mark begins like that of UTF-16."""
ARCHIVES = (
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (b"PK\x03\x04", "it is a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV UTF-8"),
    (b"PK\x05\x06", "it is an empty ZIP archive"),
    (b"PK\x07\x08", "it is a part of a ZIP archive: join the parts and unpack it first"),
    (b"\xd0\xcf\x11\xe0", "it is an Excel workbook: save the sheet as CSV UTF-8"),
    (b"BZh", "it is compressed with bzip2: unpack it first"),
    (b"\xfd7zX", "it is compressed with xz: unpack it first"),
    (b"\x5d\0\0", "it is compressed with LZMA: unpack it first"),
    (b"\x1f\x9d", "it is compressed with compress (.Z): unpack it first"),
    (b"7z\xbc\xaf", "it is a 7z archive: unpack it first"),
    (b"Rar!", "it is a RAR archive: unpack it first"),
    (b"%PDF", "it is a PDF document: export the table as CSV UTF-8"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with Zstandard: unpack it first"),
)
"""First bytes of files that people take for CSV files, and what to do about them."""
_UNDECODED = "\udc80"
_TEXT_FORMULA = re.compile(r'="((?:[^"]|"")*)"')


@dataclass(frozen=True)
class Layout:
    """How a file is written.

    Attributes:
        delimiter: delimiter of the cells; empty for a comma, or what a first line such as `sep=;` states.
        encoding: name of the encoding; empty for UTF-8, or what a byte order mark states.
        absent: texts of unquoted cells that have no value.
    """

    delimiter: str = ""
    encoding: str = ""
    absent: frozenset[str] = ABSENT


@dataclass(frozen=True)
class Row:
    """The cells of one row by column name, without those that have no value."""

    line: int
    """Number of its first line in the file, from 1."""
    cells: Mapping[str, str]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
        cells: its texts between delimiters, which may not be under their columns.
        extra: number of cells too many; negative for cells too few, None if the quotes are broken.
        key: number of its order, if it is known; then the other attributes do not matter.
    """

    line: int
    reason: str
    cells: Sequence[str] = ()
    extra: int | None = 0
    key: str = ""

    def list_candidates(self, index: int) -> list[str]:
        """Return the texts that may belong to the column `index`, allowing for cells that were split or are missing."""
        if self.extra is None:
            return [cell for cell in self.cells if cell]
        low, high = sorted((index, index + self.extra))
        near = [cell for cell in self.cells[max(low, 0) : high + 1] if cell]
        parts = self.cells[index : high + 1]
        joined = [",".join(parts[:count]) for count in range(2, len(parts) + 1)] if self.extra > 0 else []
        return [*near, *joined]

    def has_cell(self, index: int) -> bool:
        """Return whether the text of the column `index` is surely one of its candidates."""
        return self.extra is not None and self.extra >= 0 and all(self.cells[index : index + self.extra + 1])


@dataclass(frozen=True)
class SkippedRow:
    """A row of a known format that has no resource of its own, such as one with an image only."""

    line: int


AnyRow = Row | BadRow | SkippedRow


class RowReader:
    """Iterates over the rows of a CSV file after its header.

    Attributes:
        header: names of the columns; empty for a column without a name.
        header_line: number of the line of the header, from 1.
    """

    def __init__(self, file: BinaryIO, *, layout: Layout | None = None, needed: Collection[str] = ()) -> None:
        """Read the header: the first record that has all columns in `needed`, else the first record.

        The file must remain open as long as the reader is used.

        Raises: FileUnreadable.
        """
        self._layout = layout or Layout()
        self._encoding, text = _open_text(file, encoding=self._layout.encoding)
        first = text.readline(LINE_CHARS_MAX + 1)
        stated = first[4:].strip("\r\n") if first.lower().startswith("sep=") else ""
        skipped = len(stated) == 1 or stated == "\t"
        self.delimiter = self._layout.delimiter or (stated if skipped else ",")
        lines = text if skipped else _PrefixedLines(first, text)
        self._records = RecordReader(lines, delimiter=self.delimiter)
        self._lines_skipped = int(skipped)
        self._source = iter(self._records)
        self.header_line, self.header = self._read_header(frozenset(needed))
        self._names = [(index, name) for index, name in enumerate(self.header) if name]

    @property
    def repeated_columns(self) -> frozenset[str]:
        """Names that several columns have."""
        return frozenset(name for name, count in Counter(self.header).items() if name and count > 1)

    def __iter__(self) -> Iterator[Row | BadRow]:
        for record in self._source:
            line = record.line + self._lines_skipped
            if isinstance(record, BrokenRecord):
                yield BadRow(line, record.reason, record.cells, None)
            elif any(cell.strip() for cell in record.cells):
                yield self._to_row(line, record)

    def _read_header(self, needed: frozenset[str]) -> tuple[int, Sequence[str]]:
        first: tuple[int, Sequence[str]] | None = None
        broken: BrokenRecord | None = None
        for number, record in enumerate(self._source, start=1):
            if isinstance(record, BrokenRecord):
                broken = broken or record
            elif header := [_read_cell(name) for name in record.cells]:
                found = record.line + self._lines_skipped, header
                if needed.issubset(header):
                    return self._check_header(*found)
                first = first or (found if any(header) else None)
            if number == HEADER_RECORDS_MAX:
                break
        if first is not None:
            return self._check_header(*first)
        if broken is not None:
            raise FileUnreadable(f"line {broken.line + self._lines_skipped}: {broken.reason}")
        raise FileUnreadable("the file is empty: it must have a header line")

    def _check_header(self, line: int, header: Sequence[str]) -> tuple[int, Sequence[str]]:
        if _has_undecoded_bytes(header):
            raise FileUnreadable(f"line {line}: the header is not {self._encoding_hint}")
        return line, header

    def _to_row(self, line: int, record: Record) -> Row | BadRow:
        cells, width = record.cells, len(self.header)
        quoted = record.quoted
        if len(cells) > width:
            cells, quoted = _rejoin_cells(cells, delimiter=self.delimiter), frozenset()
        if len(cells) != width:
            cells = self._drop_nameless(record.cells)
        if len(cells) != width:
            if record.rest and all(self._is_row(text) for text in record.rest):
                self._records.reread_rest(record)
                first_cells = [cell.strip(' "\r\n') for cell in record.cells[0].splitlines()[:1]]
                return BadRow(
                    line, "not CSV: a quote is not closed", [*map(_read_cell, record.cells), *first_cells], None
                )
            reason = f"{len(record.cells)} cells, but the header has {width}"
            return BadRow(line, reason, [_read_cell(cell) for cell in record.cells], len(record.cells) - width)
        values = [(name, _read_cell(cells[index]), index in quoted) for index, name in self._names]
        if undecoded := [name for name, value, _ in values if _has_undecoded_bytes([value])]:
            reason = f"in column {', '.join(undecoded)}: not {self._encoding_hint}"
            return BadRow(line, reason, [_read_cell(cell) for cell in cells])
        absent = self._layout.absent
        return Row(line, {name: value for name, value, plain in values if value and (plain or value not in absent)})

    def _drop_nameless(self, cells: Sequence[str]) -> Sequence[str]:
        """Return the cells with those of nameless last columns added or removed, as spreadsheets omit them."""
        named = self._names[-1][0] + 1 if self._names else 0
        if named <= len(cells) < len(self.header):
            return [*cells, *[""] * (len(self.header) - len(cells))]
        return cells

    def _is_row(self, text: str) -> bool:
        cells = self._records.split_line(text)
        return cells is not None and len(cells) == len(self.header)

    @property
    def _encoding_hint(self) -> str:
        hint = "" if self._layout.encoding else "; if the file has another encoding, state it: --encoding cp1252"
        return f"{self._encoding.upper().removesuffix('-SIG')}{hint}"


class _PrefixedLines:
    """A text file whose first line was read before."""

    def __init__(self, prefix: str, text: io.TextIOWrapper) -> None:
        self._prefix = prefix
        self._text = text

    def readline(self, size: int = -1, /) -> str:
        """Return the next line with its end, or an empty string at the end of the file."""
        prefix, self._prefix = self._prefix, ""
        return prefix or self._text.readline(size)


def _read_cell(text: str) -> str:
    """Return the value of a cell, which may be a formula of a text, such as `="00123"`, or escaped as in a report."""
    cell = text.strip()
    formula = _TEXT_FORMULA.fullmatch(cell)
    return formula[1].replace('""', '"').strip() if formula else unescape_formula(cell)


def check_encoding(encoding: str) -> str:
    """Return the name of an encoding.

    Raises: LookupError if there is no such encoding of text.
    """
    codecs.lookup(encoding)
    "".encode(encoding)
    return encoding


def _open_text(file: BinaryIO, *, encoding: str) -> tuple[str, io.TextIOWrapper]:
    """Return the encoding and the text of a file. Undecodable bytes become lone surrogates.

    Raises: FileUnreadable.
    """
    binary = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
    start = binary.peek(4)[:4]
    for mark, problem in ARCHIVES:
        if start.startswith(mark):
            raise FileUnreadable(problem)
    stated = next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), "")
    if not stated and not encoding and b"\0" in start:
        raise FileUnreadable("it has zero bytes: if it is UTF-16 without a byte order mark, add --encoding utf-16-le")
    if stated and encoding and not _is_same_family(stated, encoding):
        raise FileUnreadable(f"its byte order mark states {stated.removesuffix('-sig')}, not {encoding}")
    chosen = stated or encoding or "utf-8"
    return chosen, io.TextIOWrapper(binary, encoding=chosen, errors="storekeep.mark", newline="")


def _is_same_family(stated: str, encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(stated.removesuffix("-sig"))


def _mark_undecoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _UNDECODED, error.end


codecs.register_error("storekeep.mark", _mark_undecoded)


def _rejoin_cells(values: Sequence[str], *, delimiter: str) -> list[str]:
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
    """Return whether a value has bytes that are not of the encoding."""
    return any(_UNDECODED in value for value in values)
