"""Filters: a subset of AIP-160. Each resource has a table of the fields that its filters may use.

    state = ACTIVE AND (display_name : "tea" OR -labels.season = "autumn*")

A term is `field operator value`. The operators are `= != < <= > >=` and `:` (has). OR binds tighter than AND, as in
AIP-160. Any other text is rejected with the position of the error.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, NamedTuple

import lark

from storekeep.server.domain.errors import InvalidFilter
from storekeep.server.store.sql.listings import HAS, PREFIX, PRESENT

TERMS_MAX = 50
"""The most terms in one filter; bounds the size of its SQL."""

NESTING_MAX = 50
"""The most parentheses and negations in one filter; bounds the nesting depth of its SQL."""

DECIMAL_DIGITS_MAX = 15
"""The most digits before the decimal point. In minor units of any currency, such a number fits a 64-bit integer."""

NUMBER = re.compile(r"[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""What numbers look like in filters. Python reads more: `1_000`, blanks around it, and the digits of every script."""

GRAMMAR = r"""
    start: conjunction?
    conjunction: disjunction (_AND disjunction)*
    disjunction: factor (_OR factor)*
    ?factor: negation | term | group
    group: "(" conjunction ")"
    negation: (_NOT | _MINUS) factor
    term: path OPERATOR (WORD | STRING)
    path: NAME (_DOT (KEY | STRING))*

    _AND.2: /AND(?![A-Za-z0-9_])/
    _OR.2: /OR(?![A-Za-z0-9_])/
    _NOT.2: /NOT(?![A-Za-z0-9_])/
    _MINUS: "-"
    _DOT: "."
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">" | ":"
    STRING: /"(\\[^\x00]|[^"\\\x00])*"/ | /'(\\[^\x00]|[^'\\\x00])*'/
    NAME: /[A-Za-z_][A-Za-z0-9_]*/
    KEY: /[A-Za-z0-9_-]+/
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
    ELEMENT = "element"
    """Text in each element of a repeated field."""
    ENCRYPTED = "encrypted"
    """Text that is stored encrypted, with a blind index that compares whole values only."""
    MAP = "map"
    """A map of text; a filter names the map, or one of its keys after a dot."""


@dataclass(frozen=True, slots=True)
class FilterField:
    """A field that a filter may use.

    Attributes:
        kind: the type of its values.
        choices: for STATE, the allowed names: those of the contract's enum without the prefix.
        prefix: what values may begin with although the column stores them without it: for TEXT the collection of a
            resource name, such as `customers/`, for STATE the enum's prefix, such as `ORDER_STATE_`.
        find_problem: for TEXT, returns why no resource can have a value or begin like one that ends in `*`; empty if
            some can.
        terms_max: the most terms of one filter with the field; fewer if each reads other rows for every row.
    """

    kind: Kind
    choices: tuple[str, ...] = ()
    prefix: str = ""
    find_problem: Callable[[str], str] = lambda _text: ""
    terms_max: int = TERMS_MAX


@dataclass(frozen=True, slots=True)
class Term:
    """A comparison, `field operator value`.

    Attributes:
        field: the name in the table of fields.
        operator: an operator of filters, or `PREFIX`, `PRESENT` or `HAS`.
        value: has the type that the field's kind requires; None for `PRESENT`.
        key: the key in a map; empty for the map itself and for all other fields.
    """

    field: str
    operator: str
    value: Any
    key: str = ""


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
    try:
        tree = _get_parser().parse(text)
    except lark.UnexpectedInput as error:
        position = len(text) + 1 if isinstance(error, lark.UnexpectedEOF) else _find_position(text, error)
        raise InvalidFilter(_describe_error(text, position), position=position) from None
    return _Reader(fields).read(tree)


@functools.cache
def _get_parser() -> lark.Lark:
    return lark.Lark(GRAMMAR, parser="lalr", postlex=_NestingLimit())


class _NestingLimit:
    """Rejects a filter with too many parentheses and negations before it is parsed. Strings are tokens of their own."""

    always_accept = ()

    def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
        """Yield the tokens.

        Raises: InvalidFilter.
        """
        nesting = 0
        for token in stream:
            nesting += token.type in ("LPAR", "_NOT", "_MINUS")
            if nesting > NESTING_MAX:
                raise InvalidFilter(f"more than {NESTING_MAX} parentheses and negations", position=1)
            yield token


def _find_position(text: str, error: lark.UnexpectedInput) -> int:
    """Return the 1-based position of a syntax error."""
    position = error.pos_in_stream
    at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
    return len(text) + 1 if at_end or position is None or position < 0 else position + 1


def _describe_error(text: str, position: int) -> str:
    return "unexpected end of filter" if position > len(text) else f"unexpected {text[position - 1 : position + 19]!r}"


class _Literal(NamedTuple):
    """A value as written: its text without escapes, and the indexes of the `*` in it that are not escaped."""

    text: str
    stars: tuple[int, ...] = ()


class _Reader:
    """Converts a parse tree to a filter, and checks it against the table of fields."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._terms = 0
        self._terms_by_field: collections.Counter[str] = collections.Counter()

    def read(self, tree: lark.Tree[lark.Token]) -> Filter:
        if tree.data == "term":
            return self._read_term(*tree.children)  # type: ignore[arg-type]  # a term has a path and two tokens
        operands = tuple(self.read(child) for child in tree.children)  # type: ignore[arg-type]  # the rest are trees
        if tree.data == "negation":
            return Not(operands[0])
        if len(operands) == 1:
            return operands[0]
        return And(operands) if tree.data == "conjunction" else Or(operands)

    def _read_term(self, path: lark.Tree[lark.Token], operator: lark.Token, value: lark.Token) -> Filter:
        self._terms += 1
        start = _get_position(path.children[0])  # type: ignore[arg-type]  # a path has only tokens
        if self._terms > TERMS_MAX:
            raise InvalidFilter(f"more than {TERMS_MAX} terms", position=start)
        name, key = self._find_field(path, position=start)
        field, literal = self._fields[name], _read_literal(value)
        self._terms_by_field[name] += 1
        if self._terms_by_field[name] > field.terms_max:
            raise InvalidFilter(f"more than {field.terms_max} terms with {name}, which are slow", position=start)
        if operator == ":" and value == "*":
            return Term(name, PRESENT, None, key)
        operators = KEY_OPERATORS if key else OPERATORS[field.kind]
        if operator not in operators:
            shown = f"{name}.{key}" if key else name
            reason = ", because it is stored encrypted" if field.kind is Kind.ENCRYPTED else ""
            problem = f"{shown} takes the operators {' '.join(operators)}{reason}"
            raise InvalidFilter(problem, position=_get_position(operator))
        try:
            read = READERS[field.kind](literal, field)
        except (ValueError, InvalidOperation):
            problem = f"{name} takes {_describe_values(field)}, not {literal.text!r}"
            raise InvalidFilter(problem, position=_get_position(value)) from None
        if not isinstance(read, _Literal):
            return Term(name, str(operator), read, key)
        unknown = field.find_problem(read.text) if operator in PREFIX_OPERATORS[Kind.TEXT] else ""
        if unknown:
            raise InvalidFilter(unknown, position=_get_position(value))
        if not read.stars:
            return Term(name, str(operator), read.text, key)
        prefix_operators = KEY_OPERATORS if key else PREFIX_OPERATORS.get(field.kind, ())
        if operator not in prefix_operators or read.stars != (len(read.text) - 1,) or len(read.text) == 1:
            reason = "because the field is stored encrypted" if field.kind is Kind.ENCRYPTED else ""
            raise InvalidFilter(_describe_stars(prefix_operators, reason), position=_get_position(value))
        prefix = Term(name, PREFIX, read.text[:-1], key)
        return Not(prefix) if operator == "!=" else prefix

    def _find_field(self, path: lark.Tree[lark.Token], *, position: int) -> tuple[str, str]:
        """Return the field that a path names, and the key in it if it is a map."""
        tokens = [token for token in path.children if isinstance(token, lark.Token)]
        first, *rest = (_read_literal(token).text for token in tokens)
        name = ".".join((first, *rest))
        if name in self._fields:
            return name, ""
        if first in self._fields and self._fields[first].kind is Kind.MAP:
            return first, ".".join(rest)
        known = ", ".join(f"{name}.KEY" if f.kind is Kind.MAP else name for name, f in self._fields.items())
        raise InvalidFilter(f"cannot filter by {name}; use one of: {known}", position=position)


