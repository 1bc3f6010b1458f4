"""The driver interface that the engine and the replicas use."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from storekeep.server.store.sql.dialects import Dialect
from storekeep.server.store.sql.transactions import Connection


class DriverMeasures(NamedTuple):
    """What a driver measures.

    Attributes:
        checkpoint_failures: how often the log could not be copied to the database.
        connections: number of read connections in the pool; 0 on SQLite, where each thread has one.
        connections_used: number of them in use.
    """

    checkpoint_failures: int = 0
    connections: int = 0
    connections_used: int = 0


class Driver(Protocol):
    """Access to one database.

    Deadlines are values of `time.monotonic()`; None means no deadline.

    Attributes:
        uses_sockets: whether reads wait for a socket, so that many can share a thread. The engine ignores it.
    """

    dialect: Dialect
    uses_sockets: bool
    errors: tuple[type[Exception], ...]
    row_retry_max_s: float
    """How long a write is retried when another session holds a lock that it needs, in seconds."""

    def reader(self, deadline: float | None) -> Connection:
        """Return a connection for reads. The deadline applies to its statements until it is released."""

    def release(self, connection: Any) -> None:
        """Return a read connection to the pool."""

    def writer(self) -> Connection:
        """Return the connection for writes. Only the engine's writer uses it."""

    def begin_snapshot(self, connection: Any) -> None:
        """Begin a read-only transaction whose statements all see the same snapshot."""

    def begin_write(self, connection: Any) -> None:
        """Begin a write transaction and take the write lock."""

    def read_data_version(self, connection: Any) -> int | None:
        """Return a number that changes if another connection has changed the database, in the writer's transaction.

        It can be compared only on the same connection. None if the database has no such number.
        """

    def set_deadline(self, connection: Any, deadline: float | None) -> None:
        """Set the deadline of the following statements."""

    def commit(self, connection: Any) -> None:
        """Make the transaction durable."""

    def rollback(self, connection: Any) -> None:
        """Roll the transaction back."""

    def is_lost(self, connection: Any) -> bool:
        """Return whether an error has ended the whole transaction."""

    def is_retryable(self, error: BaseException) -> bool:
        """Return whether the same transaction may succeed on a retry."""

    def is_held(self, error: BaseException) -> bool:
        """Return whether the statement failed because another session holds a lock."""

    def changes(self, connection: Any) -> int:
        """Return a counter that rises with each change, and when the transaction can only be rolled back."""

    def translate(self, error: BaseException) -> BaseException:
        """Return the `StoreError` for an error of the database; return any other error unchanged."""

    def measure(self) -> DriverMeasures:
        """Return the measures at this moment."""

    def measure_log(self) -> int:
        """Return the size of the write-ahead log on this host, in bytes; 0 if the database server keeps it."""

    def clear_log(self) -> bool:
        """Empty the write-ahead log on this host, which has old versions of rows. Return False if readers need it."""

    def check(self) -> None:
        """Raise StorageUnavailable if the open database is no longer the one at its URL."""

    def close(self) -> None:
        """Close every connection."""
