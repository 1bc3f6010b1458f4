"""A field's constraints in words, from its `buf.validate` rules. One table: rule, and how it reads."""

from __future__ import annotations

from datetime import date, timedelta

from buf.validate import validate_pb2
from contract import Field
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

EPOCH = date(1970, 1, 1)

# Per kind of rule, in the order in which they read well. `{}` is the rule's own value.
WORDS: dict[str, dict[str, str]] = {
    "string": {
        "min_len": "at least {} characters",
        "max_len": "at most {} characters",
        "pattern": "matches `{}`",
        "uuid": "a UUID",
        "email": "an e-mail address",
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
    "repeated": {"min_items": "at least {} of them", "max_items": "at most {} of them", "unique": "no item twice"},
    "map": {"min_pairs": "at least {} pairs", "max_pairs": "at most {} pairs"},
}
# Where each item, key or value has rules of its own.
INNER: dict[str, dict[str, str]] = {
    "repeated": {"items": "each"},
    "map": {"keys": "each key", "values": "each value"},
}


def value_words(value: object) -> str:
    """One rule's value: lists joined, durations in seconds, instants as dates, large numbers with separators."""
    if isinstance(value, Timestamp):
        return (EPOCH + timedelta(seconds=value.seconds)).isoformat()
    if isinstance(value, Message):
        return f"{getattr(value, 'seconds', value)} s"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    return ", ".join(value_words(item) for item in value) if hasattr(value, "__iter__") else str(value)


def kind_words(rules: Message, *, kind: str) -> list[str]:
    """The rules of one kind, such as those for strings, in words."""
    given = {descriptor.name: value for descriptor, value in rules.ListFields()}
    words = [text.format(value_words(given[name])) for name, text in WORDS[kind].items() if name in given]
    for name, who in INNER.get(kind, {}).items():
        if name in given:
            words.append(f"{who} {' and '.join(rule_words(given[name]))}")
    unknown = set(given) - set(WORDS[kind]) - set(INNER.get(kind, {}))
    if unknown:
        raise ValueError(f"no words for the rules {sorted(unknown)} of {kind}; add them to WORDS")
    return words


def rule_words(rules: validate_pb2.FieldRules) -> list[str]:
    """All rules of a field in words."""
    words = ["required"] if rules.required else []
    kind = rules.WhichOneof("type")
    if kind:
        words += kind_words(getattr(rules, kind), kind=kind)
    if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        words = [f"{' and '.join(words)}, or empty"]
    return words


def field_words(field: Field) -> str:
    """What may stand in a field: required or output only, and its constraints."""
    if "OUTPUT_ONLY" in field.behaviors:
        return "output only"
    required = ["required"] if "REQUIRED" in field.behaviors and not field.rules.required else []
    return "; ".join(required + rule_words(field.rules))
