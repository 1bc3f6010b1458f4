"""Limits of a connection's statements on SQLite: each ends at the caller's deadline, or at the server's own timeout.

SQLite calls the progress handler while a statement runs. An error that it raises ends the statement, and is raised by
the method of apsw that ran it. Writes have no limit: SQLite would roll back the whole batch, not the one write.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import apsw

from storekeep.server.store.errors import DeadlinePassed, ReadTooExpensive
from storekeep.server.store.sql.transactions import Cursor

STEPS_BETWEEN_CHECKS = 50_000
"""Steps of SQLite's virtual machine between two checks of the time: about a millisecond. A page of a list takes fewer,
so that most calls are never checked."""


class StatementLimit:
    """The time at which the statement that a connection runs must end. Only the connection's thread uses it.

    It does not refer to the connection, whose progress handler it is: a cycle would delay the end of the connection.

    Attributes:
        timeout_s: the longest that one statement may take, in seconds.
        deadline: the caller's deadline, as a `time.monotonic()`; infinite without one.
        give_up: when the current statement ends, as a `time.monotonic()`; infinite if it may take as long as it does.
    """

    __slots__ = ("deadline", "give_up", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.deadline = self.give_up = math.inf

    def check(self) -> bool:
        """Return False, so that the statement continues. This is the progress handler.

        Raises: DeadlinePassed, ReadTooExpensive.
        """
        if monotonic() < self.give_up:
            return False
        raise DeadlinePassed if self.give_up == self.deadline else ReadTooExpensive(self.timeout_s)


class LimitedStatements:
    """Runs statements on a connection, each under the same limit.

    Args:
        raw: the apsw connection. Its progress handler is set.
        timeout_s: the longest that one statement may take, in seconds.

    Attributes:
        limit: the limit.
    """

    __slots__ = ("_execute", "limit")

    def __init__(self, raw: apsw.Connection, *, timeout_s: float) -> None:
        self._execute = raw.execute
        self.limit = StatementLimit(timeout_s)
        raw.set_progress_handler(self.limit.check, STEPS_BETWEEN_CHECKS)

    def execute(self, sql: str, values: Any = ()) -> Cursor:
        """Run one statement.

        Raises: DeadlinePassed, ReadTooExpensive, and the errors of apsw.
        """
        limit, now = self.limit, monotonic()
        if now >= limit.deadline:
            raise DeadlinePassed
        give_up = now + limit.timeout_s
        limit.give_up = give_up if give_up < limit.deadline else limit.deadline
        cursor: Cursor = self._execute(sql, values)
        return cursor
