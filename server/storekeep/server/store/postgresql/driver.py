"""The PostgreSQL driver: begins, commits and undoes on a database that several processes share.

Writes of all processes take turns, by an advisory lock that lasts as long as a transaction: the audit chain has one
order, in which each entry is hashed over the one before it, so they could not be committed side by side anyway. With
the order held from the start they cannot deadlock among themselves, and one flush of the log serves a whole batch.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import threading
import time

from storekeep.server.store.errors import DeadlinePassed, StorageFull, StorageUnavailable
from storekeep.server.store.limits import Limits
from storekeep.server.store.postgresql.connection import CANCEL_TIMEOUT_S, TRANSIENT, Connection
from storekeep.server.store.postgresql.endpoint import Endpoint
from storekeep.server.store.postgresql.errors import DeferredFailed, OutOfTime, SqlError, UnusablePostgres
from storekeep.server.store.sql.dialects import POSTGRESQL

WRITE_LOCK = int.from_bytes(b"Storekee", "big")
"""The advisory lock of whoever writes. Such locks are numbers, and each database has its own."""
ROW_PATIENCE_S = 2.0
"""How long a write is tried again that wants a row which an operator's SQL holds."""
ROW_LOCK_WAIT_MS = 2
"""How long it waits for the row each time, as all others wait behind it. Writes of ours never wait for each other's
rows. PostgreSQL does not get to look for deadlocks (`deadlock_timeout`); there are none, as nobody waits for long."""
LOCK_NOT_AVAILABLE = "55P03"
IDLE_TIMEOUT_MS = 10_000
"""How long a process may say nothing amid its writes: then PostgreSQL ends them, so that others can go on."""
MARKER = "SELECT pg_logical_emit_message(true, 'storekeep', '')"
"""Has a commit that changes nothing wait, as others do, until the standbys have all before it: an answer may rest on
what another transaction has committed, as that to a retry does. Without it, it would return at once."""
POOLER_HINT = "; a pooler in between needs STOREKEEP_DATABASE_POOLER=true"
PLANS_OFF = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")
"""How the planner may not run what is written. All of it finds some rows by their keys; PostgreSQL takes a list of keys
for a hundred of them, and would rather read a table of a thousand rows whole for each order."""
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

FACTS: dict[str, type[StorageFull | StorageUnavailable]] = {
    "08": StorageUnavailable,  # connection exceptions
    "40": StorageUnavailable,  # rolled back, as for a deadlock
    "53": StorageUnavailable,  # out of memory, connections or the like
    "53100": StorageFull,
    LOCK_NOT_AVAILABLE: StorageUnavailable,
    "57": StorageUnavailable,  # cancelled, shutting down, starting up
    "58": StorageUnavailable,  # its disk
    "25006": StorageUnavailable,  # a replica
    "26000": StorageUnavailable,  # prepared statements that a pooler or a failover forgot
    "42P05": StorageUnavailable,
    "0A000": StorageUnavailable,  # a prepared statement from before a migration
    "XX001": StorageUnavailable,  # damaged
    "XX002": StorageUnavailable,
}
"""What SQLSTATEs, or the classes of them, mean to a caller. Any other is a defect of a statement, and stays one."""

log = logging.getLogger("storekeep.store")


