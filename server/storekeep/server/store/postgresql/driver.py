"""The PostgreSQL driver: connection pool and transactions on a database that several processes share.

A write transaction holds an advisory lock from its start, so write transactions of all processes are serial. The audit
chain requires that order anyway, because each entry is hashed over the one before. Serial writes cannot deadlock with
each other, and one WAL flush serves a whole batch.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import threading
import time

from storekeep.server.store.drivers import DriverMeasures
from storekeep.server.store.errors import DeadlinePassed, ReadTooExpensive, StorageFull, StorageUnavailable
from storekeep.server.store.limits import Limits
from storekeep.server.store.postgresql.connection import CANCEL_TIMEOUT_S, TRANSIENT, Connection
from storekeep.server.store.postgresql.endpoint import Endpoint
from storekeep.server.store.postgresql.errors import DeferredSqlFailed, OutOfTime, SqlError, UnusablePostgres
from storekeep.server.store.sql.dialects import POSTGRESQL

WRITE_LOCK = int.from_bytes(b"Storekee", "big")
"""Key of the advisory lock that a write transaction holds. Advisory locks are local to a database."""
ROW_RETRY_MAX_S = 2.0
"""How long a write is retried when an operator's SQL holds a lock on its row."""
ROW_LOCK_WAIT_MS = 2
"""How long each attempt waits for the row lock, while all other writes wait behind it. Writes of Storekeep never wait
for each other's rows. The wait ends before PostgreSQL's deadlock check (`deadlock_timeout`) and resolves a deadlock."""
LOCK_NOT_AVAILABLE = "55P03"
IDLE_TIMEOUT_MS = 10_000
"""How long a write transaction may be idle before PostgreSQL ends it, so that other processes can write."""
MARKER = "SELECT pg_logical_emit_message(true, 'storekeep', '')"
"""The marker write: makes a commit without changes wait for the synchronous standbys like any other. Its answer may
depend on another transaction's commit, as the answer to a retry does, and PostgreSQL would return it at once."""
POOLER_HINT = "; if connections go through a pooler, set STOREKEEP_DATABASE_POOLER=true"
PLANS_OFF = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")
"""Plan types that are disabled for writes. Every write finds a few rows by key. PostgreSQL estimates a list of keys at
a hundred rows and would choose a sequential scan of a table with a thousand rows for each order."""
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

STORE_ERRORS: dict[str, type[StorageFull | StorageUnavailable]] = {
    "08": StorageUnavailable,  # connection exceptions
    "40": StorageUnavailable,  # rolled back, as for a deadlock
    "53": StorageUnavailable,  # out of memory, connections or the like
    "53100": StorageFull,
    LOCK_NOT_AVAILABLE: StorageUnavailable,
    "57": StorageUnavailable,  # cancelled, shutting down, starting up
    "58": StorageUnavailable,  # its disk
    "25006": StorageUnavailable,  # a replica
    "26000": StorageUnavailable,  # a prepared statement that a pooler or a failover lost
    "42P05": StorageUnavailable,
    "0A000": StorageUnavailable,  # a prepared statement from before a migration
    "XX001": StorageUnavailable,  # damaged
    "XX002": StorageUnavailable,
}
"""SQLSTATEs, or classes of them, and their `StoreError`. Any other SQLSTATE is a bug in a statement."""

log = logging.getLogger("storekeep.store")


