"""The SQLite engine: readers with connections of their own, and one writer with group commit.

Writes queue up. The writer runs them inside one BEGIN IMMEDIATE, each undone by itself when it fails, commits once
for all of them (one fsync), and only then does anyone get an answer. What was not acknowledged may be lost;
what was acknowledged survives a `kill -9` and a power cut (`synchronous=FULL`).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import peewee
from pysqlite3 import dbapi2 as sqlite

from storekeep.server.store.database import Transaction, database
from storekeep.server.store.errors import (
    DeadlinePassed,
    Overloaded,
    ShuttingDown,
    StorageFull,
    StorageUnavailable,
    StoreError,
)

T = TypeVar("T")
Work = Callable[[Transaction], T]

SQLITE_VERSION_MIN = (3, 51, 3)
"""The first release without the WAL-reset race, which can lose commits (sqlite.org, release log)."""
BATCH_MAX = 256
"""Writes in one commit at most: bounds how long the first of them waits for the last."""
BUSY_TIMEOUT_MS = 5_000
"""How long a statement waits for another process, such as a backup, to let go of the database."""
CACHE_KIB = 2_048
"""SQLite's page cache of a reader; behind it is the kernel's."""
WRITER_PRAGMAS = ("PRAGMA cache_size = -8192", "PRAGMA wal_autocheckpoint = 4000")
"""The writer comes back to the same pages of the indexes again and again, so it has 8 MiB of cache. Its log is copied
to the database after 4,000 pages, four times SQLite's own number, as that holds it up with two fsyncs; the log stays
at some 16 MiB."""
OUTCOME_TIMEOUT_S = 60.0
"""How long a caller waits for a write that has begun; longer means that the disk hangs."""
RETRY_AFTER_MS = 100
"""What a shed caller is told to wait: a full queue drains in about that time."""

PRIMARY_CODE = 0xFF
"""The part of SQLite's result codes that says what kind it is; the rest says where (sqlite.org/rescode.html)."""
FACTS: dict[int, type[StorageFull | StorageUnavailable]] = {
    sqlite.SQLITE_FULL: StorageFull,
    sqlite.SQLITE_BUSY: StorageUnavailable,
    sqlite.SQLITE_LOCKED: StorageUnavailable,
    sqlite.SQLITE_PROTOCOL: StorageUnavailable,
    sqlite.SQLITE_INTERRUPT: StorageUnavailable,
    sqlite.SQLITE_IOERR: StorageUnavailable,
    sqlite.SQLITE_PERM: StorageUnavailable,
    sqlite.SQLITE_READONLY: StorageUnavailable,
    sqlite.SQLITE_CANTOPEN: StorageUnavailable,
    sqlite.SQLITE_CORRUPT: StorageUnavailable,
    sqlite.SQLITE_NOTADB: StorageUnavailable,
}
"""What SQLite's primary result codes mean to a caller. Any other is a defect of a statement, and stays one."""

log = logging.getLogger("storekeep.store")


class UnsafeSqlite(StoreError):
    """The SQLite that Python is linked with can lose commits."""

    def __init__(self, version: str) -> None:
        super().__init__(f"SQLite {version} can lose commits in WAL mode; 3.51.3 is the first that cannot")


def check_sqlite_version() -> None:
    """Refuse a SQLite with the WAL-reset race.

    Raises: UnsafeSqlite.
    """
    if sqlite.sqlite_version_info < SQLITE_VERSION_MIN:
        raise UnsafeSqlite(sqlite.sqlite_version)


def translate(error: BaseException) -> BaseException:
    """Say in the store's own terms what the driver reports about the database; pass on all else, such as wrong SQL."""
    cause: BaseException | None = error
    while cause is not None:
        fact = FACTS.get(getattr(cause, "sqlite_errorcode", sqlite.SQLITE_OK) & PRIMARY_CODE)
        if fact is not None:
            return fact()
        cause = cause.__context__
    return error


class _Write(Generic[T]):
    """One queued write. `claim` decides between the writer and a caller who gave up."""

    __slots__ = ("claim", "deadline", "done", "error", "result", "trial", "work")

    def __init__(self, work: Work[T], *, deadline: float | None, trial: bool) -> None:
        self.work = work
        self.deadline = deadline
        self.trial = trial
        self.claim = threading.Lock()
        self.done = threading.Lock()
        self.done.acquire()
        self.result: T | None = None
        self.error: BaseException | None = None


