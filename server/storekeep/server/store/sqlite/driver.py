"""The SQLite driver: connections, transactions and the meaning of SQLite's errors.

Rejects a SQLite release that can lose commits. `synchronous=FULL` in WAL mode: an acknowledged commit survives a power
cut. Invariants: a failed sync ends the process, and no call is answered from files that are no longer at the path.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase

from storekeep.server.store.drivers import DriverMeasures
from storekeep.server.store.errors import DeferredFailed, StorageFull, StorageUnavailable, UnusableDatabase
from storekeep.server.store.limits import Limits
from storekeep.server.store.sql.dialects import SQLITE
from storekeep.server.store.sql.transactions import Cursor
from storekeep.server.store.sqlite.checkpoints import BUSY_TIMEOUT_S, LOG_BYTES_MAX, Checkpoints, keep_log_files
from storekeep.server.store.sqlite.files import OpenFiles
from storekeep.server.store.sqlite.page_checksums import has_page_checksums, load_page_checksums
from storekeep.server.store.sqlite.statement_limits import LimitedStatements
from storekeep.server.store.sqlite.syncs import end_process, is_failed_sync, stop_if_ending

SQLITE_VERSION_MIN = (3, 51, 3)
"""The first release without the WAL-reset race, which can lose commits (sqlite.org, release history)."""
STATEMENTS_MAX = 512
"""Prepared statements that a connection caches; more than the server has."""
DEFERRED_MAX = 10_000
"""Rows that a connection defers. An order with three lines has twelve, and a commit has at most 256 orders."""
CACHE_KIB = 2_048
"""Size of a reader's page cache. The kernel's page cache backs it."""
WRITER_PRAGMAS = ("PRAGMA cache_size = -8192", f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
"""The writer has a cache of 8 MiB, because it uses the same index pages repeatedly. When the log restarts, its commit
truncates a log that had to grow."""
FILES_REPLACED = (
    "the database files were moved, deleted or replaced while open: calls fail until the original files are back; "
    "to serve the files now at the path, restart the server"
)

STORE_ERRORS: dict[int, type[StorageFull | StorageUnavailable]] = {
    apsw.SQLITE_FULL: StorageFull,
    apsw.SQLITE_BUSY: StorageUnavailable,
    apsw.SQLITE_LOCKED: StorageUnavailable,
    apsw.SQLITE_PROTOCOL: StorageUnavailable,
    apsw.SQLITE_INTERRUPT: StorageUnavailable,
    apsw.SQLITE_IOERR: StorageUnavailable,
    apsw.SQLITE_PERM: StorageUnavailable,
    apsw.SQLITE_READONLY: StorageUnavailable,
    apsw.SQLITE_CANTOPEN: StorageUnavailable,
    apsw.SQLITE_CORRUPT: StorageUnavailable,
    apsw.SQLITE_NOTADB: StorageUnavailable,
}
"""Primary result codes (sqlite.org/rescode.html) and their `StoreError`. Any other code is a bug in a statement."""


log = logging.getLogger("storekeep.store")


class UnsafeSqlite(UnusableDatabase):
    """The installed SQLite can lose commits."""

    def __init__(self, version: str) -> None:
        super().__init__(f"SQLite {version} can lose commits in WAL mode; use 3.51.3 or later")


def check_sqlite_version() -> None:
    """Check that the installed SQLite has no WAL-reset race.

    Raises: UnsafeSqlite.
    """
    version = apsw.sqlite_lib_version()
    if tuple(map(int, version.split("."))) < SQLITE_VERSION_MIN:
        raise UnsafeSqlite(version)


def create_database_file(path: Path) -> None:
    """Create a missing database file that only its owner can read. SQLite would make it readable for everyone.

    An existing file is not opened: closing it would drop the locks of this process on it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


