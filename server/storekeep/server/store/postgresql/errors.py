"""What a connection to PostgreSQL raises.

SqlError                  PostgreSQL refused a statement
├── ConnectionLost        there is no connection any more; what was sent may have been done
│   └── NoAnswer          the server did not answer in time, not even to a cancel request
├── OutOfTime             a statement was cancelled when its time was over
└── DeferredFailed        a deferred statement failed, not the one that was waited for
"""

from __future__ import annotations

from storekeep.server.store.errors import UnusableDatabase

SQLSTATE_LOST = "08006"
SQLSTATE_CANCELLED = "57014"


class SqlError(Exception):
    """PostgreSQL refused a statement, or did not answer.

    Attributes:
        sqlstate: PostgreSQL's error code.
    """

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(f"{sqlstate}: {text}")
        self.sqlstate = sqlstate


class ConnectionLost(SqlError):
    """There is no connection, or there is none any more; what was sent may have been done."""

    def __init__(self, text: str, sqlstate: str = SQLSTATE_LOST) -> None:
        super().__init__(sqlstate, " ".join(text.split()))


class NoAnswer(ConnectionLost):
    """The server did not answer in time, not even to a cancel request; the connection is closed."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class OutOfTime(SqlError):
    """A statement was cancelled when its time was over.

    Attributes:
        of_caller: whether it was the caller's deadline, and not a limit of our own.
    """

    def __init__(self, *, of_caller: bool) -> None:
        super().__init__(SQLSTATE_CANCELLED, "the time for the statement is over")
        self.of_caller = of_caller


class DeferredFailed(SqlError):
    """A deferred statement failed: the transaction can only be undone, and run again without deferring."""


class UnusablePostgres(UnusableDatabase):
    """This PostgreSQL cannot hold a Storekeep, whoever asks it."""


class UnstorableText(ValueError):
    """PostgreSQL's text has no room for the character U+0000."""
