"""Parts of a known format: the files that it has, and how the rows of each become values of targets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal

from storekeep.imports.rows import AnyRow, BadRow, Row
from storekeep.imports.spellings import ISO

GROUP_ROWS_MAX = 1000
"""Maximum rows of one order in a format whose orders must be read as a whole."""
Cells = Mapping[str, str]
WHOLE_CURRENCIES = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
"""Currencies without decimals, by ISO 4217. Some exports write decimals anyway."""
CENT_PLACES = 2
Adapt = Callable[[Iterable[Row | BadRow], "JoinTable"], Iterator[AnyRow]]


class RejectedRows(Exception):
    """The rows of an order cannot be converted."""


@dataclass(frozen=True)
class Source:
    """One file of a format.

    Attributes:
        needed: columns that the header must have, by which it is recognised.
        columns: columns by target; those that a file lacks are ignored.
        constants: values of targets for rows without one.
        computed: targets that `adapt` fills in, under their own names.
        adapt: converts the rows; None if they need no conversion.
        distinct: whether rows with a repeated key are skipped.
    """

    needed: Sequence[str]
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    computed: Sequence[str] = ()
    adapt: Adapt | None = None
    distinct: bool = False


@dataclass(frozen=True)
class Format:
    """A known format.

    Attributes:
        title: what it is, for the help.
        products, customers, lines: the file of each import; `lines` are the order lines.
        orders: the second file of the import of orders; None if one file has all.
        join: the file that `--join` names, with its key as the target `key`; None if there is none.
        date_formats: formats of dates (strptime); empty for ISO 8601.
        time_zone: time zone of dates without one.
    """

    name: str
    title: str
    products: Source | None = None
    customers: Source | None = None
    lines: Source | None = None
    orders: Source | None = None
    join: Source | None = None
    date_formats: Sequence[str] = ()
    time_zone: str = "UTC"
    shipping_skus: frozenset[str] = frozenset()
    cancel_negative: bool = False

    @property
    def stock(self) -> Source | None:
        """The file of products as a file of stock levels, if it has them."""
        if self.products is None or "stock" not in self.products.columns:
            return None
        return replace(self.products, columns={**self.products.columns, "quantity": self.products.columns["stock"]})


class JoinTable:
    """The rows of a third file by their key, in an unnamed temporary database on disk. Not thread-safe."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE cells (key TEXT PRIMARY KEY, cells TEXT) WITHOUT ROWID")
        self.is_empty = True

    def close(self) -> None:
        """Close and delete the temporary database."""
        self._database.close()

    def add(self, key: str, cells: Cells) -> None:
        """Store the values of one row. The first row of a key is kept."""
        self.is_empty = False
        self._database.execute("INSERT OR IGNORE INTO cells VALUES (?, ?)", (key, json.dumps(dict(cells))))

    def find(self, key: str) -> Cells | None:
        """Return the values of the row with this key, or None if there is none."""
        row = self._database.execute("SELECT cells FROM cells WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])


def adapt_each(convert: Callable[[Row], AnyRow]) -> Adapt:
    """Return a conversion of single rows. A row that cannot be read is passed through."""

    def adapt(rows: Iterable[Row | BadRow], _: JoinTable) -> Iterator[AnyRow]:
        for row in rows:
            yield convert(row) if isinstance(row, Row) else row

    return adapt


def adapt_groups(convert: Callable[[Sequence[Row]], Iterable[AnyRow]], *, key: str) -> Adapt:
    """Return a conversion of the rows of one order at a time: consecutive rows with the same text in the column `key`.

    A row that cannot be read is passed through and does not end its order.
    """

    def adapt(rows: Iterable[Row | BadRow], _: JoinTable) -> Iterator[AnyRow]:
        group: list[Row] = []
        for row in rows:
            if isinstance(row, BadRow) or key not in row.cells:
                yield row
                continue
            if group and (row.cells[key] != group[0].cells[key] or len(group) == GROUP_ROWS_MAX):
                is_cut = row.cells[key] == group[0].cells[key]
                yield from _convert_group(convert, group, key=key, is_cut=is_cut)
                group = []
            group.append(row)
        if group:
            yield from _convert_group(convert, group, key=key, is_cut=False)

    return adapt


def _convert_group(
    convert: Callable[[Sequence[Row]], Iterable[AnyRow]], group: Sequence[Row], *, key: str, is_cut: bool
) -> Iterable[AnyRow]:
    reason = f"it has more than {GROUP_ROWS_MAX} rows"
    try:
        if not is_cut:
            return list(convert(group))
    except RejectedRows as error:
        reason = str(error)
    return [BadRow(row.line, reason, key=row.cells[key]) for row in group]


def add_cells(row: Row, **cells: str | Decimal | None) -> Row:
    """Return a row with values of targets, without absent ones. `label.KEY` is written `label_KEY`."""
    present = {name.replace("_KEY_", "."): format_cell(value) for name, value in cells.items() if value is not None}
    return Row(row.line, {**row.cells, **{name: text for name, text in present.items() if text}})


def format_cell(value: str | Decimal) -> str:
    """Return the text of a value: that of a number with a decimal point."""
    return value if isinstance(value, str) else f"{value.normalize():f}" if value else "0"


def parse_number(cells: Cells, column: str) -> Decimal | None:
    """Return the number in a column, or None if it is absent.

    Raises: RejectedRows.
    """
    text = cells.get(column)
    if text is None:
        return None
    try:
        return ISO.parse_decimal(text)
    except ValueError as error:
        raise RejectedRows(f"{column}: {error}") from None


def require_number(cells: Cells, column: str) -> Decimal:
    """Return the number in a column.

    Raises: RejectedRows.
    """
    amount = parse_number(cells, column)
    if amount is None:
        raise RejectedRows(f"{column} is missing")
    return amount


def split_evenly(amount: Decimal, weights: Sequence[Decimal], *, currency: str) -> list[Decimal]:
    """Split an amount in proportion to weights, exactly: the largest remainders get the units that are left over.

    Args:
        weights: not negative, and not all 0.
    """
    total = sum(weights, Decimal())
    quantum = find_quantum([amount, *weights], currency=currency)
    shares = [(amount * weight / total).quantize(quantum, rounding="ROUND_FLOOR") for weight in weights]
    left = int((amount - sum(shares, Decimal())) / quantum)
    order = sorted(range(len(weights)), key=lambda index: shares[index] - amount * weights[index] / total)
    for index in order[:left]:
        shares[index] += quantum
    return shares


def find_quantum(amounts: Sequence[Decimal], *, currency: str) -> Decimal:
    """Return the unit of the last decimal place of amounts: 0.01 for 2.00 and 3.00, and for 2.0000."""
    used = min([0, *[_get_exponent(one.normalize()) for one in amounts]])
    written = min([0, *map(_get_exponent, amounts)])
    least = 0 if currency.upper() in WHOLE_CURRENCIES.split() else -CENT_PLACES
    return Decimal(1).scaleb(max(written, min(used, least)))


def _get_exponent(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def split_price(subtotal: Decimal, quantity: int) -> Decimal:
    """Return the price of a unit, rounded up to the decimals of the subtotal if it does not divide evenly."""
    quantum = Decimal(1).scaleb(min(0, _get_exponent(subtotal)))
    return (subtotal / quantity).quantize(quantum, rounding=ROUND_CEILING)
