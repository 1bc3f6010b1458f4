"""Shared reads that outlast a commit: the writes of later commits read only what is new to them.

Invariant: what was read is forgotten before it can be wrong: when another statement of this process may change one of
its tables, when another connection has changed the database, and when a transaction is rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from storekeep.server.store.drivers import Driver
from storekeep.server.store.sql.transactions import Connection, Cursor, SharedReads

STATEMENTS_CACHED = 1_024
CHANGE = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|ALTER|DROP)\b", re.IGNORECASE)
WORD = re.compile(r"\w+")


class LastingReads:
    """What writes of one kind have read together. Used in the writer's thread only.

    Args:
        driver: tells whether another connection has changed the database. If it cannot, nothing outlasts a commit.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._connection: Connection | None = None
        self._version: int | None = None
        self._kind: type[Any] | None = None
        self._last: SharedReads | None = None

    def begin(self, connection: Connection) -> None:
        """Begin a transaction: forget what another connection may have changed since the last one."""
        version = self._driver.read_data_version(connection)
        if version is None or version != self._version or connection is not self._connection:
            self.forget()
        self._connection, self._version = connection, version

    def share(self, subjects: Iterable[Any], *, now_us: int) -> SharedReads:
        """Return the shared reads of consecutive writes, with what earlier ones have read if it still holds."""
        shared = SharedReads(subjects, now_us=now_us)
        kind = type(shared.subjects[0])
        if self._last is not None and kind is self._kind:
            shared.lasting = self._last.lasting
        self._kind, self._last = kind, shared
        return shared

    def watch(self, connection: Connection) -> Connection:
        """Return the connection for a write without shared reads: its statements may change what was read."""
        return connection if self._last is None else _WatchedConnection(connection, self)

    def check(self, sql: str) -> None:
        """Forget what was read if a statement may change it."""
        if self._last is None:
            return
        lasting = self._last.lasting
        if lasting is not None and may_change(sql, lasting.tables):
            self.forget()

    def end(self) -> None:
        """End a transaction that was committed. Its subjects are not kept."""
        if self._last is not None:
            self._last.release()

    def forget(self) -> None:
        """Forget what was read."""
        self._last = None


@lru_cache(STATEMENTS_CACHED)
def may_change(sql: str, tables: frozenset[str]) -> bool:
    """Return whether a statement may change one of some tables: it changes something, and names one of them."""
    return CHANGE.search(sql) is not None and not tables.isdisjoint(WORD.findall(sql.lower()))


class _WatchedConnection:
    """A connection whose statements are checked before they run.

    Attributes:
        deferring: as the engine has set it for the whole write.
    """

    __slots__ = ("_connection", "_reads", "deferring")

    def __init__(self, connection: Connection, reads: LastingReads) -> None:
        self._connection = connection
        self._reads = reads
        self.deferring = connection.deferring

    @property
    def rows_changed(self) -> int:
        """Return the number of rows that the last statement changed."""
        return self._connection.rows_changed

    def execute(self, sql: str, values: Any = ()) -> Cursor:
        """Run one statement."""
        self._reads.check(sql)
        return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row, in order; deferred if possible."""
        self._reads.check(sql)
        self._connection.execute_many(sql, rows)

    def defer(self, sql: str, values: Any) -> bool:
        """Run a statement with the next one that is not deferred. Return False, and do nothing, if deferring is off."""
        self._reads.check(sql)
        return self._connection.defer(sql, values)
