"""The SQLite driver: opens, begins, commits and undoes on an embedded database, and says what its errors mean.

Refuses a SQLite that can lose commits. `synchronous=FULL` in WAL mode: a commit that was answered survives a power cut.
Invariants: a failed sync ends the process, and nothing is answered from files that are not at the path.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase

from storekeep.server.store.errors import StorageFull, StorageUnavailable, UnusableDatabase
from storekeep.server.store.sql.dialects import SQLITE
from storekeep.server.store.sql.transactions import Cursor
from storekeep.server.store.sqlite.checkpoints import Checkpoints, leave_files
from storekeep.server.store.sqlite.files import OpenFiles
from storekeep.server.store.sqlite.syncs import end_process, is_failed_sync, stop_if_ending

SQLITE_VERSION_MIN = (3, 51, 3)
"""The first release without the WAL-reset race, which can lose commits (sqlite.org, release log)."""
BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process, such as a backup, to let go of the database."""
STATEMENTS_MAX = 512
"""Statements that a connection keeps prepared; more than there are."""
CACHE_KIB = 2_048
"""SQLite's page cache of a reader; behind it is the kernel's."""
WRITER_PRAGMAS = ("PRAGMA cache_size = -8192",)
"""The writer comes back to the same pages of the indexes again and again, so it has 8 MiB of cache."""
LOST = (
    "the database's files are not where they were opened: nothing is answered until they are put back as they were; "
    "to serve what is there now, stop the server and start it"
)

