"""Compiled statements that find, insert, update and delete whole rows of one table."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import msgspec

from storekeep.server.store.sql.many_rows import RowsInsert, make_row_insert
from storekeep.server.store.sql.statements import Row, Statement, parameter
from storekeep.server.store.sql.transactions import Table, Transaction


class Rows:
    """The rows of one table.

    Args:
        table: the Peewee model.
        columns: attributes of the model that make up a row, in order.
        key: the columns that identify a row.
    """

    def __init__(self, table: type[Table], *, columns: Sequence[str], key: Sequence[str]) -> None:
        self.table = table
        self.key = tuple(key)
        self.columns = tuple(columns)
        fields = {name: getattr(table, name) for name in columns}
        self.fields = list(fields.values())
        self._names = {name: getattr(fields[name], "column_name", name) for name in columns}
        conditions = [fields[name] == parameter(name) for name in self.key]
        match = functools.partial(functools.reduce, operator.and_, conditions)
        self._find = Statement(lambda: table.select(*self.fields).where(match()))
        self._insert_many = RowsInsert(table, columns)
        self._insert = make_row_insert(table, columns)
        changed = [name for name in columns if name not in self.key]
        self._update = Statement(
            lambda: table.update({fields[name]: parameter(name) for name in changed}).where(match())
        )
        self._delete = Statement(lambda: table.delete().where(match()))
        self._find_many = Statement(self._find_many_sql)

    @property
    def _find_many_sql(self) -> str:
        name = self.table._meta.table_name
        columns = ", ".join(f"{name}.{self._names[column]}" for column in self.columns)
        match = " AND ".join(
            f"{name}.{self._names[column]} = requested.value ->> {index}" for index, column in enumerate(self.key)
        )
        return f"SELECT {columns} FROM ROWS(:keys) AS requested JOIN {name} ON {match} ORDER BY requested.key"  # noqa: S608 - names from the model

    def find(self, tx: Transaction, key: Sequence[Any]) -> Row | None:
        """Return the row with this key, or None."""
        return self._find.one_at(tx, key)

    def find_many(self, tx: Transaction, keys: Sequence[Sequence[str]]) -> list[Row]:
        """Return the existing rows with these keys, in the order of the keys."""
        return self._find_many.all(tx, keys=msgspec.json.encode(keys).decode())

    def insert(self, tx: Transaction, values: dict[str, Any]) -> None:
        """Insert a row; deferred."""
        self.insert_row(tx, [values[column] for column in self.columns])

    def insert_row(self, tx: Transaction, row: Sequence[Any]) -> None:
        """Insert a row, given as its values in the order of the columns; deferred."""
        self._insert.run_row_deferred(tx, row)

    def insert_many(self, tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows in one call; deferred."""
        self._insert_many.run_deferred(tx, [[row[column] for column in self.columns] for row in rows])

    def update(self, tx: Transaction, values: dict[str, Any]) -> None:
        """Update all columns of the row whose key is among the values."""
        self._update.run(tx, **values)

    def delete(self, tx: Transaction, key: Sequence[Any]) -> None:
        """Delete the row with this key."""
        self._delete.run(tx, **dict(zip(self.key, key, strict=True)))
