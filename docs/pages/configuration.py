"""Reference page of the settings, with type, bounds, default and meaning, from the server's settings object."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from docs.pages.markdown import code, head, table
from docs.pages.rules import fill_words
from storekeep.gateway import config
from storekeep.server.config import Settings
from storekeep.server.runtime.setting_names import FILE_VARIABLE, PREFIX

TYPE_WORDS: dict[type, str] = {
    bool: "true or false",
    float: "number",
    int: "whole number",
    Path: "path",
    SecretStr: "secret text",
    str: "text",
}
# Units, as the last part of a setting's name.
UNITS: dict[str, str] = {"bytes": "bytes", "days": "days", "ms": "milliseconds", "s": "seconds"}
RATE_ENDING = "_per_s"
BOUND_WORDS: dict[type, tuple[str, str]] = {
    annotated_types.Ge: ("ge", "at least {}"),
    annotated_types.Gt: ("gt", "more than {}"),
    annotated_types.Le: ("le", "at most {}"),
    annotated_types.Lt: ("lt", "less than {}"),
    annotated_types.MinLen: ("min_length", "at least {} characters"),
}
INTRODUCTION = """
Set each setting of `storekeep-server` as an environment variable, or in the file named by `{file}`. A file that ends in
`.toml` is TOML, with the names below in lower case and without `{prefix}`; any other file has lines of `NAME=value`.
The environment overrides the file, and the file overrides the default. An unknown name is an error.

`storekeep-server config print` shows the effective settings and their sources; `config check` reports errors.
"""


GATEWAY_INTRODUCTION = """
Set each setting of `storekeep-gateway` as an environment variable. An unknown name is an error.
"""
COLUMNS = ("Setting", "Type", "Default", "Meaning")


def flatten_type(annotation: object) -> Iterator[object]:
    """Yield the parts of a type without its wrappers: members of unions, the type and metadata of `Annotated`."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        yield from flatten_type(parts[0])
        yield from parts[1:]
    elif typing.get_origin(annotation) is typing.Literal or not parts:
        yield annotation
    else:
        for part in parts:
            yield from flatten_type(part)


def describe_part(part: object) -> Iterator[str]:
    """Yield the description of one part of a type: the type itself, one bound, or the bounds of a `Field`."""
    if typing.get_origin(part) is typing.Literal:
        yield " or ".join(code(str(choice)) if choice else "empty" for choice in typing.get_args(part))
    elif isinstance(part, FieldInfo):
        for bound in part.metadata:
            yield from describe_part(bound)
    elif type(part) in BOUND_WORDS:
        attribute, words = BOUND_WORDS[type(part)]
        yield fill_words(words, f"{getattr(part, attribute):,}")
    elif isinstance(part, type) and part not in (NoneType, NoDecode):
        yield TYPE_WORDS[part]


def describe_type(name: str, field: FieldInfo) -> str:
    """Return the description of a setting's type, unit and bounds."""
    parts = [*flatten_type(field.annotation), *field.metadata]
    ending = name.rpartition("_")[2]
    kind, *bounds = dict.fromkeys(words for part in parts for words in describe_part(part))
    unit = "per second" if name.endswith(RATE_ENDING) else f"of {UNITS[ending]}" if ending in UNITS else ""
    return ", ".join([f"{kind} {unit}" if unit else kind, *bounds])


def describe_default(field: FieldInfo) -> str:
    """Return the default as a user would write it; empty if there is none."""
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, ()) else code(str(value))


def build_setting_row(variable: str, name: str, field: FieldInfo) -> tuple[str, ...]:
    """Return the table row of one setting."""
    return code(variable), describe_type(name, field), describe_default(field), field.description or ""


def build_page() -> str:
    """Return the page of the server's settings."""
    rows = (build_setting_row(f"{PREFIX}{name.upper()}", name, field) for name, field in Settings.model_fields.items())
    introduction = INTRODUCTION.format(file=FILE_VARIABLE, prefix=PREFIX)
    return f"{head('Settings', source='server/storekeep/server/config.py')}{introduction}\n{table(COLUMNS, rows)}"


def build_gateway_page() -> str:
    """Return the page of the gateway's settings."""
    fields = config.Settings.model_fields.items()
    rows = (build_setting_row(config.get_variable(name), name, field) for name, field in fields)
    title = head("Settings of the gateway", source="clients/storekeep/gateway/config.py")
    return f"{title}{GATEWAY_INTRODUCTION}\n{table(COLUMNS, rows)}"
