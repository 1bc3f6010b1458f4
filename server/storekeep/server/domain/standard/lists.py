"""Lists: filtering, sorting and paging for the List method of each resource."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

from storekeep.server.domain.errors import InvalidOrderBy
from storekeep.server.domain.keys.personal_fields import make_token
from storekeep.server.domain.standard.filters import And, Filter, FilterField, Kind, Not, Or, Term, parse_filter
from storekeep.server.domain.standard.pages import TOTAL_MAX, Page, PageTokens, count_fitting_items, limit_page_size
from storekeep.server.store.sql.listings import (
    PRESENT,
    SortKey,
    compare,
    compare_map,
    compare_optional,
    make_cursor_condition,
    select_count,
)
from storekeep.server.store.sql.transactions import Transaction

T = TypeVar("T")


ALL_PARENTS = "-"
"""The parent id of requests for the resources of all parents (AIP-159)."""


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The parameters that all List methods share.

    Attributes:
        page_size: the most rows to return; 0 for the default. More than `PAGE_SIZE_MAX` counts as that.
        page_token: the token of the page to return; empty for the first page.
        filter: an AIP-160 filter; see `filters`.
        order_by: an AIP-132 order, such as `total desc, create_time`.
        show_deleted: whether to include soft-deleted resources.
        parent: the id of the parent, for resources with one; `-` or empty for all parents.
        include_total_size: whether to count the rows of all pages.
        fields: the contract's fields that the caller wants, without their parts; empty for all. A list may omit others
            if that is cheaper.
        hidden: fields that the caller may not filter or sort by, as it may not read them.
    """

    page_size: int = 0
    page_token: str = ""
    filter: str = ""
    order_by: str = ""
    show_deleted: bool = False
    parent: str = ""
    include_total_size: bool = False
    fields: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    def wants(self, field: str) -> bool:
        """Return whether the caller wants a field."""
        return not self.fields or field in self.fields


ABSENT_VALUES: dict[Kind, Any] = {
    Kind.TEXT: "",
    Kind.ENCRYPTED: "",
    Kind.STATE: "",
    Kind.INTEGER: 0,
    Kind.DECIMAL: Decimal(0),
    Kind.BOOLEAN: False,
    Kind.TIME: None,
}
"""The value of a field that has none, by kind: `field:*` matches all others (AIP-160)."""


@dataclass(frozen=True, slots=True)
class Column:
    """The database column of one contract field.

    Attributes:
        column: a Peewee field or expression.
        field: how a filter reads its values; None if the field cannot be filtered by.
        sortable: whether `order_by` may name it. A sortable column is never NULL.
        store: converts a filter value to a column value.
        index: for ENCRYPTED, the name under which the blind index of the column was made.
        matches: returns the SQL of a comparison, given its operation, its value and the current time in microseconds
            since 1970; None to compare with the column itself.
    """

    column: Any
    field: FilterField | None = None
    sortable: bool = False
    store: Callable[[Any], Any] = lambda value: value
    index: str = ""
    matches: Callable[[str, Any, int], Any] | None = None

    def compare(self, tx: Transaction, term: Term) -> Any:
        """Return the SQL of a comparison in a filter."""
        kind = None if self.field is None else self.field.kind
        if kind is Kind.MAP:
            return compare_map(self.column, term.key, term.operator, term.value)
        operation, value = term.operator, term.value
        if operation == PRESENT and kind in ABSENT_VALUES:
            operation, value = "!=", ABSENT_VALUES[kind]
        if kind is Kind.ENCRYPTED and value:
            value = make_token(tx, self.index, value)
        if self.matches is not None:
            return self.matches(operation, value, tx.now_us)
        value = value if value is None else self.store(value)
        is_optional = getattr(self.column, "null", False) is True
        return (compare_optional if is_optional else compare)(self.column, operation, value)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The list of one resource type.

    Attributes:
        method: the RPC. A page token is valid for its method only.
        query: returns the unfiltered Peewee query.
        columns: contract field -> column.
        unique: the columns that break ties, so that the order is total.
        read_rows: converts rows to resources.
        default_order: `order_by` for requests without one.
        deleted: the column of the deletion time; None without soft deletion.
        parent: the column of the parent id; None without a parent.
        page_size_default: rows on a page for requests without a page size.
    """

    method: str
    query: Callable[[], Any]
    columns: dict[str, Column]
    unique: tuple[Any, ...]
    read_rows: Callable[[Transaction, list[Any]], list[T]]
    default_order: str = "create_time"
    deleted: Any = None
    parent: Any = None
    page_size_default: int = 50

    def page(self, tx: Transaction, request: ListRequest, *, tokens: PageTokens) -> Page[T]:
        """Return one page.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        conditions = self._build_conditions(tx, request)
        keys = self._parse_order(request.order_by or self.default_order, request.hidden)
        identity = (self.method, request.parent, request.filter, request.order_by, str(request.show_deleted))
        position = tokens.read(identity, request.page_token)
        matching = self.query().where(*conditions) if conditions else self.query()
        size = limit_page_size(request.page_size, default=self.page_size_default)
        query = matching.select_extend(*(key.column for key in keys))
        if position is not None:
            query = query.where(make_cursor_condition(keys, position))
        rows = tx.run(query.order_by(*(key.make_ordering() for key in keys)).limit(size + 1)).fetchall()
        page_rows = rows[:size]
        items = self.read_rows(tx, [row[: -len(keys)] for row in page_rows])
        count = count_fitting_items(items)
        token = tokens.write(identity, page_rows[count - 1][-len(keys) :]) if len(rows) > count else ""
        if not request.include_total_size:
            return Page(items[:count], token)
        total = tx.run(select_count(matching, rows_max=TOTAL_MAX + 1)).fetchone()[0]
        return Page(items[:count], token, min(total, TOTAL_MAX), total > TOTAL_MAX)

    def _build_conditions(self, tx: Transaction, request: ListRequest) -> list[Any]:
        conditions = []
        if self.parent is not None and request.parent not in ("", ALL_PARENTS):
            conditions.append(self.parent == request.parent)
        if self.deleted is not None and not request.show_deleted:
            conditions.append(self.deleted.is_null())
        fields = {
            name: column.field for name, column in self.columns.items() if column.field and name not in request.hidden
        }
        parsed = parse_filter(request.filter, fields)
        if parsed is not None:
            conditions.append(self._build_sql(tx, parsed))
        return conditions

    def _build_sql(self, tx: Transaction, parsed: Filter) -> Any:
        match parsed:
            case Term():
                return self.columns[parsed.field].compare(tx, parsed)
            case Not(operand):
                return ~self._build_sql(tx, operand)
            case And(operands):
                return functools.reduce(operator.and_, [self._build_sql(tx, o) for o in operands])
            case Or(operands):
                return functools.reduce(operator.or_, [self._build_sql(tx, o) for o in operands])

    def _parse_order(self, order_by: str, hidden: frozenset[str]) -> Sequence[SortKey]:
        """Return the requested sort keys, then the unique keys in the direction of the last requested key.

        Raises: InvalidOrderBy.
        """
        sortable = tuple(name for name, column in self.columns.items() if column.sortable and name not in hidden)
        keys: list[SortKey] = []
        for term in order_by.split(","):
            words = term.split()
            if len(words) not in (1, 2) or words[0] not in sortable or words[1:] not in ([], ["asc"], ["desc"]):
                raise InvalidOrderBy(term.strip(), sortable=sortable)
            keys.append(SortKey(self.columns[words[0]].column, words[1:] == ["desc"]))
        return [*keys, *(SortKey(column, keys[-1].descending) for column in self.unique)]
