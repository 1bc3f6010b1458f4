"""Descriptions of field constraints, from the `buf.validate` rules. One table maps each rule to its text."""

from __future__ import annotations

from datetime import date, timedelta

from buf.validate import validate_pb2
from contract import Field
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

EPOCH = date(1970, 1, 1)

# The text of each rule by kind, in the order of output. `{}` stands for the rule's value.
WORDS: dict[str, dict[str, str]] = {
    "string": {
        "min_len": "at least {} characters",
        "max_len": "at most {} characters",
        "pattern": "matches `{}`",
        "uuid": "a UUID",
        "email": "an email address",
    },
    "bytes": {"min_len": "at least {} bytes", "max_len": "at most {} bytes"},
    "int32": {
        "gt": "more than {}",
        "gte": "at least {}",
        "lt": "less than {}",
        "lte": "at most {}",
        "not_in": "not {}",
    },
    "int64": {
        "gt": "more than {}",
        "gte": "at least {}",
        "lt": "less than {}",
        "lte": "at most {}",
        "not_in": "not {}",
    },
    "enum": {"defined_only": "a defined value", "not_in": "not {}"},
    "duration": {"gte": "at least {}", "lte": "at most {}"},
    "timestamp": {"gte": "not before {}", "lt": "before {}"},
    "repeated": {"min_items": "at least {} items", "max_items": "at most {} items", "unique": "no duplicates"},
    "map": {"min_pairs": "at least {} pairs", "max_pairs": "at most {} pairs"},
}
# Rules for each item, key or value.
INNER: dict[str, dict[str, str]] = {
    "repeated": {"items": "each"},
    "map": {"keys": "each key", "values": "each value"},
}


def describe_value(value: object) -> str:
    """Return the value of a rule: lists joined, durations in seconds, timestamps as dates, numbers with separators."""
    if isinstance(value, Timestamp):
        return (EPOCH + timedelta(seconds=value.seconds)).isoformat()
    if isinstance(value, Message):
        return f"{getattr(value, 'seconds', value)} s"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    return ", ".join(describe_value(item) for item in value) if hasattr(value, "__iter__") else str(value)


def fill_words(text: str, value: str) -> str:
    """Return a text such as `at least {} items` with its number, and after 1 with the noun in the singular."""
    return text.format(value).removesuffix("s" if value == "1" and "{} " in text else "")


def describe_kind(rules: Message, *, kind: str) -> list[str]:
    """Return the descriptions of the rules of one kind, such as those for strings.

    Raises: ValueError if a rule has no text in WORDS.
    """
    given = {descriptor.name: value for descriptor, value in rules.ListFields()}
    words = [fill_words(text, describe_value(given[name])) for name, text in WORDS[kind].items() if name in given]
    for name, subject in INNER.get(kind, {}).items():
        if name in given:
            words.append(f"{subject} {' and '.join(describe_rules(given[name]))}")
    unknown = set(given) - set(WORDS[kind]) - set(INNER.get(kind, {}))
    if unknown:
        raise ValueError(f"no words for the rules {sorted(unknown)} of {kind}; add them to WORDS")
    return words


def describe_rules(rules: validate_pb2.FieldRules) -> list[str]:
    """Return the descriptions of all rules of a field."""
    words = ["required"] if rules.required else []
    kind = rules.WhichOneof("type")
    if kind:
        words += describe_kind(getattr(rules, kind), kind=kind)
    if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        words = [f"{' and '.join(words)}, or empty"]
    return words


def describe_field(field: Field) -> str:
    """Return the description of a field: required or output only, and its constraints."""
    if "OUTPUT_ONLY" in field.behaviors:
        return "output only"
    required = ["required"] if "REQUIRED" in field.behaviors and not field.rules.required else []
    return "; ".join(required + describe_rules(field.rules))
