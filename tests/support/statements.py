"""The SQL that a use case runs: what it costs must not grow with its lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storekeep.server.store.sql.transactions import Transaction


class _Counted:
    """A connection that notes what it runs, and runs it on the real one."""

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
        """All else is the real one's."""
        return getattr(self._connection, name)


def statements_of(action: Callable[[], object]) -> list[str]:
    """What all transactions run that are begun while `action` runs, without BEGIN and COMMIT."""
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
