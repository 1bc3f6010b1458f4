"""The engine: readers side by side, and one writer with group commit, on whichever database the driver speaks to.

Writes queue up. The writer runs them inside one transaction, each undone by itself when it fails, commits once
for all of them (one fsync), and only then does anyone get an answer. What was not acknowledged may be lost;
what was acknowledged survives a `kill -9` and a power cut.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from storekeep.server.store.database import Transaction
from storekeep.server.store.dialects import Dialect
from storekeep.server.store.errors import DeadlinePassed, Overloaded, ShuttingDown, StorageUnavailable

T = TypeVar("T")
Work = Callable[[Transaction], T]
CallDeadline = Callable[[], float | None]

QUEUE_MAX = 1_000
"""Writes that may wait at once, where nobody says otherwise."""
BATCH_MAX = 256
"""Writes in one commit at most: bounds how long the first of them waits for the last."""
ATTEMPTS_MAX = 5
"""How often a batch is run when others are in its way."""
AGAIN_AFTER_S = 0.02
"""How long to wait for them, times the number of the attempt, at most."""
OUTCOME_TIMEOUT_S = 60.0
"""How long a caller waits for a write that has begun; longer means that the disk hangs."""
RETRY_AFTER_MS = 100
"""What a shed caller is told to wait: a full queue drains in about that time."""

log = logging.getLogger("storekeep.store")


class Driver(Protocol):
    """One kind of database, as far as the engine needs to know it. A connection has DB-API's `execute`.

    Deadlines are `time.monotonic()`s; None is none.
    """

    dialect: Dialect
    errors: tuple[type[Exception], ...]

    def reader(self, deadline: float | None) -> Any:
        """A connection to read, until it is released; no statement lasts beyond the deadline."""

    def release(self, connection: Any) -> None:
        """Give a reader's connection back."""

    def writer(self) -> Any:
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

    def changes(self, connection: Any) -> int:
        """A number that has risen where anything was changed, or where the transaction can only be undone."""

    def translate(self, error: BaseException) -> BaseException:
        """Say in the store's own terms what the driver reports of the database; pass on all else."""

    def close(self) -> None:
        """Close every connection."""


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


class Store:
    """The database of one process.

    Args:
        driver: speaks to the database.
        queue_max: writes that may wait at once; beyond it callers are shed with `Overloaded`.
        call_deadline: the deadline of the call that the thread is serving, which bounds its reads.
    """

    def __init__(
        self, driver: Driver, *, queue_max: int = QUEUE_MAX, call_deadline: CallDeadline = lambda: None
    ) -> None:
        self.driver = driver
        self._call_deadline = call_deadline
        self._queue: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._queue_max = queue_max
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
            connection = self.driver.reader(self._call_deadline())
            try:
                return work(Transaction(connection, self.driver.dialect))
            finally:
                self.driver.release(connection)
        except self.driver.errors as error:
            raise ShuttingDown() if self._closed else self.driver.translate(error) from error

    def snapshot(self, work: Work[T]) -> T:
        """Run `work`, whose statements all see the database at one point in time.

        Raises: as `read`.
        """

        def in_transaction(tx: Transaction) -> T:
            self.driver.begin_snapshot(tx.connection)
            try:
                return work(tx)
            finally:
                self.driver.rollback(tx.connection)

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
            self._run_until_committed(first, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
            batch = batch or list(self._claim(first))  # what could not even begin, nobody else can now
            self._fail_batch(batch, error)
        for write in batch:
            write.done.release()

    def _run_until_committed(self, first: _Write[Any], batch: list[_Write[Any]]) -> None:
        """Run the batch and commit it; again where others were in its way, as in a deadlock with an operator's SQL."""
        connection = self.driver.writer()
        for attempt in itertools.count(1):
            try:
                if attempt == 1:
                    self._run_batch(connection, first, batch)
                else:
                    self._run_again(connection, batch)
                self.driver.commit(connection)
                return
            except Exception as error:
                if attempt == ATTEMPTS_MAX or not self.driver.may_pass(error):
                    raise
                log.warning("a batch of writes is run again", extra={"attempt": attempt, "problem": str(error)})
            self.driver.rollback(connection)
            time.sleep(random.uniform(0, attempt * AGAIN_AFTER_S))  # noqa: S311 - jitter is no secret

    def _run_again(self, connection: Any, batch: list[_Write[Any]]) -> dict[str, Any]:
        """Begin a transaction and run the batch in it, each write in a savepoint; gives the notes for the next one."""
        notes: dict[str, Any] = {}
        self.driver.begin_write(connection)
        for write in batch:
            notes = self._run_in_savepoint(connection, write, notes)
        return notes

    def _run_batch(self, connection: Any, first: _Write[Any], batch: list[_Write[Any]]) -> None:
        """Begin a transaction and run the batch in it.

        Most work succeeds, so it runs without a savepoint, which would copy every page that it changes. When one fails
        after it has changed something, the transaction begins again and all of the batch runs in savepoints.
        """
        notes: dict[str, Any] = {}
        in_savepoints = False
        self.driver.begin_write(connection)
        for write in self._claim(first):
            batch.append(write)
            if in_savepoints or write.trial:
                notes = self._run_in_savepoint(connection, write, notes)
                continue
            noted = self._run(connection, write, notes)
            if noted is not None:
                notes = noted
                continue
            in_savepoints = True
            self.driver.rollback(connection)
            notes = self._run_again(connection, batch)

    def _run(self, connection: Any, write: _Write[Any], notes: dict[str, Any]) -> dict[str, Any] | None:
        """Run one write; gives the notes for the next one, or None where it has left changes that must be undone.

        Raises: the driver's error where the whole transaction is lost.
        """
        changes_before = self.driver.changes(connection)
        tx = self._attempt(connection, write, notes)
        if not tx.rollback_only:
            return tx.notes
        return notes if self.driver.changes(connection) == changes_before else None

    def _run_in_savepoint(self, connection: Any, write: _Write[Any], notes: dict[str, Any]) -> dict[str, Any]:
        """Run one write so that its failure undoes it and nothing else; gives the notes for the next one.

        Raises: the driver's error where the whole transaction is lost.
        """
        connection.execute("SAVEPOINT work")
        tx = self._attempt(connection, write, notes)
        if tx.rollback_only:
            connection.execute("ROLLBACK TO SAVEPOINT work")
        connection.execute("RELEASE SAVEPOINT work")
        return notes if tx.rollback_only else tx.notes

    def _attempt(self, connection: Any, write: _Write[Any], notes: dict[str, Any]) -> Transaction:
        """Run one write and keep what it gives or raises; gives its transaction, which says whether to undo it.

        Raises: the driver's error where the whole transaction is lost.
        """
        tx = Transaction(connection, self.driver.dialect, notes.copy())
        write.error = None
        try:
            if write.deadline is not None and time.monotonic() > write.deadline:
                raise DeadlinePassed
            self.driver.limit(connection, write.deadline)
            write.result = write.work(tx)
        except Exception as error:
            if self.driver.is_lost(connection):
                raise
            write.error = self.driver.translate(error)
            tx.rollback_only = True
        finally:
            self.driver.limit(connection, None)
        return tx

    def _fail_batch(self, batch: list[_Write[Any]], error: Exception) -> None:
        log.error("the database refused a batch of writes", extra={"writes": len(batch)}, exc_info=error)
        with contextlib.suppress(Exception):
            self.driver.rollback(self.driver.writer())
        for write in batch:
            write.error = self.driver.translate(error)

    def close(self) -> None:
        """Finish what is queued, then close every connection. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join(timeout=OUTCOME_TIMEOUT_S)
        self.driver.close()