FACTS: dict[int, type[StorageFull | StorageUnavailable]] = {
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
"""What SQLite's primary result codes mean to a caller (sqlite.org/rescode.html). Any other is a defect of a statement,
and stays one."""


log = logging.getLogger("storekeep.store")


class UnsafeSqlite(UnusableDatabase):
    """The SQLite that is installed can lose commits."""

    def __init__(self, version: str) -> None:
        super().__init__(f"SQLite {version} can lose commits in WAL mode; 3.51.3 is the first that cannot")


def check_sqlite_version() -> None:
    """Refuse a SQLite with the WAL-reset race.

    Raises: UnsafeSqlite.
    """
    version = apsw.sqlite_lib_version()
    if tuple(map(int, version.split("."))) < SQLITE_VERSION_MIN:
        raise UnsafeSqlite(version)


def make_private(path: Path) -> None:
    """Make a database's file, where there is none, so that only its owner can read it; SQLite would let all others.

    One that exists is not opened: closing it would drop the locks that SQLite has on it in this process.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


class SqliteConnection:
    """A thread's own connection. Only the thread holds it, so that it is closed when the thread ends.

    Attributes:
        raw: apsw's.
        execute: apsw's own method, so that a statement costs no further call.
        execute_many: the same.
        deferring: no matter: nothing is deferred, as a statement costs no round trip.
        is_writer: whether the engine writes on it.
    """

    __slots__ = ("__weakref__", "deferring", "execute", "execute_many", "is_writer", "raw")

    def __init__(self, raw: apsw.Connection) -> None:
        self.raw = raw
        self.execute: Callable[..., Cursor] = raw.execute
        self.execute_many: Callable[..., Any] = raw.executemany
        self.deferring = False
        self.is_writer = False

    @property
    def rows_changed(self) -> int:
        """Rows that the last statement changed."""
        return self.raw.changes()

    def defer(self, _sql: str, _values: Any) -> bool:
        """Return False: each statement is run at once."""
        return False


class SqliteDriver:
    """One SQLite file. Each thread has a connection of its own.

    Args:
        path: the file; it is made when missing.

    Raises: UnsafeSqlite, StorageUnavailable.
    """

    dialect = SQLITE
    over_sockets = False
    errors: tuple[type[Exception], ...] = (apsw.Error, peewee.PeeweeException)
    """What the driver raises where the database is at fault, or a statement."""
    row_patience_s = 0.0

    def __init__(self, path: Path) -> None:
        check_sqlite_version()
        make_private(path)
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
            ],
            timeout=BUSY_TIMEOUT_S,
            statementcachesize=STATEMENTS_MAX,
            flags=apsw.SQLITE_OPEN_READWRITE,  # and never make another one where it is gone
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
        """Open the first connection; it reads, so that all files are there and open."""
        connection = self._database.connection()
        connection.execute("PRAGMA user_version").fetchone()
        return connection

    def check(self) -> None:
        """Refuse where the path does not name the open files, and have the open database be whole by itself then.

        Raises: StorageUnavailable.
        """
        if self._files.are_in_place():
            if self._is_lost:
                self._note_found()
            return
        self._note_lost()
        raise StorageUnavailable

    def _note_lost(self) -> None:
        with self._losing:
            if not self._is_lost:
                self._is_lost = True
                log.error(LOST, extra={"problem": self._files.problem(), "process_id": os.getpid()})
        if not self._is_whole and self._checkpoints.copy_all():
            self._is_whole = True
            log.info("the open database file has all that was acknowledged, without its log")

    def _note_found(self) -> None:
        with self._losing:
            if self._is_lost:
                self._is_lost = self._is_whole = False
                log.warning("the database's files are back where they were opened; calls are answered again")

    def reader(self, _deadline: float | None = None) -> SqliteConnection:
        """The thread's connection, to read.

        Raises: StorageUnavailable.
        """
        if self._is_lost:
            self.check()
        return self._own()

    def _own(self) -> SqliteConnection:
        own: SqliteConnection | None = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = self._connect()
        return own

    def _connect(self) -> SqliteConnection:
        """Open a connection to the files that the others have open.

        Raises: StorageUnavailable.
        """
        self.check()
        connection = SqliteConnection(self._database.connection())
        try:
            self.check()
        except StorageUnavailable:
            leave_files(connection.raw)
            self._database.close()
            raise
        self._connections.add(connection)
        return connection

    def release(self, connection: SqliteConnection) -> None:
        """The connection stays the thread's."""

    def writer(self) -> SqliteConnection:
        """The thread's connection, to write: the engine's writer is one thread.

        Raises: StorageUnavailable.
        """
        own = self._own()
        if not own.is_writer:
            for pragma in WRITER_PRAGMAS:
                own.execute(pragma)
            own.is_writer = True
        return own

    def begin_snapshot(self, connection: SqliteConnection) -> None:
        """From here on all statements see the database at one point in time."""
        connection.execute("BEGIN")

    def begin_write(self, connection: SqliteConnection) -> None:
        """From here on nobody else writes. A deferred transaction would not wait for who does.

        Raises: StorageUnavailable.
        """
        if self._is_lost:
            self.check()
        connection.execute("BEGIN IMMEDIATE")

    def limit(self, connection: SqliteConnection, deadline: float | None) -> None:
        """Statements are not interrupted: on a local file they take as long as they do."""

    def commit(self, connection: SqliteConnection) -> None:
        """Make the transaction durable.

        Raises: StorageUnavailable where it is so in files that are not at the path any more.
        """
        connection.execute("COMMIT")
        stop_if_ending()
        self.check()
        self._checkpoints.after_commit(connection)

    def rollback(self, connection: SqliteConnection) -> None:
        """Undo the transaction."""
        connection.execute("ROLLBACK")

    def is_lost(self, connection: SqliteConnection) -> bool:
        """Whether an error has ended the transaction: SQLite rolls back by itself where it cannot go on."""
        return not connection.raw.in_transaction

    def may_pass(self, _error: BaseException) -> bool:
        """Whether the same transaction may succeed when it is run again: no, as nobody else writes meanwhile."""
        return False

    def is_held(self, _error: BaseException) -> bool:
        """Whether somebody else holds a row that was wanted: no, as nobody else writes meanwhile."""
        return False

    def changes(self, connection: SqliteConnection) -> int:
        """Rows changed so far on this connection, undone ones too."""
        return connection.raw.total_changes()

    def translate(self, error: BaseException) -> BaseException:
        """Say in the store's own terms what the driver reports of the database; pass on all else, such as wrong SQL.

        A failed sync is not told to anybody: it ends the process. Whether what was committed is there, the next start
        finds out.
        """
        cause: BaseException | None = error
        while cause is not None:
            if is_failed_sync(cause):
                end_process(str(cause))
            fact = FACTS.get(getattr(cause, "result", apsw.SQLITE_OK)) if isinstance(cause, apsw.Error) else None
            if fact is not None:
                return fact()
            cause = cause.__context__
        return error

    def close(self) -> None:
        """Close every thread's connection, and the last one removes the log and its index.

        Not where other files are at the path by now: then all is copied to the open database, wherever it is. Safe to
        call twice.
        """
        if self._is_closed:
            return
        self._is_closed = True
        leaves_files = not self._files.are_in_place()
        if leaves_files:
            self._checkpoints.copy_all()
        for connection in list(self._connections):
            with contextlib.suppress(apsw.Error):
                if leaves_files:
                    leave_files(connection.raw)
                connection.raw.close()
        self._checkpoints.close(leaves_files=leaves_files)