class _Connection:
    """A thread's own connection. Only the thread holds it, so that it is closed when the thread ends."""

    __slots__ = ("__weakref__", "raw")

    def __init__(self, raw: Any) -> None:
        self.raw = raw


class Store:
    """The database of one process: models are bound to it until the next one is made.

    Args:
        path: the SQLite file; it is made when missing.
        queue_max: writes that may wait at once; beyond it callers are shed with `Overloaded`.

    Raises: UnsafeSqlite.
    """

    def __init__(self, path: Path, *, queue_max: int = 1_000) -> None:
        check_sqlite_version()
        self.path = path
        self.database = peewee.SqliteDatabase(
            str(path),
            pragmas=[
                ("journal_mode", "wal"),
                ("synchronous", "full"),
                ("foreign_keys", 1),
                ("busy_timeout", BUSY_TIMEOUT_MS),
                ("cache_size", -CACHE_KIB),
                ("temp_store", "memory"),
            ],
            cached_statements=512,
            check_same_thread=False,
        )
        database.initialize(self.database)
        self._queue: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._queue_max = queue_max
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._local = threading.local()
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._writer.start()

    def read(self, work: Work[T]) -> T:
        """Run `work`, which reads with a single statement, and give its result.

        Raises: StorageUnavailable, ShuttingDown, and what `work` raises.
        """
        if self._closed:
            raise ShuttingDown
        try:
            return work(Transaction(self._connection()))
        except (sqlite.Error, peewee.PeeweeException) as error:
            raise ShuttingDown() if self._closed else translate(error) from error

    def snapshot(self, work: Work[T]) -> T:
        """Run `work`, whose statements all see the database at one point in time.

        Raises: as `read`.
        """

        def in_transaction(tx: Transaction) -> T:
            tx.connection.execute("BEGIN")
            try:
                return work(tx)
            finally:
                tx.connection.execute("ROLLBACK")

        return self.read(in_transaction)

    def write(self, work: Work[T], *, deadline: float | None = None, trial: bool = False) -> T:
        """Run `work` as one transaction and return when it is durable.

        Args:
            work: runs in the writer's thread; whatever it raises undoes all that it did, and nothing else. It may be
                run twice, the first time undone, so it must do nothing but through its transaction.
            deadline: the `time.monotonic()` after which it must not begin any more.
            trial: whether it is meant to be undone; only saves the work of others in the same commit from being redone.

        Raises: Overloaded, DeadlinePassed, StorageFull, StorageUnavailable, ShuttingDown, and what `work` raises.
        """
        if self._closed:
            raise ShuttingDown
        if self._queue.qsize() >= self._queue_max:
            raise Overloaded(retry_after_ms=RETRY_AFTER_MS)
        write = _Write(work, deadline=deadline, trial=trial)
        self._queue.put(write)
        if self._closed and write.claim.acquire(blocking=False):  # the writer may be gone already
            raise ShuttingDown
        self._await(write)
        if write.error is not None:
            raise write.error
        return write.result  # type: ignore[return-value]  # there is a result where there is no error

    def _await(self, write: _Write[Any]) -> None:
        """Wait until the write is done, or until its deadline if it has not begun by then."""
        patience_s = OUTCOME_TIMEOUT_S if write.deadline is None else write.deadline - time.monotonic()
        if write.done.acquire(timeout=min(max(0.0, patience_s), threading.TIMEOUT_MAX)):
            return
        if write.claim.acquire(blocking=False):  # it has not begun: now it never will
            raise DeadlinePassed
        if not write.done.acquire(timeout=OUTCOME_TIMEOUT_S):
            raise StorageUnavailable

    def _connection(self, pragmas: Sequence[str] = ()) -> Any:
        """The thread's own connection; when it is new, the pragmas are run first."""
        own = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = _Connection(self.database.connection())
            self._connections.add(own)
            for pragma in pragmas:
                own.raw.execute(pragma)
        return own.raw

    def _write_forever(self) -> None:
        while (first := self._queue.get()) is not None:
            self._commit_batch(first)

    def _next(self) -> _Write[Any] | None:
        """What is queued next, if anything; the mark of the end is put back for `_write_forever`."""
        try:
            write = self._queue.get_nowait()
        except queue.Empty:
            return None
        if write is None:
            self._queue.put(None)
        return write

    def _claim(self, first: _Write[Any]) -> Iterator[_Write[Any]]:
        """`first` and what is queued behind it, as far as their callers still wait for it to begin."""
        write: _Write[Any] | None = first
        claimed = 0
        while write is not None:
            if write.claim.acquire(blocking=False):
                claimed += 1
                yield write
            write = self._next() if claimed < BATCH_MAX else None

    def _commit_batch(self, first: _Write[Any]) -> None:
        """Run `first` and what is queued behind it in one transaction, commit, and wake their callers."""
        batch: list[_Write[Any]] = []
        try:
            connection = self._connection(WRITER_PRAGMAS)
            self._run_batch(connection, first, batch)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
            batch = batch or list(self._claim(first))  # what could not even begin, nobody else can now
            self._fail_batch(batch, error)
        for write in batch:
            write.done.release()

    def _run_batch(self, connection: Any, first: _Write[Any], batch: list[_Write[Any]]) -> None:
        """Begin a transaction and run the batch in it.

        Most work succeeds, so it runs without a savepoint, which would copy every page that it changes. When one fails
        after it has changed something, the transaction begins again and all of the batch runs in savepoints.
        """
        notes: dict[str, Any] = {}
        in_savepoints = False
        connection.execute("BEGIN IMMEDIATE")
        for write in self._claim(first):
            batch.append(write)
            if in_savepoints or write.trial:
                notes = _run_in_savepoint(connection, write, notes)
                continue
            noted = _run(connection, write, notes)
            if noted is not None:
                notes = noted
                continue
            in_savepoints = True
            notes = {}
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            for again in batch:
                notes = _run_in_savepoint(connection, again, notes)

    def _fail_batch(self, batch: list[_Write[Any]], error: Exception) -> None:
        log.error("the database refused a batch of writes", extra={"writes": len(batch)}, exc_info=error)
        with contextlib.suppress(Exception):
            self._connection().execute("ROLLBACK")
        for write in batch:
            write.error = translate(error)

    def close(self) -> None:
        """Finish what is queued, then close every connection. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join(timeout=OUTCOME_TIMEOUT_S)
        for connection in list(self._connections):
            with contextlib.suppress(sqlite.Error):
                connection.raw.close()


def _run(connection: Any, write: _Write[Any], notes: dict[str, Any]) -> dict[str, Any] | None:
    """Run one write; gives the notes for the next one, or None where it has left changes that must be undone.

    Raises: the driver's error where SQLite itself has rolled back the whole transaction.
    """
    changes_before = connection.total_changes
    tx = _attempt(connection, write, notes)
    if not tx.rollback_only:
        return tx.notes
    return notes if connection.total_changes == changes_before else None


def _run_in_savepoint(connection: Any, write: _Write[Any], notes: dict[str, Any]) -> dict[str, Any]:
    """Run one write so that its failure undoes it and nothing else; gives the notes for the next one.

    Raises: the driver's error where SQLite itself has rolled back the whole transaction.
    """
    connection.execute("SAVEPOINT work")
    tx = _attempt(connection, write, notes)
    if tx.rollback_only:
        connection.execute("ROLLBACK TO work")
    connection.execute("RELEASE work")
    return notes if tx.rollback_only else tx.notes


def _attempt(connection: Any, write: _Write[Any], notes: dict[str, Any]) -> Transaction:
    """Run one write and keep what it gives or raises; gives its transaction, which says whether to undo it.

    Raises: the driver's error where SQLite itself has rolled back the whole transaction.
    """
    tx = Transaction(connection, notes.copy())
    write.error = None
    try:
        if write.deadline is not None and time.monotonic() > write.deadline:
            raise DeadlinePassed
        write.result = write.work(tx)
    except Exception as error:
        if not connection.in_transaction:
            raise
        write.error = translate(error)
        tx.rollback_only = True
    return tx
