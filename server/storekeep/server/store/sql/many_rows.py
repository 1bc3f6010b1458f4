"""Statements that write any number of rows in one database call.

PostgreSQL takes the rows as JSON in one statement, because each statement costs a round trip. SQLite runs the statement
once per row, which is faster than parsing JSON: 16 µs instead of 26 µs for three rows (2026-11-24).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table, Transaction


class RowsStatement:
    """A statement that is run for several rows.

    Args:
        one: SQL for one row, with one `?` per value.
        together: SQL for all rows, passed as `rows`: a JSON array of arrays.
    """

    __slots__ = ("_statement",)

    def __init__(self, one: str, *, together: str) -> None:
        self._statement = Statement(one, postgresql=together)

    def run_deferred(self, tx: Transaction, rows: Sequence[Sequence[Any]]) -> None:
        """Run the statement for each row, in order; deferred, see `Statement.run_deferred`."""
        self._statement.run_many(tx, rows)


class RowsInsert(RowsStatement):
    """Inserts rows into one table.

    Args:
        table: the Peewee model.
        columns: attributes of the model, in the order of the values of a row. Other columns get their defaults.
    """

    __slots__ = ()

    def __init__(self, table: type[Table], columns: Sequence[str]) -> None:
        fields = [getattr(table, name) for name in columns]
        into = _build_into(table, columns)
        values = ", ".join(_extract_sql(index, field) for index, field in enumerate(fields))
        super().__init__(
            f"{into} VALUES ({', '.join('?' * len(columns))})",
            together=f"{into} SELECT {values} FROM ROWS(:rows) AS given ORDER BY given.key",  # noqa: S608 - names from the model
        )


def make_row_insert(table: type[Table], columns: Sequence[str], *, end: str = "") -> Statement:
    """Return a statement that inserts one row, to run with its values in the order of the columns.

    Args:
        table: the Peewee model.
        columns: attributes of the model. Other columns get their defaults.
        end: the end of the statement, such as `ON CONFLICT DO NOTHING`.
    """
    into = _build_into(table, columns)
    numbered = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    return Statement(
        f"{into} VALUES ({', '.join('?' * len(columns))}) {end}", postgresql=f"{into} VALUES ({numbered}) {end}"
    )


def _build_into(table: type[Table], columns: Sequence[str]) -> str:
    """Return the beginning of an INSERT."""
    names = ", ".join(f'"{getattr(table, name).column_name}"' for name in columns)
    return f"INSERT INTO {table._meta.table_name} ({names})"


def build_select_columns(table: type[Table], columns: Sequence[str]) -> str:
    """Return the qualified column names for a SELECT, separated by commas.

    Args:
        columns: attributes of the model.
    """
    return ", ".join(f"{table._meta.table_name}.{getattr(table, name).column_name}" for name in columns)


def build_update(table: type[Table], columns: Sequence[str], *, changed: Sequence[str], key: Sequence[str]) -> str:
    """Return an UPDATE that takes the new rows from `ROWS(:rows)`, a JSON array of arrays.

    It ends with its WHERE condition, to which the caller can append further ones.

    Args:
        columns: attributes of the model, in the order of the values of a row.
        changed: the columns to update.
        key: the columns that identify the row.
    """
    values = {name: _extract_sql(index, getattr(table, name)) for index, name in enumerate(columns)}
    names = {name: getattr(table, name).column_name for name in columns}
    changes = ", ".join(f"{names[name]} = {values[name]}" for name in changed)
    match = " AND ".join(f"{table._meta.table_name}.{names[name]} = {values[name]}" for name in key)
    return f"UPDATE {table._meta.table_name} SET {changes} FROM ROWS(:rows) AS given WHERE {match}"  # noqa: S608 - names from the model


def _extract_sql(index: int, field: Any) -> str:
    """Return SQL that extracts one value of a JSON array, cast to the type of its column."""
    while getattr(field, "rel_field", None) is not None:
        field = field.rel_field
    text = f"value ->> {index}"
    return text if field.field_type == "TEXT" else f"CAST({text} AS {field.field_type})"