class SqliteConnection:
    """The connection of one thread. Only the thread refers to it, so it is closed when the thread ends.

    Deferred statements run before the next other one: each once for all its rows, in the order of their first use. A
    statement costs as much as three of its rows.

    Args:
        statement_timeout_s: the longest that a statement of a read may take, in seconds.

    Attributes:
        raw: the apsw connection.
        execute: the method of apsw itself, to save a call per statement, unless it reads or has deferred statements.
        deferring: whether `defer` accepts statements.
        deferred: a counter that rises with each deferred row, and when a deferred statement fails.
        is_writer: whether the engine writes on it.
    """

    __slots__ = (
        "__weakref__",
        "_limited",
        "_pending",
        "_pending_max",
        "deferred",
        "deferring",
        "execute",
        "is_writer",
        "raw",
    )

    def __init__(self, raw: apsw.Connection, *, statement_timeout_s: float) -> None:
        self.raw = raw
        self.execute: Callable[..., Cursor] = raw.execute
        self._limited = LimitedStatements(raw, timeout_s=statement_timeout_s)
        self.deferring = False
        self.deferred = 0
        self.is_writer = False
        self._pending: dict[str, list[Any]] = {}
        self._pending_max = 0

    def begin_read(self, deadline: float | None) -> None:
        """Limit the following statements, until `end_read`.

        Args:
            deadline: the caller's deadline, as a `time.monotonic()`; None without one.
        """
        self._limited.limit.deadline = math.inf if deadline is None else deadline
        self.execute = self._limited.execute

    def end_read(self) -> None:
        """Let the following statements, such as those of the writer, run as long as they take."""
        self._limited.limit.give_up = math.inf
        self.execute = self.raw.execute

    @property
    def rows_changed(self) -> int:
        """Return the number of rows that the last statement changed."""
        return self.raw.changes()

    def execute_many(self, sql: str, rows: Sequence[Any]) -> None:
        """Run one statement for each row, in order; deferred if possible.

        Raises: DeferredFailed, and the errors of apsw.
        """
        if self.deferring:
            self._append(sql, rows)
        else:
            self.run_deferred()
            self.raw.executemany(sql, rows)

    def defer(self, sql: str, values: Any) -> bool:
        """Run a statement later. Return False if deferring is off, or for a statement without values.

        Raises: DeferredFailed.
        """
        if not self.deferring or not values:
            return False
        self._append(sql, (values,))
        return True

    def _append(self, sql: str, rows: Sequence[Any]) -> None:
        if self.deferred > self._pending_max:
            self.run_deferred()
        if not self._pending:
            self.execute = self._execute_after_deferred
            self._pending_max = self.deferred + DEFERRED_MAX
        self._pending.setdefault(sql, []).extend(rows)
        self.deferred += len(rows)

    def _execute_after_deferred(self, sql: str, values: Any = ()) -> Cursor:
        self.run_deferred()
        cursor: Cursor = self.raw.execute(sql, values)
        return cursor

    def run_deferred(self) -> None:
        """Run the deferred statements.

        Raises: DeferredFailed if one fails and the transaction is still open; otherwise the error of apsw.
        """
        pending = self._pending
        self.forget_deferred()
        try:
            for sql, rows in pending.items():
                self.raw.executemany(sql, rows)
        except Exception as error:
            if not self.raw.in_transaction:
                raise
            self.deferred += 1  # the transaction can only be rolled back now, even if no row has changed
            raise DeferredFailed from error

    def forget_deferred(self) -> None:
        """Discard the deferred statements, because their transaction is rolled back."""
        self._pending = {}
        self.execute = self.raw.execute