class PostgresDriver:
    """Access to one PostgreSQL database: a pool of connections for reads, and one connection for writes.

    Args:
        url: `postgresql://…`, with libpq's parameters.
        limits: timeouts and connection limits.
    """

    dialect = POSTGRESQL
    uses_sockets = True
    errors: tuple[type[Exception], ...] = (SqlError,)
    """Errors of the database or of a statement, before `translate`."""

    def __init__(self, url: str, *, limits: Limits) -> None:
        self.row_retry_max_s = min(limits.lock_timeout_s, ROW_RETRY_MAX_S)
        self._limits = limits
        self._endpoint = Endpoint(url, limits)
        self._idle = collections.deque(Connection(self._endpoint, reads=True) for _ in range(limits.pool_size))
        self._released = threading.Condition()
        self._waiting = 0
        self._closed = False
        self._writer = Connection(self._endpoint, reads=False)
        self._changes_before = 0
        self._begin_write = _begin_write(limits)

    def warm(self) -> None:
        """Open every connection in advance.

        Raises: UnusablePostgres.
        """
        try:
            for connection in (self._writer, *self._idle):
                connection.open()
        except SqlError as error:
            hint = POOLER_HINT if "startup parameter" in str(error) else ""
            raise UnusablePostgres(f"the database cannot be used: {error}{hint}") from None
        durable = self._writer.execute(
            "SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off'"
        )
        for (name,) in durable:
            log.warning("PostgreSQL may lose acknowledged writes", extra={"setting": name, "value": "off"})

    # -- reading

    def reader(self, deadline: float | None = None) -> Connection:
        """Return a connection for reads, to be released afterwards.

        Raises: DeadlinePassed, StorageUnavailable (no connection was free in time).
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._await_connection(deadline)
        connection.take(math.inf if deadline is None else deadline)
        return connection

    def _await_connection(self, deadline: float | None) -> Connection:
        give_up = time.monotonic() + self._limits.pool_timeout_s
        if deadline is not None:
            give_up = min(give_up, deadline)
        with self._released:
            self._waiting += 1
            try:
                while True:
                    with contextlib.suppress(IndexError):
                        return self._idle.pop()
                    if not self._released.wait(max(0.0, give_up - time.monotonic())):
                        raise DeadlinePassed if give_up == deadline else StorageUnavailable
            finally:
                self._waiting -= 1

    def release(self, connection: Connection) -> None:
        """Return a read connection to the pool."""
        if self._closed:
            connection.close()
        self._idle.append(connection)
        if self._waiting:
            with self._released:
                self._released.notify()

    def begin_snapshot(self, connection: Connection) -> None:
        """Begin a read-only transaction whose statements all see the snapshot of the first one."""
        connection.send_with_next(SNAPSHOT)

    # -- writing

    def writer(self) -> Connection:
        """Return the connection for writes."""
        return self._writer

    def begin_write(self, connection: Connection) -> None:
        """Begin a write transaction and wait for the write lock, which it holds until its end."""
        connection.take(math.inf)
        *settings, lock = self._begin_write
        for statement in settings:
            connection.send_with_next(statement)
        connection.command(lock, timeout_s=self._limits.lock_timeout_s + CANCEL_TIMEOUT_S)
        self._changes_before = connection.changes

    def read_data_version(self, _connection: Connection) -> None:
        """Return None: PostgreSQL has no number that tells whether other sessions have changed the database."""

    def set_deadline(self, connection: Connection, deadline: float | None) -> None:
        """Set the deadline of the following statements; None removes it."""
        connection.deadline = math.inf if deadline is None else deadline

    def commit(self, connection: Connection) -> None:
        """Make the transaction durable. A commit without an answer is not cancelled, because its outcome is unknown."""
        if connection.changes == self._changes_before:
            connection.send_with_next(MARKER)
        connection.commit(timeout_s=self._limits.statement_timeout_s)

    def rollback(self, connection: Connection) -> None:
        """Roll the transaction back, or close the connection if that fails."""
        try:
            connection.roll_back()
        except SqlError:
            connection.close()

    def is_lost(self, connection: Connection) -> bool:
        """Return whether an error has ended the whole transaction, so that no savepoint helps."""
        return connection.transient or not connection.in_transaction

    def is_retryable(self, error: BaseException) -> bool:
        """Return whether the same transaction may succeed on a retry."""
        return isinstance(error, SqlError) and (error.sqlstate in TRANSIENT or isinstance(error, DeferredSqlFailed))

    def is_held(self, error: BaseException) -> bool:
        """Return whether the statement failed because another session holds a lock."""
        return isinstance(error, SqlError) and error.sqlstate == LOCK_NOT_AVAILABLE

    def measure_log(self) -> int:
        """Return 0: the database server keeps its log."""
        return 0

    def clear_log(self) -> bool:
        """Return True: PostgreSQL recycles its own log, and vacuums old versions of rows."""
        return True

    def changes(self, connection: Connection) -> int:
        """Return a counter that rises with each change, and when the transaction can only be rolled back."""
        return connection.changes

    def translate(self, error: BaseException) -> BaseException:
        """Return the `StoreError` for an error of the database; return any other, such as wrong SQL, unchanged."""
        if not isinstance(error, SqlError):
            return error
        if isinstance(error, OutOfTime) and error.is_caller_deadline:
            return DeadlinePassed()
        if isinstance(error, OutOfTime) and error.is_read:
            return ReadTooExpensive(self._limits.statement_timeout_s)
        kind = STORE_ERRORS.get(error.sqlstate) or STORE_ERRORS.get(error.sqlstate[:2])
        return error if kind is None else kind()

    def measure(self) -> DriverMeasures:
        """Return the use of the pool."""
        size = self._limits.pool_size
        return DriverMeasures(connections=size, connections_used=max(0, size - len(self._idle)))

    def check(self) -> None:
        """Do nothing: a connection always leads to the database of its URL."""

    def close(self) -> None:
        """Close every connection. Those in use are closed when they are released."""
        self._closed = True
        self._writer.close()
        for connection in list(self._idle):
            connection.close()


def _begin_write(limits: Limits) -> tuple[str, ...]:
    """Return the statements that begin a write transaction in one round trip: settings first, the write lock last."""
    lock_ms = round(limits.lock_timeout_s * 1000)
    settings = {
        "lock_timeout": lock_ms,
        "statement_timeout": round(limits.statement_timeout_s * 1000),
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT_MS,
        "plan_cache_mode": "force_generic_plan",
        **dict.fromkeys(PLANS_OFF, "off"),
    }
    assignments = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    row_lock = f"set_config('lock_timeout', '{min(lock_ms, ROW_LOCK_WAIT_MS)}', true)"
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        f"SELECT {assignments}",
        f"SELECT pg_advisory_xact_lock({WRITE_LOCK}), {row_lock}",
    )
