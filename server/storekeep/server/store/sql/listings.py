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

OPERATIONS: dict[str, Callable[[Any, Any], peewee.Expression]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    ":": lambda column, value: column.contains(value),
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
    return compare(peewee.fn.COALESCE(column, ""), operation, value)


def compare_optional(column: Any, operation: str, value: Any) -> peewee.Expression:
    """Return a comparison with a column in which NULL differs from every value. Its result is never NULL."""
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
