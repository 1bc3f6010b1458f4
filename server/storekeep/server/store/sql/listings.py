"""Listing a table page by page: filter and order as SQL, and the place where the last page ended.

Keyset paging: a page begins after the sort keys of the last row before it, so that a page deep inside
costs what the first one costs.
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

    def sql(self) -> peewee.Ordering:
        """As ORDER BY has it."""
        ordering: peewee.Ordering = self.column.desc() if self.descending else self.column.asc()
        return ordering

    def beyond(self, value: Any) -> peewee.Expression:
        """True of rows behind `value` in this order."""
        condition: peewee.Expression = self.column < value if self.descending else self.column > value
        return condition


def compare(column: Any, operation: str, value: Any) -> peewee.Expression:
    """One comparison, as SQL."""
    return OPERATIONS[operation](column, value)


def compare_absent(column: Any, operation: str, value: str) -> peewee.Expression:
    """One comparison with a text that is NULL where it is empty, as SQL that is true or false and never NULL."""
    if operation == "=":
        equal: peewee.Expression = column.is_null(False) & (column == value) if value else column.is_null()
        return equal
    return compare(peewee.fn.COALESCE(column, ""), operation, value)


def after(keys: Sequence[SortKey], position: Sequence[Any]) -> peewee.Expression:
    """True of rows that come after `position`, which has a value for each key.

    With one direction for all it is a row comparison, which an index answers by itself.
    """
    if len({key.descending for key in keys}) == 1:
        columns = peewee.Tuple(*(key.column for key in keys))
        return SortKey(columns, keys[0].descending).beyond(peewee.Tuple(*position))
    steps = []
    for index, key in enumerate(keys):
        equal = [k.column == v for k, v in zip(keys[:index], position, strict=False)]
        steps.append(functools.reduce(operator.and_, [*equal, key.beyond(position[index])]))
    expression: peewee.Expression = functools.reduce(operator.or_, steps)
    return expression


def choose_by_currency(currency: Any, digits_of: Mapping[str, int], values: Mapping[int, Any]) -> Any:
    """The value for the digits of each row's currency; most have two, so that is the one that is not spelt out.

    Args:
        currency: the column of the currency code.
        digits_of: currency code -> digits behind the point.
        values: digits -> value.
    """
    usual = 2
    # As they are: the column that they are compared with would cut off what is finer than its unit. And said to be
    # numbers, which PostgreSQL cannot tell from where they stand.
    values = {digits: peewee.Cast(peewee.Value(value, converter=False), "NUMERIC") for digits, value in values.items()}
    cases = [
        (currency.in_([code for code, d in digits_of.items() if d == digits]), value)
        for digits, value in values.items()
        if digits != usual
    ]
    return peewee.Case(None, cases, values[usual])