def _read_literal(token: lark.Token) -> _Literal:
    if token.type != "STRING":
        return _Literal(str(token), tuple(index for index, character in enumerate(token) if character == "*"))
    parts = re.findall(r"\\?.", token[1:-1], re.DOTALL)
    return _Literal("".join(part[-1] for part in parts), tuple(i for i, part in enumerate(parts) if part == "*"))


def _describe_stars(operators: tuple[str, ...], reason: str) -> str:
    """Return what to write instead of a `*` that a term does not support.

    Args:
        reason: why no term with the field supports it; empty without a reason.
    """
    where = f"works only at the end of a text with {' '.join(operators)}" if operators else "does not work here"
    where = f"{where}, {reason}" if reason else where
    return f"* {where}; :* finds fields that have a value; write \\* in quotes for the character"


def _get_position(token: lark.Token) -> int:
    return (token.start_pos or 0) + 1


def _describe_values(field: FilterField) -> str:
    return VALUE_DESCRIPTIONS[field.kind] + (": " + ", ".join(field.choices) if field.choices else "")


def _read_text(literal: _Literal, field: FilterField) -> _Literal:
    """Return the text without the field's prefix."""
    text = literal.text.removeprefix(field.prefix)
    cut = len(literal.text) - len(text)
    return _Literal(text, tuple(index - cut for index in literal.stars if index >= cut))


