"""Filters: a subset of AIP-160. Each resource has a table of the fields that its filters may use.

    state = ACTIVE AND (display_name : "tea" OR NOT create_time < "2026-01-01T00:00:00Z")

A term is `field operator value`. The operators are `= != < <= > >=` and `:` (contains). OR binds tighter than AND, as
in AIP-160. Any other text is rejected with the position of the error.
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
"""The most terms in one filter; bounds the size of its SQL."""

NESTING_MAX = 50
"""The most parentheses and NOTs in one filter; bounds the nesting depth of its SQL."""

DECIMAL_DIGITS_MAX = 15
"""The most digits before the decimal point. In minor units of any currency, such a number fits a 64-bit integer."""

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
    """The type of a field's values in a filter."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    TIME = "time"
    STATE = "state"
    BOOLEAN = "boolean"
    SET = "set"


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field that a filter may use.

    Attributes:
        kind: the type of its values.
        choices: for STATE, the allowed names: those of the contract's enum without the prefix.
        prefix: for TEXT columns that store a bare id, the prefix of the resource name, such as `customers/`.
    """

    kind: Kind
    choices: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """A comparison, `field operator value`. The value has the type that the field's kind requires."""

    field: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Not:
    """The negation of a filter."""

    operand: Filter


@dataclass(frozen=True, slots=True)
class And:
    """A conjunction: matches if all operands match."""

    operands: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """A disjunction: matches if any operand matches."""

    operands: tuple[Filter, ...]


Filter = Term | Not | And | Or

Fields = Mapping[str, FilterField]

BOOLEANS = {"true": True, "false": False}


def parse_filter(text: str, fields: Fields) -> Filter | None:
    """Parse a filter. Return None for an empty filter, which matches everything.

    Args:
        text: the filter from the request.
        fields: the fields that it may use.

    Raises: InvalidFilter, with the position of the error.
    """
    if not text.strip():
        return None
    if text.count("(") + text.count("NOT") > NESTING_MAX:
        raise InvalidFilter(f"more than {NESTING_MAX} parentheses and NOTs", position=1)
    try:
        tree = _get_parser().parse(text)
    except lark.UnexpectedInput as error:
        position = len(text) + 1 if isinstance(error, lark.UnexpectedEOF) else _find_position(text, error)
        raise InvalidFilter(_describe_error(text, position), position=position) from None
    return _Reader(fields).read(tree)


@functools.cache
def _get_parser() -> lark.Lark:
    return lark.Lark(GRAMMAR, parser="lalr")


def _find_position(text: str, error: lark.UnexpectedInput) -> int:
    """Return the 1-based position of a syntax error."""
    position = error.pos_in_stream
    at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
    return len(text) + 1 if at_end or position is None or position < 0 else position + 1


def _describe_error(text: str, position: int) -> str:
    return "unexpected end of filter" if position > len(text) else f"unexpected {text[position - 1 : position + 19]!r}"


class _Reader:
    """Converts a parse tree to a filter, and checks it against the table of fields."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._terms = 0

    def read(self, tree: lark.Tree[lark.Token]) -> Filter:
        if tree.data == "term":
            return self._read_term(*tree.children)  # type: ignore[arg-type]  # a term has three tokens
        operands = tuple(self.read(child) for child in tree.children)  # type: ignore[arg-type]  # the rest are trees
        if tree.data == "negation":
            return Not(operands[0])
        if len(operands) == 1:
            return operands[0]
        return And(operands) if tree.data == "conjunction" else Or(operands)

    def _read_term(self, name: lark.Token, operator: lark.Token, value: lark.Token) -> Term:
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise InvalidFilter(f"more than {TERMS_MAX} terms", position=_get_position(name))
        field = self._fields.get(name)
        if field is None:
            known = ", ".join(self._fields)
            raise InvalidFilter(f"cannot filter by {name!s}; use one of: {known}", position=_get_position(name))
        if str(operator) not in OPERATORS[field.kind]:
            allowed = " ".join(OPERATORS[field.kind])
            raise InvalidFilter(f"{name} takes the operators {allowed}", position=_get_position(operator))
        text = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.type == "STRING" else str(value)
        try:
            return Term(str(name), str(operator), READERS[field.kind](text, field))
        except (ValueError, InvalidOperation):
            problem = f"{name} takes {_describe_values(field)}, not {text!r}"
            raise InvalidFilter(problem, position=_get_position(value)) from None


def _get_position(token: lark.Token) -> int:
    return (token.start_pos or 0) + 1


def _describe_values(field: FilterField) -> str:
    return VALUE_DESCRIPTIONS[field.kind] + (": " + ", ".join(field.choices) if field.choices else "")


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
    """Parse an RFC 3339 timestamp; return microseconds since 1970."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _read_state(text: str, field: FilterField) -> str:
    if text not in field.choices:
        raise ValueError(text)
    return text


def _read_boolean(text: str, _field: FilterField) -> bool:
    if text not in BOOLEANS:
        raise ValueError(text)
    return BOOLEANS[text]


COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
OPERATORS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: (*COMPARISONS, ":"),
    Kind.INTEGER: COMPARISONS,
    Kind.DECIMAL: COMPARISONS,
    Kind.TIME: COMPARISONS,
    Kind.STATE: ("=", "!="),
    Kind.BOOLEAN: ("=", "!="),
    Kind.SET: (":",),
}
READERS: dict[Kind, Callable[[str, FilterField], Any]] = {
    Kind.TEXT: lambda text, field: text.removeprefix(field.prefix),
    Kind.INTEGER: _read_integer,
    Kind.DECIMAL: _read_decimal,
    Kind.TIME: _read_time,
    Kind.STATE: _read_state,
    Kind.BOOLEAN: _read_boolean,
    Kind.SET: lambda text, _field: text,
}
VALUE_DESCRIPTIONS: dict[Kind, str] = {
    Kind.TEXT: "text",
    Kind.INTEGER: "a whole number",
    Kind.DECIMAL: "a number",
    Kind.TIME: 'a time with a time zone, such as "2026-01-31T12:00:00Z"',
    Kind.STATE: "one of",
    Kind.BOOLEAN: "true or false",
    Kind.SET: "one of its members",
}