class PostgresDriver:
    """One PostgreSQL database: a pool of connections to read, and one to write.

    Args:
        url: `postgresql://…`, with libpq's parameters.
        limits: of time and connections.
    """

    dialect = POSTGRESQL
    over_sockets = True
    errors: tuple[type[Exception], ...] = (SqlError,)
    """What the driver raises where the database is at fault, or a statement."""

    def __init__(self, url: str, *, limits: Limits) -> None:
        self.row_patience_s = min(limits.lock_timeout_s, ROW_PATIENCE_S)
        self._limits = limits
        self._endpoint = Endpoint(url, limits)
        self._idle = collections.deque(Connection(self._endpoint) for _ in range(limits.pool_size))
        self._given_back = threading.Condition()
        self._waiting = 0
        self._closed = False
        self._writer = Connection(self._endpoint)
        self._changes_before = 0
        self._begin_write = _begin_write(limits)

    def warm(self) -> None:
        """Open every connection, so that no caller waits for one.

        Raises: UnusablePostgres.
        """
        try:
            for connection in (self._writer, *self._idle):
                connection.open()
        except SqlError as error:
            hint = POOLER_HINT if "startup parameter" in str(error) else ""
            raise UnusablePostgres(f"the database refuses to be used: {error}{hint}") from None
        durable = self._writer.execute(
            "SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off'"
        )
        for (name,) in durable:
            log.warning("PostgreSQL may lose acknowledged writes", extra={"setting": name, "value": "off"})

    # -- reading

    def reader(self, deadline: float | None = None) -> Connection:
        """A connection to read, until it is given back.

        Raises: DeadlinePassed, StorageUnavailable where none is free in time.
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
        with self._given_back:
            self._waiting += 1
            try:
                while True:
                    with contextlib.suppress(IndexError):
                        return self._idle.pop()
                    if not self._given_back.wait(max(0.0, give_up - time.monotonic())):
                        raise DeadlinePassed if give_up == deadline else StorageUnavailable
            finally:
                self._waiting -= 1

    def release(self, connection: Connection) -> None:
        """Give a reader's connection back."""
        if self._closed:
            connection.close()
        self._idle.append(connection)
        if self._waiting:
            with self._given_back:
                self._given_back.notify()

    def begin_snapshot(self, connection: Connection) -> None:
        """From here on all statements see the database at one point in time, that of the first."""
        connection.send_with_next(SNAPSHOT)

    # -- writing

    def writer(self) -> Connection:
        """The connection to write."""
        return self._writer

    def begin_write(self, connection: Connection) -> None:
        """Wait for the turn to write, and begin: nobody else writes until the end."""
        connection.take(math.inf)
        *settings, lock = self._begin_write
        for statement in settings:
            connection.send_with_next(statement)
        connection.command(lock, timeout_s=self._limits.lock_timeout_s + CANCEL_TIMEOUT_S)
        self._changes_before = connection.changes

    def limit(self, connection: Connection, deadline: float | None) -> None:
        """No statement from here on may last longer than to a deadline; None lifts that."""
        connection.deadline = math.inf if deadline is None else deadline

    def commit(self, connection: Connection) -> None:
        """Make the transaction durable. One that is not answered is not cancelled: what became of it is unknown."""
        if connection.changes == self._changes_before:
            connection.send_with_next(MARKER)
        connection.commit(timeout_s=self._limits.statement_timeout_s)

    def rollback(self, connection: Connection) -> None:
        """Undo the transaction; the end of the connection does it too."""
        try:
            connection.roll_back()
        except SqlError:
            connection.close()

    def is_lost(self, connection: Connection) -> bool:
        """Whether an error has ended the transaction as a whole, savepoints or not."""
        return connection.transient or not connection.in_transaction

    def may_pass(self, error: BaseException) -> bool:
        """Whether the same transaction may succeed when it is run again."""
        return isinstance(error, SqlError) and (error.sqlstate in TRANSIENT or isinstance(error, DeferredFailed))

    def is_held(self, error: BaseException) -> bool:
        """Whether somebody else holds a row or a table that was wanted."""
        return isinstance(error, SqlError) and error.sqlstate == LOCK_NOT_AVAILABLE

    def changes(self, connection: Connection) -> int:
        """A number that has risen where anything was changed, or where the transaction can only be undone."""
        return connection.changes

    def translate(self, error: BaseException) -> BaseException:
        """Say in the store's own terms what the driver reports of the database; pass on all else, such as wrong SQL."""
        if not isinstance(error, SqlError):
            return error
        if isinstance(error, OutOfTime) and error.of_caller:
            return DeadlinePassed()
        fact = FACTS.get(error.sqlstate) or FACTS.get(error.sqlstate[:2])
        return error if fact is None else fact()

    def check(self) -> None:
        """Nothing to check: a connection always leads to the database that its URL names."""

    def close(self) -> None:
        """Close every connection; those in use when they are given back."""
        self._closed = True
        self._writer.close()
        for connection in list(self._idle):
            connection.close()


def _begin_write(limits: Limits) -> tuple[str, ...]:
    """What begins a transaction that writes, in one round trip: its settings, and then its turn."""
    lock_ms = round(limits.lock_timeout_s * 1000)
    settings = {
        "lock_timeout": lock_ms,
        "statement_timeout": round(limits.statement_timeout_s * 1000),
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT_MS,
        "plan_cache_mode": "force_generic_plan",
        **dict.fromkeys(PLANS_OFF, "off"),
    }
    made = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    row_lock = f"set_config('lock_timeout', '{min(lock_ms, ROW_LOCK_WAIT_MS)}', true)"
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        f"SELECT {made}",
        f"SELECT pg_advisory_xact_lock({WRITE_LOCK}), {row_lock}",
    )
