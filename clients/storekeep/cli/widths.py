"""The rule by which a table fits the width of a terminal: columns are shortened, then left out.

Numbers, amounts, SKUs, names, states and times are never cut, because people copy or compare them. Empty columns are
left out before others are shortened, and then those to the right that are not among KEPT_COLUMNS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from storekeep.cli.texts import ELLIPSIS

WHOLE_COLUMNS = frozenset(
    {
        *{"number", "sku", "name", "state", "order", "sequence", "line", "service", "status"},
        *{"total", "discount", "price", "prices", "unit_price", "available", "roles"},
        *{"lines", "shipped", "delivered", "tracking", "tracking_number", "code"},
    }
)
"""Columns that are never shortened, as are all that end in `_time`."""
KEPT_COLUMNS = frozenset({"number", "sku", "name", "state", "total", "discount", "available", "roles", "last_problem"})
"""Columns that are left out last: what a resource is called, and what a table is mostly read for."""
LIST_COLUMNS = frozenset({"prices", "roles"})
"""Columns of several values, which get a line each in a table that is too wide otherwise."""
LIST_SEPARATOR = ", "
FOLDED_COLUMNS = frozenset({"changes", "content", "last_problem"})
"""Columns of prose, which continue on the next line."""
FOLDED_CHARS = 24
"""Width in characters to which columns of prose may be shortened."""
SHORT_CHARS = 12
"""Width in characters to which other columns may be shortened."""
WIDE_GAP, NARROW_GAP = 3, 2
"""Spaces between columns, in a table that fits and in one that does not."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table that are shown.

    Attributes:
        widths: column -> width in characters, in their order.
        is_narrow: whether the gaps between them are narrow.
        left_out: the columns without room that are not empty.
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
    if _add_up(natural, columns, gap=WIDE_GAP) <= width:
        return Layout(natural)
    shown = [column for index, column in enumerate(columns) if keeps_all or not index or contents[column]]
    if _add_up(natural, shown, gap=WIDE_GAP) <= width:
        return Layout({column: natural[column] for column in shown})
    least = {column: _compute_least(column, contents[column]) for column in shown}
    while not keeps_all and len(shown) > 1 and _add_up(least, shown) > width:
        shown.remove(_choose_left_out(shown))
    spare = max(0, width - _add_up(least, shown))
    widths = dict[str, int]()
    for column in shown:
        widths[column] = min(natural[column], least[column] + spare)
        spare -= widths[column] - least[column]
    left_out = tuple(column for column in columns if column not in shown and contents[column])
    return Layout(widths, is_narrow=True, left_out=left_out)


def break_cell(text: str, *, column: str) -> str:
    """Break a text into lines: a list into its values, and the name of a resource below another one before its own.

    The name of a fulfilment, for example, continues below that of its order.
    """
    if column in LIST_COLUMNS:
        return text.replace(LIST_SEPARATOR, "\n")
    parts = text.split("/") if column == "name" else []
    return "/".join(parts[:-2]) + "/\n" + "/".join(parts[-2:]) if len(parts) > 3 else text


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
        return ELLIPSIS + line[max(0, line.find("/")) :]
    while cell_len(line) >= width:
        line = line[:-1]
    return line + ELLIPSIS


def _choose_left_out(shown: Sequence[str]) -> str:
    """Return the column to leave out next; never the first one."""
    others = [column for column in shown[1:] if column not in KEPT_COLUMNS]
    return (others or shown)[-1]


def _compute_least(column: str, content: int) -> int:
    """Return the width to which a column may shrink. Its title may take several lines, one per word."""
    title = _measure(column.split("_"))
    is_whole = column in WHOLE_COLUMNS or column.endswith("_time")
    shortest = FOLDED_CHARS if column in FOLDED_COLUMNS else SHORT_CHARS
    return max(title, content if is_whole else min(content, shortest))


def _add_up(widths: Mapping[str, int], columns: Sequence[str], *, gap: int = NARROW_GAP) -> int:
    return sum(widths[column] for column in columns) + gap * (len(columns) - 1)


def _measure(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)
