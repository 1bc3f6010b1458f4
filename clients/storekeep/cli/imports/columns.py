"""Columns: which cell of a row becomes which field: `--column target=header` and `--set target=constant`.

A target that the header happens to name is taken from that column unless the command line says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from storekeep.cli.imports.rows import ABSENT, Row

LABEL_PREFIX = "label."
"""`label.season` is the label `season`, where the kind has labels."""

WHOLE_MAX = 10**9
"""The most that the contract takes, of units as of grams."""

TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y"})
FALSE_WORDS = frozenset({"0", "false", "f", "no", "n"})


class MappingRefused(Exception):
    """The mapping on the command line does not fit the file or the kind."""


class CellRefused(Exception):
    """A cell cannot be what its target needs; the row is left out."""


@dataclass(frozen=True)
class Target:
    """A field that an import can fill."""

    name: str
    help: str
    required: bool = False


@dataclass(frozen=True)
class Values:
    """The values of one row, by target. Absent ones are not there."""

    line: int
    by_target: Mapping[str, str]

    def text(self, target: str) -> str | None:
        """Return the value, or None when it is absent."""
        return self.by_target.get(target)

    def needed(self, target: str) -> str:
        """Return the value.

        Raises: CellRefused when it is absent.
        """
        value = self.by_target.get(target)
        if value is None:
            raise CellRefused(f"{target} is missing")
        return value

    def whole(self, target: str) -> int | None:
        """Return the value as an integer that is not negative, None when it is absent.

        Raises: CellRefused.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit():
            raise CellRefused(f"{target}: {value!r} is not a whole number, 0 or more")
        if len(value.lstrip("0")) > len(str(WHOLE_MAX)) or int(value) > WHOLE_MAX:
            raise CellRefused(f"{target}: more than {WHOLE_MAX}")
        return int(value)

    def decimal(self, target: str) -> Decimal | None:
        """Return the value as an exact number, None when it is absent.

        Raises: CellRefused.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise CellRefused(f"{target}: {value!r} is not a number such as 1234.50") from None
        if not number.is_finite() or "_" in value:
            raise CellRefused(f"{target}: {value!r} is not a number such as 1234.50")
        return number

    def truth(self, target: str) -> bool | None:
        """Return the value as a yes or a no, None when it is absent.

        Raises: CellRefused.
        """
        value = self.by_target.get(target)
        if value is None:
            return None
        word = value.lower()
        if word not in TRUE_WORDS | FALSE_WORDS:
            raise CellRefused(f"{target}: {value!r} is neither yes nor no")
        return word in TRUE_WORDS

    def labels(self) -> dict[str, str]:
        """Return the labels of the row."""
        return {
            target.removeprefix(LABEL_PREFIX): value
            for target, value in self.by_target.items()
            if target.startswith(LABEL_PREFIX)
        }


class Columns:
    """The mapping of one import."""

    def __init__(self, *, sources: Mapping[str, str], constants: Mapping[str, str]) -> None:
        self._sources = sources
        self._constants = {target: value for target, value in constants.items() if value not in ABSENT}

    def values(self, row: Row) -> Values:
        """Return the values of a row. A cell goes before a constant."""
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
    """Return the mapping that the command line asks for.

    `labels`: whether the kind has labels, so that `label.KEY` is a target.

    Raises: MappingRefused when a target or a column does not exist, or a required target has no source.
    """
    known = {target.name for target in targets}
    _refuse_unknown_targets([*mapped, *constants], known=known, labels=labels)
    for target, source in mapped.items():
        if source not in header:
            raise MappingRefused(f"{target}={source}: the file has no column {source!r}; it has {', '.join(header)}")
    named_alike = {name: name for name in known.intersection(header) - constants.keys()}
    sources = {**named_alike, **mapped}
    for needed in targets:
        if needed.required and needed.name not in {*sources, *constants}:
            how = f"nothing is mapped to {needed.name}: add --column {needed.name}=HEADER"
            raise MappingRefused(how + _suspect_delimiter(header))
    return Columns(sources=sources, constants=constants)


def _refuse_unknown_targets(asked: Iterable[str], *, known: set[str], labels: bool) -> None:
    for target in asked:
        if target in known or (labels and target.startswith(LABEL_PREFIX) and target != LABEL_PREFIX):
            continue
        also = f", {LABEL_PREFIX}KEY" if labels else ""
        raise MappingRefused(f"there is no target {target!r}; there are {', '.join(sorted(known))}{also}")


def _suspect_delimiter(header: Sequence[str]) -> str:
    """Return a hint where the one column of a file looks like several with another delimiter; empty otherwise."""
    found = next((name for char, name in ((";", "';'"), ("\t", "tab")) if len(header) == 1 and char in header[0]), "")
    return f", or --delimiter {found} if that is what stands between the columns" if found else ""
