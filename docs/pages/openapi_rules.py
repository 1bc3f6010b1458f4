"""The rules of `buf.validate` and the well-known types of protobuf, as JSON Schema."""

from __future__ import annotations

import re
from typing import Any

from buf.validate import validate_pb2
from contract import Contract, Field
from google.protobuf.message import Message

from docs.pages.rules import describe_field

BEHAVIORS: dict[str, dict[str, Any]] = {
    "OUTPUT_ONLY": {"readOnly": True},
    "INPUT_ONLY": {"writeOnly": True},
}
WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, separated by commas."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
    "google.protobuf.Empty": {"type": "object", "additionalProperties": False},
}
NUMBERS = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
TEXTS = {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern"}
LISTS = {"min_items": "minItems", "max_items": "maxItems"}
MAPS = {"min_pairs": "minProperties", "max_pairs": "maxProperties"}
FORMATS = {"uuid": "uuid", "email": "email", "uri": "uri"}
EMAIL = r"^[^\s@]+@[^\s@]+$"
"""Stands for the contract's pattern of email addresses, the only one with other letters than ASCII: programs that read
patterns take seconds for it, or do not know characters beyond 16 bits."""
ANY_SEGMENT = "^[^/]+$"


def to_camel(name: str, *, upper: bool = False) -> str:
    """Return the name of a field in JSON: `displayName` for `display_name`."""
    first, *rest = name.split("_")
    return "".join([first[:1].upper() + first[1:] if upper else first, *(part[:1].upper() + part[1:] for part in rest)])


def describe_well_known(full_name: str) -> dict[str, Any] | None:
    """Return the schema of a well-known type; None for other messages."""
    schema = WELL_KNOWN.get(full_name)
    return None if schema is None else dict(schema)


def describe_bounds(field: Field) -> str:
    """Return the rules of a field in words, for those that JSON Schema cannot express; empty if it has none."""
    text = describe_field(field)
    return f"Rules: {text}." if text else ""


def restrict(schema: dict[str, Any], rules: Message | None, *, kind: str) -> dict[str, Any]:
    """Return a schema with the rules of its field that JSON Schema has.

    Args:
        kind: the name of the rules in `buf.validate`, such as `string`.
    """
    if rules is None or not kind or not rules.HasField(kind) or "$ref" in schema:
        return schema
    given = {descriptor.name: value for descriptor, value in getattr(rules, kind).ListFields()}
    if kind == "string":
        schema |= _restrict_text(given, may_be_empty=_may_be_empty(rules))
    elif kind in ("int32", "int64") and "integer" in schema["type"]:
        words = {word: given[name] for name, word in NUMBERS.items() if name in given}
        schema |= {} if _may_be_empty(rules) else words
    elif kind == "repeated":
        schema |= {word: given[name] for name, word in LISTS.items() if name in given}
        schema |= {"uniqueItems": True} if given.get("unique") else {}
    elif kind == "map":
        schema |= {word: given[name] for name, word in MAPS.items() if name in given}
    return schema


def _may_be_empty(rules: Any) -> bool:
    return bool(rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE)


def _restrict_text(given: dict[str, Any], *, may_be_empty: bool) -> dict[str, Any]:
    """Return the rules of a text. A format is stated only if the text may not be empty instead."""
    rules = {word: given[name] for name, word in TEXTS.items() if name in given}
    if not rules.get("pattern", "").isascii():
        rules["pattern"] = EMAIL
    if not may_be_empty:
        return rules | next(({"format": word} for name, word in FORMATS.items() if given.get(name)), {})
    rules.pop("minLength", None)
    return rules | ({"pattern": f"^$|{rules['pattern']}"} if "pattern" in rules else {})


def find_segment_pattern(field: Any, contract: Contract, field_path: str, index: int, count: int) -> str:
    """Return the pattern of one segment of a resource name, from the pattern of the whole name.

    Args:
        index: the place of the segment in the name, which has `count` segments.
    """
    if field is None or field.containing_type.full_name not in contract.messages:
        return ANY_SEGMENT
    source = contract.messages[field.containing_type.full_name].get_field(field.name)
    parts = field_path.split(".")
    for part in parts[1:]:
        source = None if source is None else contract.messages[source.kind].get_field(part)
    pattern = source.rules.string.pattern if source is not None else ""
    segments = _split_pattern(pattern.removeprefix("^").removesuffix("$"))
    return f"^{segments[index]}$" if len(segments) == count else ANY_SEGMENT


def _split_pattern(pattern: str) -> list[str]:
    """Split a pattern at the slashes outside of groups and classes."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"[/()\[\]]", pattern):
        char = match[0]
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif depth == 0:
            parts.append(pattern[start : match.start()])
            start = match.end()
    return [*parts, pattern[start:]]
