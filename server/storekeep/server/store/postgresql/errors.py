"""Errors of a PostgreSQL connection.

SqlError                  a statement failed
├── ConnectionLost        the connection failed; the outcome of sent statements is unknown
│   └── NoAnswer          the server did not answer in time, not even a cancel request
├── OutOfTime             a statement was cancelled at its deadline or timeout
└── DeferredSqlFailed     an earlier, deferred statement failed
"""

from __future__ import annotations

from storekeep.server.store.errors import DeferredFailed, UnusableDatabase

SQLSTATE_LOST = "08006"
SQLSTATE_CANCELLED = "57014"


class SqlError(Exception):
    """A statement failed, or PostgreSQL did not answer.

    Attributes:
        sqlstate: PostgreSQL's error code.
    """

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(f"{sqlstate}: {text}")
        self.sqlstate = sqlstate


class ConnectionLost(SqlError):
    """The connection failed or could not be established. The outcome of sent statements is unknown."""

    def __init__(self, text: str, sqlstate: str = SQLSTATE_LOST) -> None:
        super().__init__(sqlstate, " ".join(text.split()))


class NoAnswer(ConnectionLost):
    """The server did not answer in time, not even a cancel request. The connection is closed."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class OutOfTime(SqlError):
    """A statement was cancelled at its deadline or timeout.

    Attributes:
        is_caller_deadline: whether the caller's deadline passed, rather than the statement timeout.
        is_read: whether it was a statement of a read.
    """

    def __init__(self, *, is_caller_deadline: bool, is_read: bool) -> None:
        super().__init__(SQLSTATE_CANCELLED, "the statement timed out")
        self.is_caller_deadline = is_caller_deadline
        self.is_read = is_read


class DeferredSqlFailed(SqlError, DeferredFailed):
    """A deferred statement failed."""


class UnusablePostgres(UnusableDatabase):
    """Storekeep cannot run on this PostgreSQL database."""


class UnstorableText(ValueError):
    """PostgreSQL cannot store the character U+0000 in text."""
