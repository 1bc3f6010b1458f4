"""Mapping of columns to targets, from `--column target=header` and `--set target=constant`.

A column with the name of a target, such as `label.season`, is mapped to it unless the command line overrides this.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from storekeep.client.money import split_currency
from storekeep.imports.rows import ABSENT, Row, RowReader
from storekeep.imports.spellings import ISO, NumberOutOfRange, Spelling

LABEL_PREFIX = "label."
"""Prefix of label targets: `label.season` is the label `season`."""
OPTION_PREFIX = "option."
"""Prefix of option targets: `option.size` is the option `size` of a variant."""

INTEGER_MAX = 10**9
"""Maximum integer in the contract, for units and grams."""

TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y"})
FALSE_WORDS = frozenset({"0", "false", "f", "no", "n"})
_ROUNDED = re.compile(r"[0-9](?:[.,][0-9]+)?[eE][+][0-9]+")


class InvalidMapping(Exception):
    """The mapping on the command line does not match the file or the targets."""


class InvalidCell(Exception):
    """A cell is not valid for its target. The row is not imported."""


@dataclass(frozen=True)
class Target:
    """A field that an import can fill."""

    name: str
    help: str
    required: bool = False


@dataclass(frozen=True)
class Values:
    """The values of one row by target, without absent ones."""

    line: int
    by_target: Mapping[str, str]
    spelling: Spelling = ISO

    def text(self, target: str) -> str | None:
        """Return the value, or None if it is absent."""
        return self.by_target.get(target)

    def require(self, target: str) -> str:
        """Return the value.

        Raises: InvalidCell if it is absent.
        """
        value = self.by_target.get(target)
        if value is None:
            raise InvalidCell(f"{target} is missing")
        return value

    def code(self, target: str) -> str | None:
        """Return the value of which each digit counts, such as a phone number, or None if it is absent.

        Raises: InvalidCell.
        """
        value = self.by_target.get(target)
        return None if value is None else check_code(value, target=target)

    def integer(self, target: str) -> int | None:
        """Return the value as a non-negative integer, or None if it is absent.

        Raises: InvalidCell.
        """
        number = self.signed_integer(target)
        if number is not None and number < 0:
            raise InvalidCell(f"{target}: {self.by_target[target]!r} is not a whole number, 0 or more")
        return number

    def signed_integer(self, target: str) -> int | None:
        """Return the value as an integer, or None if it is absent.

        Raises: InvalidCell.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        try:
            number = self.spelling.parse_integer(value)
        except NumberOutOfRange:
            raise InvalidCell(f"{target}: more than {INTEGER_MAX}") from None
        except ValueError as error:
            raise InvalidCell(f"{target}: {_shorten(str(error))}") from None
        if abs(number) > INTEGER_MAX:
            raise InvalidCell(f"{target}: more than {INTEGER_MAX}")
        return number

    def decimal(self, target: str) -> Decimal | None:
        """Return the value as an exact decimal, or None if it is absent.

        Raises: InvalidCell.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        try:
            return self.spelling.parse_decimal(value)
        except ValueError as error:
            raise InvalidCell(f"{target}: {_shorten(str(error))}") from None

    def amount(self, target: str, *, currency: str | None) -> Decimal | None:
        """Return the value as an exact amount, or None if it is absent. It may repeat the currency: `5.00 EUR`.

        Raises: InvalidCell, also if it has another currency.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        own, amount = split_currency(value)
        if own and currency and own != currency.upper():
            raise InvalidCell(f"{target}: {_shorten(repr(value))} is not in {currency.upper()}")
        return Values(self.line, {target: amount if own and currency else value}, self.spelling).decimal(target)

    def time_us(self, target: str) -> int | None:
        """Return the value as microseconds since 1970, or None if it is absent.

        Raises: InvalidCell.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        try:
            return self.spelling.parse_time_us(value)
        except ValueError as error:
            raise InvalidCell(f"{target}: {_shorten(str(error))}") from None

    def boolean(self, target: str) -> bool | None:
        """Return the value as a boolean, or None if it is absent.

        Raises: InvalidCell.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        word = value.lower()
        if word not in TRUE_WORDS | FALSE_WORDS:
            raise InvalidCell(f"{target}: {value!r} is neither yes nor no")
        return word in TRUE_WORDS

    def labels(self) -> dict[str, str]:
        """Return the labels of the row."""
        return self._list_pairs(LABEL_PREFIX)

    def options(self) -> dict[str, str]:
        """Return the options of the variant of the row."""
        return self._list_pairs(OPTION_PREFIX)

    def _list_pairs(self, prefix: str) -> dict[str, str]:
        return {
            target.removeprefix(prefix): value for target, value in self.by_target.items() if target.startswith(prefix)
        }


