"""Lists: what each resource's List method can filter by, sort by and page through."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from storekeep.server.domain.errors import InvalidOrderBy
from storekeep.server.domain.standard.filters import And, Filter, FilterField, Not, Or, Term, parse_filter
from storekeep.server.domain.standard.pages import Page, PageTokens, count_fitting
from storekeep.server.store.sql.listings import SortKey, after, compare
from storekeep.server.store.sql.transactions import Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What every List method is asked.

    Attributes:
        page_size: rows at most; 0 lets the server choose.
        page_token: where to go on; empty to begin.
        filter: AIP-160, see `filters`.
        order_by: AIP-132, such as `total desc, create_time`.
        show_deleted: list softly deleted ones too.
        parent: the parent's id, where the resource has one; `-` or empty for all.
    """

    page_size: int = 0
    page_token: str = ""
    filter: str = ""
    order_by: str = ""
    show_deleted: bool = False
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """How one field of the contract stands in the database.

    Attributes:
        column: a Peewee field, or an expression of such.
        kind: how a filter reads its values; None where it cannot be filtered by.
        sortable: whether `order_by` may name it; such a column is never NULL.
        store: turns a filter's value into the column's.
        matches: what a comparison means, as SQL, by its operation, the value, and the time in microseconds; None where
            it is one with the column itself.
    """

    column: Any
    field: FilterField | None = None
    sortable: bool = False
    store: Callable[[Any], Any] = lambda value: value
    matches: Callable[[str, Any, int], Any] | None = None

    def compare(self, operation: str, value: Any, *, now_us: int) -> Any:
        """A comparison of a filter, as SQL."""
        if self.matches is not None:
            return self.matches(operation, value, now_us)
        return compare(self.column, operation, self.store(value))


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """How one resource is listed.

    Attributes:
        method: the RPC: part of what a page token is bound to.
        query: gives the unfiltered Peewee query of rows.
        columns: field of the contract -> column.
        unique: the columns that break ties; with them the order is total.
        default_order: `order_by` where the caller gives none.
        read_rows: turns rows into resources.
        deleted: the column of the time of deletion, where there is soft deletion.
        parent: the column of the parent's id, where there is one.
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
        """One page.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        conditions = self._conditions(request, now_us=tx.now_us)
        keys = self._keys(request.order_by or self.default_order)
        identity = (self.method, request.parent, request.filter, request.order_by, str(request.show_deleted))
        position = tokens.read(identity, request.page_token)
        if position is not None:
            conditions.append(after(keys, position))
        size = request.page_size or self.page_size_default
        query = self.query().select_extend(*(key.column for key in keys))
        if conditions:
            query = query.where(*conditions)
        rows = tx.run(query.order_by(*(key.sql() for key in keys)).limit(size + 1)).fetchall()
        shown = rows[:size]
        items = self.read_rows(tx, [row[: -len(keys)] for row in shown])
        fitting = count_fitting(items)
        token = tokens.write(identity, shown[fitting - 1][-len(keys) :]) if len(rows) > fitting else ""
        return Page(items[:fitting], token)

    def _conditions(self, request: ListRequest, *, now_us: int) -> list[Any]:
        conditions = []
        if self.parent is not None and request.parent not in ("", "-"):
            conditions.append(self.parent == request.parent)
        if self.deleted is not None and not request.show_deleted:
            conditions.append(self.deleted.is_null())
        fields = {name: column.field for name, column in self.columns.items() if column.field}
        wanted = parse_filter(request.filter, fields)
        if wanted is not None:
            conditions.append(self._sql(wanted, now_us=now_us))
        return conditions

    def _sql(self, wanted: Filter, *, now_us: int) -> Any:
        match wanted:
            case Term(field, operation, value):
                return self.columns[field].compare(operation, value, now_us=now_us)
            case Not(operand):
                return ~self._sql(operand, now_us=now_us)
            case And(operands):
                return functools.reduce(operator.and_, [self._sql(o, now_us=now_us) for o in operands])
            case Or(operands):
                return functools.reduce(operator.or_, [self._sql(o, now_us=now_us) for o in operands])

    def _keys(self, order_by: str) -> Sequence[SortKey]:
        """The sort keys, ending in the unique ones, in the direction of the last that was asked for.

        Raises: InvalidOrderBy.
        """
        sortable = tuple(name for name, column in self.columns.items() if column.sortable)
        keys: list[SortKey] = []
        for term in order_by.split(","):
            words = term.split()
            if len(words) not in (1, 2) or words[0] not in sortable or words[1:] not in ([], ["asc"], ["desc"]):
                raise InvalidOrderBy(term.strip(), sortable=sortable)
            keys.append(SortKey(self.columns[words[0]].column, words[1:] == ["desc"]))
        return [*keys, *(SortKey(column, keys[-1].descending) for column in self.unique)]
