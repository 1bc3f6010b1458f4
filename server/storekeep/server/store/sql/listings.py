"""Paged lists of a table: filter and sort order as SQL, with keyset pagination.

A page starts after the sort keys of the last row of the page before it, so every page costs the same.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

HAS = ":"
"""The operation of text that contains another, and of repeated fields and maps that have an element."""
PREFIX = "prefix"
"""The operation of text that begins with another."""
PRESENT = "present"
"""The operation of fields that have a value: not NULL, empty, 0 or false."""


def match_prefix(column: Any, prefix: str) -> peewee.Expression:
    """Return the condition for text that begins with `prefix`, as a range that can use an index.

    Args:
        prefix: not empty. Text sorts by its code points.
    """
    end = prefix.rstrip(LAST_CHARACTER)
    lower: peewee.Expression = column >= prefix
    if not end:
        return lower
    following = ord(end[-1]) + 1
    if following == FIRST_SURROGATE:
        following = LAST_SURROGATE + 1
    upper: peewee.Expression = column < end[:-1] + chr(following)
    return peewee.Expression(lower, peewee.OP.AND, upper)


FIRST_SURROGATE, LAST_SURROGATE = 0xD800, 0xDFFF
"""The code points that cannot stand in text."""
LAST_CHARACTER = "\U0010ffff"
"""Sorts after every other character."""
OPERATIONS: dict[str, Callable[[Any, Any], peewee.Expression]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    HAS: lambda column, value: column.contains(value),
    PREFIX: match_prefix,
}


@dataclass(frozen=True, slots=True)
class SortKey:
    """One column that a list is sorted by."""

    column: Any
    descending: bool = False

    def make_ordering(self) -> peewee.Ordering:
        """Return the term for ORDER BY."""
        ordering: peewee.Ordering = self.column.desc() if self.descending else self.column.asc()
        return ordering

    def make_condition(self, value: Any) -> peewee.Expression:
        """Return the condition for rows that sort after `value`."""
        condition: peewee.Expression = self.column < value if self.descending else self.column > value
        return condition


def compare(column: Any, operation: str, value: Any) -> peewee.Expression:
    """Return a comparison as SQL."""
    return OPERATIONS[operation](column, value)


def compare_absent(column: Any, operation: str, value: str) -> peewee.Expression:
    """Return a comparison with a text column in which NULL means empty. Its result is never NULL."""
    if operation == "=":
        equal: peewee.Expression = column.is_null(False) & (column == value) if value else column.is_null()
        return equal
    if operation == PREFIX:
        matching: peewee.Expression = column.is_null(False) & match_prefix(column, value)
        return matching
    return compare(peewee.fn.COALESCE(column, ""), operation, value)


def select_json_member(column: Any, member: str) -> Any:
    """Return a member of a JSON object as text, as SQL; empty text if it or the object is missing.

    Args:
        member: the name of the member, a constant.
    """
    text = peewee.NodeList((peewee.SQL("MEMBER("), column, peewee.SQL(f", '{member}')")), glue="")
    return peewee.fn.COALESCE(text, "")


def compare_map(column: Any, key: str, operation: str, value: str | None) -> Any:
    """Return a comparison with a map of text that is stored as a JSON object.

    Args:
        key: the key whose value is compared; empty to compare with the keys themselves.
        operation: `=` or `:`, `!=`, `PREFIX` or `PRESENT`. A missing key differs from every value.
        value: None for `PRESENT`.
    """
    if operation == "!=":
        return ~compare_map(column, key, "=", value)
    conditions: list[Any] = [peewee.Expression(peewee.SQL("member.key"), peewee.OP.EQ, key)] if key else []
    if value is not None:
        conditions.append(_compare_json_text(peewee.SQL("member.value" if key else "member.key"), operation, value))
    members = peewee.NodeList((peewee.SQL("PAIRS("), column, peewee.SQL(") AS member")), glue="")
    return select_exists(members, conditions)


def compare_elements(column: Any, operation: str, value: str | None) -> peewee.Expression:
    """Return whether a list of text that is stored as a JSON array has an element, as SQL.

    Args:
        operation: `:`, `PREFIX`, or `PRESENT` for any element.
        value: None for `PRESENT`.
    """
    text = peewee.SQL("element.value")
    elements = peewee.NodeList((peewee.SQL("TEXTS("), column, peewee.SQL(") AS element")), glue="")
    return select_exists(elements, [] if value is None else [_compare_json_text(text, operation, value)])


def _compare_json_text(text: Any, operation: str, value: str) -> peewee.Expression:
    if operation == PREFIX:  # not a range, because the values of JSON have the database's collation
        text = peewee.fn.SUBSTR(text, 1, len(value))
    return peewee.Expression(text, peewee.OP.EQ, value)


def select_exists(rows: Any, conditions: Sequence[Any]) -> peewee.Expression:
    """Return whether a table has a row that meets all conditions, as SQL."""
    condition = functools.reduce(operator.and_, conditions) if conditions else peewee.SQL("1 = 1")
    query = (peewee.SQL("(SELECT 1 FROM"), rows, peewee.SQL("WHERE"), condition, peewee.SQL(")"))
    return peewee.Expression(peewee.SQL("EXISTS"), "", peewee.NodeList(query))


def select_count(query: Any, *, rows_max: int) -> Any:
    """Return a query for the number of rows of a query, at most `rows_max`: it stops counting there."""
    rows = query.columns(peewee.SQL("1")).limit(rows_max).alias("matching")
    return peewee.Select([rows], [peewee.fn.COUNT(peewee.SQL("*"))])


def compare_optional(column: Any, operation: str, value: Any) -> peewee.Expression:
    """Return a comparison with a column in which NULL differs from every value. Its result is never NULL.

    Args:
        value: None, with `!=`, for rows that have a value.
    """
    if value is None:
        present: peewee.Expression = column.is_null(False)
        return present
    comparison = compare(column, operation, value)
    expression: peewee.Expression = (
        column.is_null() | comparison if operation == "!=" else column.is_null(False) & comparison
    )
    return expression


def make_cursor_condition(keys: Sequence[SortKey], cursor: Sequence[Any]) -> peewee.Expression:
    """Return the condition for rows that sort after a cursor.

    If all keys have the same direction, it is a row comparison, which can use an index.

    Args:
        cursor: one value per key.
    """
    if len({key.descending for key in keys}) == 1:
        columns = peewee.Tuple(*(key.column for key in keys))
        return SortKey(columns, keys[0].descending).make_condition(peewee.Tuple(*cursor))
    steps = []
    for index, key in enumerate(keys):
        equal = [k.column == v for k, v in zip(keys[:index], cursor, strict=False)]
        steps.append(functools.reduce(operator.and_, [*equal, key.make_condition(cursor[index])]))
    expression: peewee.Expression = functools.reduce(operator.or_, steps)
    return expression


def choose_by_currency(currency: Any, digits_by_currency: Mapping[str, int], values: Mapping[int, Any]) -> Any:
    """Return the value for the number of minor digits of each row's currency, as SQL.

    Args:
        currency: the column of the currency code.
        digits_by_currency: currency code -> number of minor digits.
        values: number of minor digits -> value.
    """
    usual = 2  # most currencies, so it is the default of the CASE
    # Unconverted, because the field would round them to its unit. Cast, because PostgreSQL cannot infer their type.
    values = {digits: peewee.Cast(peewee.Value(value, converter=False), "NUMERIC") for digits, value in values.items()}
    cases = [
        (currency.in_([code for code, d in digits_by_currency.items() if d == digits]), value)
        for digits, value in values.items()
        if digits != usual
    ]
    return peewee.Case(None, cases, values[usual])