class Columns:
    """The mapping of one file.

    Attributes:
        positions: indexes of the columns by target.

    Args:
        prefixes: prefixes of targets that the format of the file fills in, such as `option.`.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, str],
        constants: Mapping[str, str],
        spelling: Spelling,
        positions: Mapping[str, int],
        header: Sequence[str],
        prefixes: Sequence[str] = (),
    ) -> None:
        self._sources = sources
        self._unmapped = [name for name in header if name and name not in {*sources.values()}]
        self._with_values = set[str]()
        self._constants = {target: value for target, value in constants.items() if value and value not in ABSENT}
        self._spelling = spelling
        self._prefixes = tuple(prefixes)
        self.positions = positions

    @property
    def targets(self) -> Mapping[str, str]:
        """The targets that have a source, each by its own name."""
        return {name: name for name in (*self._sources, *self._constants)}

    @property
    def ignored(self) -> list[str]:
        """Columns without a target that had values in the rows so far, in the order of the header."""
        return [name for name in self._unmapped if name in self._with_values]

    def map_row(self, row: Row) -> Values:
        """Return the values of a row. A cell takes precedence over a constant."""
        self._with_values.update(row.cells)
        cells = {target: row.cells[source] for target, source in self._sources.items() if source in row.cells}
        if self._prefixes:
            cells |= {name: text for name, text in row.cells.items() if name.startswith(self._prefixes)}
        return Values(row.line, {**self._constants, **cells}, self._spelling)


def check_code(value: str, *, target: str) -> str:
    """Return a value of which each digit counts, such as a SKU.

    Raises: InvalidCell for a number as spreadsheets shorten it, such as 4.00638E+12, which other values become as well.
    """
    if _ROUNDED.fullmatch(value):
        raise InvalidCell(f"{target}: {value!r} was rounded by a spreadsheet, so its digits are lost")
    return value


def list_needed_columns(
    targets: Iterable[Target], *, mapped: Mapping[str, str], constants: Collection[str]
) -> frozenset[str]:
    """Return the names of the columns that the header must have, by which it is recognised."""
    required = {target.name for target in targets if target.required} - mapped.keys() - set(constants)
    return frozenset({*mapped.values(), *required})


def read_columns(
    targets: Sequence[Target],
    reader: RowReader,
    *,
    mapped: Mapping[str, str],
    constants: Mapping[str, str],
    prefixes: Collection[str] = (),
    computed: Collection[str] = (),
    spelling: Spelling = ISO,
) -> Columns:
    """Return the mapping of the command line.

    `prefixes`: prefixes of targets such as `label.KEY`. `computed`: targets that the format of the file fills in.

    Raises: InvalidMapping if a target or column does not exist, a column is ambiguous, or a required target has no
    source.
    """
    names = {target.name for target in targets}
    header = reader.header
    _check_targets([*mapped, *constants], names=names, prefixes=prefixes)
    for target, source in mapped.items():
        if source not in header:
            columns = ", ".join(filter(None, header))
            raise InvalidMapping(
                f"{target}={source}: the file has no column {source!r}; columns: {columns}{suggest_delimiter(header)}"
            )
    computed_prefixes = [name for name in computed if name.endswith(".")]
    pairs = {name for name in header if name.startswith(tuple(prefixes)) and name not in prefixes}
    same_name = {*(names.intersection(header) | pairs) - constants.keys(), *computed}.difference(computed_prefixes)
    sources = {**{name: name for name in same_name}, **mapped}
    if repeated := reader.repeated_columns.intersection(sources.values()):
        raise InvalidMapping(f"line {reader.header_line}: the header names a column twice: {', '.join(repeated)}")
    for field in targets:
        if field.required and field.name not in {*sources, *constants}:
            column = next((name for name in header if name.casefold().replace(" ", "_") == field.name), "HEADER")
            ways = f"--column {field.name}={shlex.quote(column)}, or --set {field.name}=VALUE for all rows"
            problem = f"no column is mapped to {field.name}: add {ways}"
            raise InvalidMapping(problem + suggest_delimiter(header))
    positions = {target: header.index(source) for target, source in sources.items() if source in header}
    return Columns(
        sources=sources,
        constants=constants,
        spelling=spelling,
        positions=positions,
        header=header,
        prefixes=computed_prefixes,
    )


def _check_targets(mapped: Iterable[str], *, names: set[str], prefixes: Collection[str]) -> None:
    for target in mapped:
        if target in names or any(target.startswith(prefix) and target != prefix for prefix in prefixes):
            continue
        others = "".join(f", {prefix}KEY" for prefix in prefixes)
        raise InvalidMapping(f"no target {target!r}; targets: {', '.join(sorted(names))}{others}")


def suggest_delimiter(header: Sequence[str]) -> str:
    """Return a hint if the only column of a file seems to have another delimiter, else an empty string."""
    delimiters = ((";", "';'"), ("\t", "tab"))
    delimiter = next((name for char, name in delimiters if len(header) == 1 and char in header[0]), "")
    return f"; if {delimiter} separates the columns, use --delimiter {delimiter}" if delimiter else ""


def _shorten(text: str) -> str:
    """Return a text without the middle of a cell that is too long to show."""
    return text if len(text) <= 200 else f"{text[:100]}…{text[-90:]}"
