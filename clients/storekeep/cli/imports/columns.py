"""Mapping of columns to targets, from `--column target=header` and `--set target=constant`.

A column with the name of a target is mapped to it unless the command line overrides this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from storekeep.cli.imports.rows import ABSENT, Row

LABEL_PREFIX = "label."
"""Prefix of label targets: `label.season` is the label `season`."""

INTEGER_MAX = 10**9
"""Maximum integer in the contract, for units and grams."""

TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y"})
FALSE_WORDS = frozenset({"0", "false", "f", "no", "n"})


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

    def integer(self, target: str) -> int | None:
        """Return the value as a non-negative integer, or None if it is absent.

        Raises: InvalidCell.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit():
            raise InvalidCell(f"{target}: {value!r} is not a whole number, 0 or more")
        if len(value.lstrip("0")) > len(str(INTEGER_MAX)) or int(value) > INTEGER_MAX:
            raise InvalidCell(f"{target}: more than {INTEGER_MAX}")
        return int(value)

    def decimal(self, target: str) -> Decimal | None:
        """Return the value as an exact decimal, or None if it is absent.

        Raises: InvalidCell.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise InvalidCell(f"{target}: {value!r} is not a number such as 1234.50") from None
        if not number.is_finite() or "_" in value:
            raise InvalidCell(f"{target}: {value!r} is not a number such as 1234.50")
        return number

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
        return {
            target.removeprefix(LABEL_PREFIX): value
            for target, value in self.by_target.items()
            if target.startswith(LABEL_PREFIX)
        }


class Columns:
    """The mapping of one file."""

    def __init__(self, *, sources: Mapping[str, str], constants: Mapping[str, str]) -> None:
        self._sources = sources
        self._constants = {target: value for target, value in constants.items() if value not in ABSENT}

    def map_row(self, row: Row) -> Values:
        """Return the values of a row. A cell takes precedence over a constant."""
        cells = {target: row.cells[source] for target, source in self._sources.items() if source in row.cells}
        return Values(row.line, {**self._constants, **cells})


def read_columns(
    targets: Sequence[Target],
    *,
    header: Sequence[str],
    mapped: Mapping[str, str],
    constants: Mapping[str, str],
    labels: bool,
) -> Columns:
    """Return the mapping of the command line.

    `labels`: whether `label.KEY` is a target too.

    Raises: InvalidMapping if a target or column does not exist, or a required target has no source.
    """
    names = {target.name for target in targets}
    _check_targets([*mapped, *constants], names=names, labels=labels)
    for target, source in mapped.items():
        if source not in header:
            raise InvalidMapping(f"{target}={source}: the file has no column {source!r}; columns: {', '.join(header)}")
    same_name = {name: name for name in names.intersection(header) - constants.keys()}
    sources = {**same_name, **mapped}
    for field in targets:
        if field.required and field.name not in {*sources, *constants}:
            problem = f"no column is mapped to {field.name}: add --column {field.name}=HEADER"
            raise InvalidMapping(problem + _suggest_delimiter(header))
    return Columns(sources=sources, constants=constants)


def _check_targets(mapped: Iterable[str], *, names: set[str], labels: bool) -> None:
    for target in mapped:
        if target in names or (labels and target.startswith(LABEL_PREFIX) and target != LABEL_PREFIX):
            continue
        label_target = f", {LABEL_PREFIX}KEY" if labels else ""
        raise InvalidMapping(f"no target {target!r}; targets: {', '.join(sorted(names))}{label_target}")


def _suggest_delimiter(header: Sequence[str]) -> str:
    """Return a hint if the only column of a file seems to have another delimiter, else an empty string."""
    delimiters = ((";", "';'"), ("\t", "tab"))
    delimiter = next((name for char, name in delimiters if len(header) == 1 and char in header[0]), "")
    return f", or --delimiter {delimiter} if the columns are separated by it" if delimiter else ""
