"""Texts of broken rules: says in words what a value of a request must be, from the messages of protovalidate."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import protovalidate

from storekeep.server.interceptors.patterns import describe_pattern

NUMBER = re.compile(r"(?<![\w.-])-?[0-9]{4,}(?![\w.-])")
RANGE = re.compile(r"must be greater than or equal to (\S+) and less than or equal to (\S+)")
REPLACED = (
    (re.compile(r"must be greater than or equal to (\S+)"), r"must be at least \1"),
    (re.compile(r"must be less than or equal to (\S+)"), r"must be at most \1"),
)
EMPTY = "must not be empty"


def explain_rule(violation: protovalidate.Violation) -> str:
    """Return what the value must be, without regular expressions, enum numbers or plurals in brackets."""
    rule, value = violation.proto.rule_id, violation.rule_value
    if rule == "string.pattern":
        return describe_pattern(value) if violation.field_value else f"is required; it {describe_pattern(value)}"
    if rule.endswith(".not_in"):
        return "must not be 0" if list(value) == [0] else "is a value that only the server may set"
    kind = rule.rpartition(".")[2] if rule.startswith(("string.", "bytes.")) else rule
    if describe := SIZES.get(kind):
        return describe(value)
    text = RANGE.sub(r"must be from \1 to \2", violation.proto.message or rule)
    for pattern, words in REPLACED:
        text = pattern.sub(words, text)
    return NUMBER.sub(lambda number: f"{int(number[0]):,}", text)


def describe_items_max(items_max: int) -> str:
    """Return the rule of a list with too many items."""
    return f"must have at most {_count(items_max, 'item')}"


def _describe_min(noun: str) -> Callable[[Any], str]:
    return lambda least: EMPTY if least == 1 else f"must have at least {_count(least, noun)}"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


SIZES: dict[str, Callable[[Any], str]] = {
    "min_len": _describe_min("character"),
    "repeated.min_items": _describe_min("item"),
    "repeated.max_items": describe_items_max,
    "repeated.unique": lambda _: "must not have the same item twice",
    "map.max_pairs": lambda most: f"must have at most {_count(most, 'entry', 'entries')}",
}
"""Descriptions of the rules about sizes, given their limit."""