class SqliteDriver:
    """Access to one SQLite file. Each thread has its own connection.

    Args:
        path: the file. It is created if missing.
        limits: the timeout of a statement of a read. SQLite ignores the others.

    Raises: UnsafeSqlite, NoPageChecksums, StorageUnavailable.
    """

    dialect = SQLITE
    uses_sockets = False
    errors: tuple[type[Exception], ...] = (apsw.Error, peewee.PeeweeException)
    """Errors of the database or of a statement, before `translate`."""
    row_retry_max_s = 0.0

    def __init__(self, path: Path, *, limits: Limits) -> None:
        check_sqlite_version()
        self._statement_timeout_s = limits.statement_timeout_s
        load_page_checksums()
        create_database_file(path)
        self.path = path
        self._database = APSWDatabase(
            str(path),
            pragmas=[
                ("journal_mode", "wal"),
                ("synchronous", "full"),
                ("foreign_keys", 1),
                ("cache_size", -CACHE_KIB),
                ("temp_store", "memory"),
                ("wal_autocheckpoint", 0),
                ("secure_delete", "fast"),  # a split of a page leaves no copies of rows behind, such as data keys
            ],
            timeout=BUSY_TIMEOUT_S,
            statementcachesize=STATEMENTS_MAX,
            flags=apsw.SQLITE_OPEN_READWRITE,  # without CREATE: never make a new file in place of a lost one
        )
        self._connections: weakref.WeakSet[SqliteConnection] = weakref.WeakSet()
        self._local = threading.local()
        self._is_closed = False
        self._is_lost = False
        self._is_whole = False
        self._losing = threading.Lock()
        try:
            self._checkpoints = Checkpoints(self._open_first)
            self._files = OpenFiles(path)
        except self.errors as error:
            raise self.translate(error) from error

    def _open_first(self) -> Any:
        """Open the first connection, and read, so that SQLite opens all files."""
        connection = self._database.connection()
        connection.execute("PRAGMA user_version").fetchone()
        has_page_checksums(connection)
        return connection

    def measure(self) -> DriverMeasures:
        """Return how often the write-ahead log could not be copied."""
        return DriverMeasures(checkpoint_failures=self._checkpoints.failures)

    def clear_log(self) -> bool:
        """Copy the write-ahead log to the database and empty its file. Return False if readers need it, or it fails."""
        return self._checkpoints.clear_log()

    def check(self) -> None:
        """Check that the open files are still at the path.

        Otherwise, copy the log to the open database file, so that it is complete without the log.

        Raises: StorageUnavailable.
        """
        if self._files.are_in_place():
            if self._is_lost:
                self._record_recovery()
            return
        self._record_loss()
        raise StorageUnavailable

    def _record_loss(self) -> None:
        with self._losing:
            if not self._is_lost:
                self._is_lost = True
                log.error(FILES_REPLACED, extra={"problem": self._files.find_problem(), "process_id": os.getpid()})
        if not self._is_whole and self._checkpoints.copy_all():
            self._is_whole = True
            log.info("the open database file has every acknowledged write, without its log")

    def _record_recovery(self) -> None:
        with self._losing:
            if self._is_lost:
                self._is_lost = self._is_whole = False
                log.warning("the original database files are back at their path; calls are answered again")

    def reader(self, deadline: float | None = None) -> SqliteConnection:
        """Return the connection of the current thread, for reads.

        Raises: StorageUnavailable.
        """
        if self._is_lost:
            self.check()
        connection = self._get_connection()
        connection.begin_read(deadline)
        return connection

    def _get_connection(self) -> SqliteConnection:
        own: SqliteConnection | None = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = self._connect()
        return own

    def _connect(self) -> SqliteConnection:
        """Open a connection to the same files as all other connections.

        Raises: StorageUnavailable.
        """
        self.check()
        connection = SqliteConnection(self._database.connection(), statement_timeout_s=self._statement_timeout_s)
        try:
            self.check()
        except StorageUnavailable:
            keep_log_files(connection.raw)
            self._database.close()
            raise
        self._connections.add(connection)
        return connection

    def release(self, connection: SqliteConnection) -> None:
        """End the read. The connection belongs to the thread."""
        connection.end_read()

    def writer(self) -> SqliteConnection:
        """Return the connection of the current thread, for writes. The engine writes in one thread.

        Raises: StorageUnavailable.
        """
        own = self._get_connection()
        if not own.is_writer:
            for pragma in WRITER_PRAGMAS:
                own.execute(pragma)
            own.is_writer = True
        return own

    def begin_snapshot(self, connection: SqliteConnection) -> None:
        """Begin a transaction whose statements all see the same snapshot. BEGIN itself has no limit."""
        connection.raw.execute("BEGIN")

    def begin_write(self, connection: SqliteConnection) -> None:
        """Begin a write transaction and take the write lock at once.

        A deferred transaction would fail later, without waiting, if another process writes.

        Raises: StorageUnavailable.
        """
        if self._is_lost:
            self.check()
        connection.execute("BEGIN IMMEDIATE")

    def read_data_version(self, connection: SqliteConnection) -> int:
        """Return a number that changes if another connection, also of another process, has changed the database."""
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def set_deadline(self, connection: SqliteConnection, deadline: float | None) -> None:
        """Do nothing: SQLite rolls back the whole batch if it ends a statement that writes."""

    def commit(self, connection: SqliteConnection) -> None:
        """Make the transaction durable.

        Raises: StorageUnavailable if the files are no longer at the path.
        """
        connection.execute("COMMIT")
        stop_if_ending()
        self.check()
        self._checkpoints.after_commit(connection)

    def rollback(self, connection: SqliteConnection) -> None:
        """Roll the transaction back."""
        connection.forget_deferred()
        connection.end_read()
        connection.execute("ROLLBACK")

    def is_lost(self, connection: SqliteConnection) -> bool:
        """Return whether an error has ended the transaction: SQLite rolls back on fatal errors."""
        return not connection.raw.in_transaction

    def is_retryable(self, error: BaseException) -> bool:
        """Return whether a deferred statement failed. Other errors would recur, because nobody else writes."""
        return isinstance(error, DeferredFailed)

    def is_held(self, _error: BaseException) -> bool:
        """Return False: SQLite has no row locks."""
        return False

    def measure_log(self) -> int:
        """Return the size of the write-ahead log, in bytes."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except OSError:
            return 0

    def changes(self, connection: SqliteConnection) -> int:
        """Return the number of rows changed or deferred on this connection, including those rolled back."""
        return connection.raw.total_changes() + connection.deferred

    def translate(self, error: BaseException) -> BaseException:
        """Return the `StoreError` for an error of the database; return any other, such as wrong SQL, unchanged.

        A failed sync ends the process instead. The next start finds out which commits are on the disk.
        """
        cause: BaseException | None = error
        while cause is not None:
            if is_failed_sync(cause):
                end_process(str(cause))
            kind = STORE_ERRORS.get(getattr(cause, "result", apsw.SQLITE_OK)) if isinstance(cause, apsw.Error) else None
            if kind is not None:
                return kind()
            cause = cause.__context__
        return error

    def close(self) -> None:
        """Close all connections. The last one removes the log and its index. Safe to call twice.

        If other files are at the path now, copy the log to the open database file and remove nothing.
        """
        if self._is_closed:
            return
        self._is_closed = True
        keep_files = not self._files.are_in_place()
        if keep_files:
            self._checkpoints.copy_all()
        for connection in list(self._connections):
            with contextlib.suppress(apsw.Error):
                if keep_files:
                    keep_log_files(connection.raw)
                connection.raw.close()
        self._checkpoints.close(keep_files=keep_files)
