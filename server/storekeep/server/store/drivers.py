"""Drivers: what the engine and the replicas need of a kind of database."""

from __future__ import annotations

from typing import Any, Protocol

from storekeep.server.store.sql.dialects import Dialect
from storekeep.server.store.sql.transactions import Connection


class Driver(Protocol):
    """One kind of database, as far as the engine needs to know it.

    Deadlines are `time.monotonic()`s; None is none.

    Attributes:
        over_sockets: whether reads wait for a socket, so that many can share a thread; the engine does not ask.
    """

    dialect: Dialect
    over_sockets: bool
    errors: tuple[type[Exception], ...]
    row_patience_s: float
    """How long a write is tried again that wants a row which somebody else holds, in seconds."""

    def reader(self, deadline: float | None) -> Connection:
        """A connection to read, until it is released; no statement lasts beyond the deadline."""

    def release(self, connection: Any) -> None:
        """Give a reader's connection back."""

    def writer(self) -> Connection:
        """A connection to write, for the engine's writer."""

    def begin_snapshot(self, connection: Any) -> None:
        """From here on all statements see the database at one point in time."""

    def begin_write(self, connection: Any) -> None:
        """From here on nobody else writes."""

    def limit(self, connection: Any, deadline: float | None) -> None:
        """No statement from here on may last beyond a deadline."""

    def commit(self, connection: Any) -> None:
        """Make the transaction durable."""

    def rollback(self, connection: Any) -> None:
        """Undo the transaction."""

    def is_lost(self, connection: Any) -> bool:
        """Whether an error has ended the transaction as a whole."""

    def may_pass(self, error: BaseException) -> bool:
        """Whether the same transaction may succeed when it is run again."""

    def is_held(self, error: BaseException) -> bool:
        """Whether somebody else holds a row or a table that was wanted."""

    def changes(self, connection: Any) -> int:
        """A number that has risen where anything was changed, or where the transaction can only be undone."""

    def translate(self, error: BaseException) -> BaseException:
        """Say in the store's own terms what the driver reports of the database; pass on all else."""

    def check(self) -> None:
        """Raise where what is open is not the database that was meant any more."""

    def close(self) -> None:
        """Close every connection."""
