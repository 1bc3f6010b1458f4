"""The rule by which a table fits the width of a terminal: columns are shortened, then left out from the right.

Numbers, SKUs, names, states and times are never cut, because people copy or compare them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

WHOLE_COLUMNS = frozenset(
    {"number", "sku", "name", "state", "order", "sequence", "line", "total", "available", "service", "status"}
)
"""Columns that are never shortened or broken into several lines, as are all that end in `_time`."""
FOLDED_COLUMNS = frozenset({"changes", "content"})
"""Columns of prose, which continue on the next line."""
SHORT_CHARS = 12
"""Width in characters to which other columns may be shortened."""
WIDE_GAP, NARROW_GAP = 3, 2
"""Spaces between columns, in a table that fits and in one that does not."""
ELLIPSIS = "…"


@dataclass(frozen=True)
class Layout:
    """The columns of a table that are shown.

    Attributes:
        widths: column -> width in characters, in their order.
        is_narrow: whether the gaps between them are narrow.
        left_out: the columns without room.
    """

    widths: Mapping[str, int]
    is_narrow: bool = False
    left_out: tuple[str, ...] = ()


def fit_columns(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, keeps_all: bool = False
) -> Layout:
    """Return the layout of a table in `width` characters.

    Args:
        keeps_all: do not leave columns out, even if the table is then too wide.
    """
    contents = {column: _measure(row[index] for row in rows) for index, column in enumerate(columns)}
    natural = {column: max(contents[column], cell_len(column)) for column in columns}
    if sum(natural.values()) + WIDE_GAP * (len(columns) - 1) <= width:
        return Layout(natural)
    least = {column: _compute_least(column, contents[column]) for column in columns}
    shown = list(columns)
    while not keeps_all and len(shown) > 1 and _add_up(least, shown) > width:
        shown.pop()
    spare = max(0, width - _add_up(least, shown))
    widths = dict[str, int]()
    for column in shown:
        widths[column] = min(natural[column], least[column] + spare)
        spare -= widths[column] - least[column]
    return Layout(widths, is_narrow=True, left_out=tuple(columns[len(shown) :]))


def shorten(text: str, width: int, *, column: str) -> str:
    """Return text of at most `width` characters in each line. The end of a resource name is shown, as it tells most."""
    if column in FOLDED_COLUMNS:
        return text
    return "\n".join(_shorten_line(line, width) for line in text.split("\n"))


def _shorten_line(line: str, width: int) -> str:
    if cell_len(line) <= width:
        return line
    if "/" in line and " " not in line:
        while cell_len(line) >= width:
            line = line[1:]
        return ELLIPSIS + line
    while cell_len(line) >= width:
        line = line[:-1]
    return line + ELLIPSIS


def _compute_least(column: str, content: int) -> int:
    """Return the width to which a column may shrink. Its title may take several lines, one per word."""
    title = _measure(column.split("_"))
    is_whole = column in WHOLE_COLUMNS or column.endswith("_time")
    return max(title, content if is_whole else min(content, SHORT_CHARS))


def _add_up(widths: Mapping[str, int], columns: Sequence[str]) -> int:
    return sum(widths[column] for column in columns) + NARROW_GAP * (len(columns) - 1)


def _measure(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)
