"""The SQLite driver: opens, begins, commits and undoes on an embedded database, and says what its errors mean.

Refuses a SQLite that can lose commits. `synchronous=FULL` in WAL mode: a commit that was answered survives a power cut.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase

from storekeep.server.store.checkpoints import PAGES_MAX, Checkpoints
from storekeep.server.store.dialects import SQLITE
from storekeep.server.store.errors import StorageFull, StorageUnavailable, StoreError

SQLITE_VERSION_MIN = (3, 51, 3)
"""The first release without the WAL-reset race, which can lose commits (sqlite.org, release log)."""
BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process, such as a backup, to let go of the database."""
STATEMENTS_MAX = 512
"""Statements that a connection keeps prepared; more than there are."""
CACHE_KIB = 2_048
"""SQLite's page cache of a reader; behind it is the kernel's."""
WRITER_PRAGMAS = ("PRAGMA cache_size = -8192", f"PRAGMA wal_autocheckpoint = {PAGES_MAX}")
"""The writer comes back to the same pages of the indexes again and again, so it has 8 MiB of cache."""

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


class UnsafeSqlite(StoreError):
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
    """Make a database's file, where there is none, so that only its owner can read it; SQLite would let all others."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


class _Connection:
    """A thread's own connection. Only the thread holds it, so that it is closed when the thread ends."""

    __slots__ = ("__weakref__", "raw", "writes")

    def __init__(self, raw: apsw.Connection) -> None:
        self.raw = raw
        self.writes = False


class SqliteDriver:
    """One SQLite file. Each thread has a connection of its own.

    Args:
        path: the file; it is made when missing.

    Raises: UnsafeSqlite.
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
            ],
            timeout=BUSY_TIMEOUT_S,
            statementcachesize=STATEMENTS_MAX,
        )
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._local = threading.local()
        self._checkpoints = Checkpoints(self._database.connection)

    def reader(self, _deadline: float | None = None) -> Any:
        """The thread's connection, to read."""
        own: _Connection | None = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = _Connection(self._database.connection())
            self._connections.add(own)
        return own.raw

    def release(self, connection: Any) -> None:
        """The connection stays the thread's."""

    def writer(self) -> Any:
        """The thread's connection, to write: the engine's writer is one thread."""
        connection = self.reader()
        if not self._local.own.writes:
            for pragma in WRITER_PRAGMAS:
                connection.execute(pragma)
            self._local.own.writes = True
        return connection

    def begin_snapshot(self, connection: Any) -> None:
        """From here on all statements see the database at one point in time."""
        connection.execute("BEGIN")

    def begin_write(self, connection: Any) -> None:
        """From here on nobody else writes. A deferred transaction would not wait for who does."""
        connection.execute("BEGIN IMMEDIATE")

    def limit(self, connection: Any, deadline: float | None) -> None:
        """Statements are not interrupted: on a local file they take as long as they do."""

    def commit(self, connection: Any) -> None:
        """Make the transaction durable."""
        connection.execute("COMMIT")
        self._checkpoints.after_commit(connection)

    def rollback(self, connection: Any) -> None:
        """Undo the transaction."""
        connection.execute("ROLLBACK")

    def is_lost(self, connection: Any) -> bool:
        """Whether an error has ended the transaction: SQLite rolls back by itself where it cannot go on."""
        return not connection.in_transaction

    def may_pass(self, _error: BaseException) -> bool:
        """Whether the same transaction may succeed when it is run again: no, as nobody else writes meanwhile."""
        return False

    def is_held(self, _error: BaseException) -> bool:
        """Whether somebody else holds a row that was wanted: no, as nobody else writes meanwhile."""
        return False

    def changes(self, connection: Any) -> int:
        """Rows changed so far on this connection, undone ones too."""
        changed: int = connection.total_changes()
        return changed

    def translate(self, error: BaseException) -> BaseException:
        """Say in the store's own terms what the driver reports of the database; pass on all else, such as wrong SQL."""
        cause: BaseException | None = error
        while cause is not None:
            fact = FACTS.get(getattr(cause, "result", apsw.SQLITE_OK)) if isinstance(cause, apsw.Error) else None
            if fact is not None:
                return fact()
            cause = cause.__context__
        return error

    def close(self) -> None:
        """Close every thread's connection."""
        self._checkpoints.close()
        for connection in list(self._connections):
            with contextlib.suppress(apsw.Error):
                connection.raw.close()