def _read_integer(literal: _Literal, _field: FilterField) -> int:
    if not NUMBER.fullmatch(literal.text) or abs(number := int(literal.text)) >= 2**63:
        raise ValueError(literal.text)
    return number


def _read_decimal(literal: _Literal, _field: FilterField) -> Decimal:
    if not DECIMAL.fullmatch(literal.text) or (number := Decimal(literal.text)).adjusted() >= DECIMAL_DIGITS_MAX:
        raise ValueError(literal.text)
    return number


def _read_time(literal: _Literal, _field: FilterField) -> int:
    """Parse an RFC 3339 timestamp; return microseconds since 1970."""
    time = datetime.fromisoformat(literal.text)
    if time.tzinfo is None:
        raise ValueError(literal.text)
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _read_state(literal: _Literal, field: FilterField) -> str:
    state = literal.text.removeprefix(field.prefix)
    if state not in field.choices:
        raise ValueError(state)
    return state


def _read_boolean(literal: _Literal, _field: FilterField) -> bool:
    if literal.text not in BOOLEANS:
        raise ValueError(literal.text)
    return BOOLEANS[literal.text]


COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
OPERATORS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: (*COMPARISONS, ":"),
    Kind.INTEGER: COMPARISONS,
    Kind.DECIMAL: COMPARISONS,
    Kind.TIME: COMPARISONS,
    Kind.STATE: ("=", "!="),
    Kind.BOOLEAN: ("=", "!="),
    Kind.ELEMENT: (HAS,),
    Kind.ENCRYPTED: ("=", "!="),
    Kind.MAP: (HAS,),
}
"""The operators of each kind. All kinds also take `:*`, which finds fields that have a value."""
KEY_OPERATORS = ("=", "!=", HAS)
"""The operators of a key of a map."""
PREFIX_OPERATORS: dict[Kind, tuple[str, ...]] = {Kind.TEXT: ("=", "!="), Kind.ELEMENT: (HAS,)}
"""The operators that compare only the beginning of a text that ends in `*`; for a key of a map, all of its own."""
READERS: dict[Kind, Callable[[_Literal, FilterField], Any]] = {
    Kind.TEXT: _read_text,
    Kind.INTEGER: _read_integer,
    Kind.DECIMAL: _read_decimal,
    Kind.TIME: _read_time,
    Kind.STATE: _read_state,
    Kind.BOOLEAN: _read_boolean,
    Kind.ELEMENT: _read_text,
    Kind.ENCRYPTED: _read_text,
    Kind.MAP: _read_text,
}
VALUE_DESCRIPTIONS: dict[Kind, str] = {
    Kind.TEXT: "text",
    Kind.INTEGER: "a whole number",
    Kind.DECIMAL: "a number",
    Kind.TIME: 'a time with a time zone, such as "2026-01-31T12:00:00Z"',
    Kind.STATE: "one of",
    Kind.BOOLEAN: "true or false",
    Kind.ELEMENT: "text",
    Kind.ENCRYPTED: "text",
    Kind.MAP: "text",
}
