"""The page of settings: each with its type, bounds, default and reason, from the server's one settings object."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from docs.pages.markdown import code, head, table
from storekeep.server.config import FILE_VARIABLE, PREFIX, Settings

TYPE_WORDS: dict[type, str] = {
    bool: "true or false",
    float: "number",
    int: "whole number",
    Path: "path",
    SecretStr: "secret text",
    str: "text",
}
# The last part of a setting's name, where it is a unit.
UNITS: dict[str, str] = {"bytes": "bytes", "days": "days", "ms": "milliseconds", "s": "seconds"}
BOUND_WORDS: dict[type, tuple[str, str]] = {
    annotated_types.Ge: ("ge", "at least {}"),
    annotated_types.Gt: ("gt", "more than {}"),
    annotated_types.Le: ("le", "at most {}"),
    annotated_types.Lt: ("lt", "less than {}"),
    annotated_types.MinLen: ("min_length", "at least {} characters"),
}
INTRODUCTION = """
Every setting of `storekeep-server` is a variable of the environment, or stands in the file that `{file}` names: TOML
with the names below in small letters and without `{prefix}` when it ends in `.toml`, otherwise lines of `NAME=value`.
The environment comes before the file, the file before the default. A name that does not exist is an error, not an
oversight.

`storekeep-server config print` shows what is in force and where it came from; `config check` says what is wrong with
it.
"""


def flattened(annotation: object) -> Iterator[object]:
    """A type without its wrappers: the types of a union and those that `Annotated` surrounds."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        yield from flattened(parts[0])
        yield from parts[1:]
    elif typing.get_origin(annotation) is typing.Literal or not parts:
        yield annotation
    else:
        for part in parts:
            yield from flattened(part)


def part_words(part: object) -> Iterator[str]:
    """One part of a type in words: the type itself, one of its bounds, or the bounds of a whole `Field`."""
    if typing.get_origin(part) is typing.Literal:
        yield " or ".join(code(str(choice)) if choice else "empty" for choice in typing.get_args(part))
    elif isinstance(part, FieldInfo):
        for bound in part.metadata:
            yield from part_words(bound)
    elif type(part) in BOUND_WORDS:
        attribute, words = BOUND_WORDS[type(part)]
        yield words.format(f"{getattr(part, attribute):,}")
    elif isinstance(part, type) and part is not NoneType:
        yield TYPE_WORDS[part]


def type_words(name: str, field: FieldInfo) -> str:
    """What a setting may be: its type, its unit, its bounds."""
    parts = [*flattened(field.annotation), *field.metadata]
    kind, *bounds = dict.fromkeys(words for part in parts for words in part_words(part))
    unit = UNITS.get(name.rpartition("_")[2])
    return ", ".join([f"{kind} of {unit}" if unit else kind, *bounds])


def default_words(field: FieldInfo) -> str:
    """The default as one would write it; nothing where it is empty."""
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, ()) else code(str(value))


def setting_row(name: str, field: FieldInfo) -> tuple[str, ...]:
    """One line of the table."""
    return code(f"{PREFIX}{name.upper()}"), type_words(name, field), default_words(field), field.description or ""


def page() -> str:
    """The whole page."""
    rows = (setting_row(name, field) for name, field in Settings.model_fields.items())
    introduction = INTRODUCTION.format(file=FILE_VARIABLE, prefix=PREFIX)
    columns = ("Setting", "Type", "Default", "Meaning")
    return f"{head('Settings', source='server/storekeep/server/config.py')}{introduction}\n{table(columns, rows)}"
