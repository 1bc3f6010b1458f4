"""The rows of one table as statements that are built once: find, insert, one or many of them, replace, remove."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import msgspec

from storekeep.server.store.sql.many_rows import RowsInsert
from storekeep.server.store.sql.statements import Row, Statement, bound
from storekeep.server.store.sql.transactions import Table, Transaction


class Rows:
    """One table, read and written whole rows at a time.

    Args:
        table: the Peewee model.
        columns: the attributes of the model that make a row, in order.
        key: the columns that tell rows apart.
    """

    def __init__(self, table: type[Table], *, columns: Sequence[str], key: Sequence[str]) -> None:
        self.table = table
        self.key = tuple(key)
        self.columns = tuple(columns)
        fields = {name: getattr(table, name) for name in columns}
        self.fields = list(fields.values())
        self._names = {name: getattr(fields[name], "column_name", name) for name in columns}
        match = functools.partial(functools.reduce, operator.and_, [fields[name] == bound(name) for name in self.key])
        self._find = Statement(lambda: table.select(*self.fields).where(match()))
        self._insert_many = RowsInsert(table, columns)
        self._insert = Statement(lambda: table.insert({fields[name]: bound(name) for name in columns}))
        changed = [name for name in columns if name not in self.key]
        self._update = Statement(lambda: table.update({fields[name]: bound(name) for name in changed}).where(match()))
        self._delete = Statement(lambda: table.delete().where(match()))
        self._find_many = Statement(self._find_many_sql)

    @property
    def _find_many_sql(self) -> str:
        name = self.table._meta.table_name
        columns = ", ".join(f"{name}.{self._names[column]}" for column in self.columns)
        match = " AND ".join(
            f"{name}.{self._names[column]} = wanted.value ->> {place}" for place, column in enumerate(self.key)
        )
        return f"SELECT {columns} FROM ROWS(:keys) AS wanted JOIN {name} ON {match} ORDER BY wanted.key"  # noqa: S608 - names from the model

    def find(self, tx: Transaction, key: Sequence[Any]) -> Row | None:
        """The row with this key, or None."""
        return self._find.one_at(tx, key)

    def find_many(self, tx: Transaction, keys: Sequence[Sequence[str]]) -> list[Row]:
        """The rows with these keys that exist, in the order of the keys."""
        return self._find_many.all(tx, keys=msgspec.json.encode(keys).decode())

    def insert(self, tx: Transaction, values: dict[str, Any]) -> None:
        """Add a row."""
        self._insert.run_later(tx, **values)

    def insert_many(self, tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, all of them at once."""
        self._insert_many.run_later(tx, [[row[column] for column in self.columns] for row in rows])

    def update(self, tx: Transaction, values: dict[str, Any]) -> None:
        """Replace the row with the key that is among the values."""
        self._update.run(tx, **values)

    def delete(self, tx: Transaction, key: Sequence[Any]) -> None:
        """Remove the row with this key."""
        self._delete.run(tx, **dict(zip(self.key, key, strict=True)))
