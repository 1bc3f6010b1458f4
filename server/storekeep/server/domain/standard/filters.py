"""Filters as AIP-160 writes them, in a subset: who may be named is each resource's own table of fields.

    state = ACTIVE AND (display_name : "tea" OR NOT create_time < "2026-01-01T00:00:00Z")

Terms are `field operator value`; operators are `= != < <= > >=` and `:` (contains). As AIP-160 has it, OR
binds tighter than AND. Refuses all else, saying at which position.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

import lark

from storekeep.server.domain.errors import InvalidFilter

TERMS_MAX = 50
"""Terms in one filter at most: bounds the SQL that it becomes."""

NESTING_MAX = 50
"""Parentheses and NOTs in one filter at most: bounds the depth of that SQL."""

DECIMAL_DIGITS_MAX = 15
"""Of a number before the point: in any currency's minor units it fits the database's integers."""

GRAMMAR = r"""
    start: conjunction?
    conjunction: disjunction (_AND disjunction)*
    disjunction: factor (_OR factor)*
    ?factor: negation | term | "(" conjunction ")"
    negation: _NOT factor
    term: WORD OPERATOR (WORD | STRING)

    _AND.2: /AND(?![A-Za-z0-9_])/
    _OR.2: /OR(?![A-Za-z0-9_])/
    _NOT.2: /NOT(?![A-Za-z0-9_])/
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">" | ":"
    STRING: /"(\\[^\x00]|[^"\\\x00])*"/ | /'(\\[^\x00]|[^'\\\x00])*'/
    WORD: /[A-Za-z0-9_.+\/@*-]+/
    %ignore /\s+/
"""


class Kind(Enum):
    """What values a field takes in a filter."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    TIME = "time"
    STATE = "state"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field that a filter may name.

    Attributes:
        kind: what values it takes.
        choices: for STATE, the names that it takes, as the contract's enum has them without prefix.
        prefix: for TEXT that holds a bare id, what resource names begin with, such as `customers/`.
    """

    kind: Kind
    choices: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """`field operator value`, with the value in the field's own kind."""

    field: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of what it holds."""

    operand: Filter


@dataclass(frozen=True, slots=True)
class And:
    """All of what it holds."""

    operands: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of what it holds."""

    operands: tuple[Filter, ...]


Filter = Term | Not | And | Or

Fields = Mapping[str, FilterField]

TRUTHS = {"true": True, "false": False}


def parse_filter(text: str, fields: Fields) -> Filter | None:
    """Read a filter; None for an empty one, which lets everything through.

    Args:
        text: the filter as the caller wrote it.
        fields: what it may name.

    Raises: InvalidFilter, with the position.
    """
    if not text.strip():
        return None
    if text.count("(") + text.count("NOT") > NESTING_MAX:
        raise InvalidFilter(f"more than {NESTING_MAX} parentheses and NOTs", position=1)
    try:
        tree = _parser().parse(text)
    except lark.UnexpectedInput as error:
        at = len(text) + 1 if isinstance(error, lark.UnexpectedEOF) else _position(text, error)
        raise InvalidFilter(_unexpected(text, at), position=at) from None
    return _Reader(fields).read(tree)


@functools.cache
def _parser() -> lark.Lark:
    return lark.Lark(GRAMMAR, parser="lalr")


def _position(text: str, error: lark.UnexpectedInput) -> int:
    position = error.pos_in_stream
    at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
    return len(text) + 1 if at_end or position is None or position < 0 else position + 1


def _unexpected(text: str, position: int) -> str:
    return "it ends too early" if position > len(text) else f"{text[position - 1 : position + 19]!r} was not expected"


class _Reader:
    """Turns the tree of one filter into what it means for one table of fields."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._terms = 0

    def read(self, tree: lark.Tree[lark.Token]) -> Filter:
        if tree.data == "term":
            return self._term(*tree.children)  # type: ignore[arg-type]  # the grammar puts three tokens here
        operands = tuple(self.read(child) for child in tree.children)  # type: ignore[arg-type]  # trees, here
        if tree.data == "negation":
            return Not(operands[0])
        if len(operands) == 1:
            return operands[0]
        return And(operands) if tree.data == "conjunction" else Or(operands)

    def _term(self, name: lark.Token, operator: lark.Token, value: lark.Token) -> Term:
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise InvalidFilter(f"more than {TERMS_MAX} terms", position=_at(name))
        field = self._fields.get(name)
        if field is None:
            raise InvalidFilter(f"cannot filter by {name!s}; can by: {', '.join(self._fields)}", position=_at(name))
        if str(operator) not in OPERATORS[field.kind]:
            allowed = " ".join(OPERATORS[field.kind])
            raise InvalidFilter(f"{name} takes the operators {allowed}", position=_at(operator))
        text = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.type == "STRING" else str(value)
        try:
            return Term(str(name), str(operator), READERS[field.kind](text, field))
        except (ValueError, InvalidOperation):
            raise InvalidFilter(f"{name} takes {_expected(field)}, not {text!r}", position=_at(value)) from None


def _at(token: lark.Token) -> int:
    return (token.start_pos or 0) + 1


def _expected(field: FilterField) -> str:
    return EXPECTED[field.kind] + (": " + ", ".join(field.choices) if field.choices else "")


def _read_integer(text: str, _field: FilterField) -> int:
    number = int(text)
    if abs(number) >= 2**63:
        raise ValueError(text)
    return number


def _read_decimal(text: str, _field: FilterField) -> Decimal:
    number = Decimal(text)
    if not number.is_finite() or number.adjusted() >= DECIMAL_DIGITS_MAX:
        raise ValueError(text)
    return number


def _read_time(text: str, _field: FilterField) -> int:
    """RFC 3339 as microseconds since 1970."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _read_state(text: str, field: FilterField) -> str:
    if text not in field.choices:
        raise ValueError(text)
    return text


def _read_boolean(text: str, _field: FilterField) -> bool:
    if text not in TRUTHS:
        raise ValueError(text)
    return TRUTHS[text]


COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
OPERATORS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: (*COMPARISONS, ":"),
    Kind.INTEGER: COMPARISONS,
    Kind.DECIMAL: COMPARISONS,
    Kind.TIME: COMPARISONS,
    Kind.STATE: ("=", "!="),
    Kind.BOOLEAN: ("=", "!="),
}
READERS: dict[Kind, Callable[[str, FilterField], Any]] = {
    Kind.TEXT: lambda text, field: text.removeprefix(field.prefix),
    Kind.INTEGER: _read_integer,
    Kind.DECIMAL: _read_decimal,
    Kind.TIME: _read_time,
    Kind.STATE: _read_state,
    Kind.BOOLEAN: _read_boolean,
}
EXPECTED: dict[Kind, str] = {
    Kind.TEXT: "text",
    Kind.INTEGER: "a whole number",
    Kind.DECIMAL: "a number",
    Kind.TIME: 'a time with its zone, as "2026-01-31T12:00:00Z"',
    Kind.STATE: "one of",
    Kind.BOOLEAN: "true or false",
}
