"""Counts the SQL statements of a use case, whose number must not grow with its lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storekeep.server.store.sql.transactions import Transaction


class _Counted:
    """A connection that records its statements and runs them on the real connection."""

    def __init__(self, connection: Any, statements: list[str]) -> None:
        self._connection = connection
        self._statements = statements

    def execute(self, sql: str, *values: Any) -> Any:
        self._statements.append(sql)
        return self._connection.execute(sql, *values)

    def execute_many(self, sql: str, rows: Any) -> None:
        self._statements.append(sql)
        self._connection.execute_many(sql, rows)

    def defer(self, sql: str, values: Any) -> bool:
        deferred: bool = self._connection.defer(sql, values)
        if deferred:
            self._statements.append(sql)
        return deferred

    def __getattr__(self, name: str) -> Any:
        """Delegate to the real connection."""
        return getattr(self._connection, name)


def record_statements(action: Callable[[], object]) -> list[str]:
    """Return the statements of all transactions that begin while `action` runs, without BEGIN and COMMIT."""
    statements: list[str] = []
    begin = Transaction.__init__

    def begin_counted(self: Transaction, connection: Any, *arguments: Any, **options: Any) -> None:
        begin(self, _Counted(connection, statements), *arguments, **options)

    Transaction.__init__ = begin_counted
    try:
        action()
    finally:
        Transaction.__init__ = begin
    return statements
