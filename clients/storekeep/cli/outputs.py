"""Output formats and the choice of columns: the options `--output`, `--json` and `--columns`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from google.protobuf.message import Message

COLUMNS_MAX = 100
"""Maximum number of columns of a table."""


class OutputFormat(StrEnum):
    """Format of the results on stdout."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    NAME = "name"


def choose_format(output: OutputFormat | None, *, as_json: bool, columns: Sequence[str] = ()) -> OutputFormat:
    """Return the format that the options ask for: tables by default.

    Raises: typer.BadParameter for options that contradict each other.
    """
    if as_json and output not in (None, OutputFormat.JSON):
        raise typer.BadParameter(f"--json and --output {output} ask for different formats: use one of them")
    if columns and output is OutputFormat.NAME:
        raise typer.BadParameter("--output name prints names only, so it takes no --columns")
    return OutputFormat.JSON if as_json else output or OutputFormat.TABLE


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns in a list such as `number,customer,shipping_address.region_code`.

    Raises: typer.BadParameter.
    """
    columns = tuple(column.strip() for column in text.split(",")) if text.strip() else ()
    if not all(columns):
        raise typer.BadParameter("--columns has an empty name; separate the names by single commas")
    if len(columns) > len(set(columns)):
        raise typer.BadParameter("--columns names a column twice")
    if len(columns) > COLUMNS_MAX:
        raise typer.BadParameter(f"--columns takes at most {COLUMNS_MAX} names")
    return columns


def check_columns(message: Message, columns: Sequence[str]) -> None:
    """Check that a message has the fields, which may be nested, as `customer` or `shipping_address.locality`.

    Raises: typer.BadParameter, with the field that may be meant.
    """
    for column in columns:
        _check_path(message.DESCRIPTOR, column, column)


def check_choice(column: str, existing: Sequence[str]) -> None:
    """Check that a column exists.

    Raises: typer.BadParameter, with the column that may be meant.
    """
    if column not in existing:
        close = get_close_matches(column, existing, n=1)
        advice = f"did you mean {close[0]}?" if close else f"the columns are {', '.join(existing)}"
        raise typer.BadParameter(f"no such column: {column}; {advice}")


def is_map(field: Any) -> bool:
    """Return whether a field of the contract is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _check_path(descriptor: Any, path: str, column: str) -> None:
    name, _, rest = path.partition(".")
    prefix = column.removesuffix(path)
    check_choice(prefix + name, [prefix + field.name for field in descriptor.fields])
    field = descriptor.fields_by_name[name]
    if not rest or is_map(field):
        return
    if field.message_type is None:
        raise typer.BadParameter(f"no such column: {column}; {prefix}{name} has no parts")
    _check_path(field.message_type, rest, column)
