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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

from storekeep.server.runtime.admission import AdmissionController
from storekeep.server.runtime.tasks import give_up
from storekeep.server.store.drivers import Driver
from storekeep.server.store.errors import (
    RETRY_AFTER_MS,
    DeadlinePassed,
    Overloaded,
    ShuttingDown,
    StorageUnavailable,
    StoreError,
)
from storekeep.server.store.held_writes import HeldWrites
from storekeep.server.store.reads import CallTerms, plain_terms
from storekeep.server.store.sql.transactions import Clock, Connection, Transaction, wall_clock

if TYPE_CHECKING:
    from storekeep.server.store.replicas import Replicas

T = TypeVar("T")
Work = Callable[[Transaction], T]
Task = Callable[[], None]
Committed = Callable[[int], None]

BATCH_MAX = 256
"""Writes in one commit at most: bounds how long the first of them waits for the last."""
ATTEMPTS_MAX = 5
"""How often a batch is run when others are in its way."""
AGAIN_AFTER_S = 0.02
"""How long to wait for them, times the number of the attempt, at most."""
OUTCOME_TIMEOUT_S = 60.0
"""How long a caller waits for a write that has begun; longer means that the disk hangs."""

log = logging.getLogger("storekeep.store")


class _Write(Generic[T]):
    """One write on its way. Either a thread waits for it, or a task of the writer's own does.

    Attributes:
        task: what is resumed when it is done; None where a thread waits.
        claim: decides between the writer and a thread that gave up.
        done: released when it is done.
        is_held: whether it has met a row that somebody else holds, when it was run last.
        held_until_s: see `Holdable`.
        position: see `Transaction`.
    """

    __slots__ = (
        "claim",
        "deadline",
        "done",
        "error",
        "held_until_s",
        "is_held",
        "position",
        "result",
        "task",
        "trial",
        "work",
    )

    def __init__(self, work: Work[T], *, deadline: float | None, trial: bool, task: greenlet | None = None) -> None:
        self.work = work
        self.deadline = deadline
        self.trial = trial
        self.task = task
        if task is None:
            self.claim = threading.Lock()
            self.done = threading.Lock()
            self.done.acquire()
        self.result: T | None = None
        self.error: BaseException | None = None
        self.position = 0
        self.is_held = False
        self.held_until_s = 0.0

    def wake(self) -> None:
        """Have whoever waits for it go on."""
        if self.task is None:
            self.done.release()
        else:
            self.task.switch()


class Store:
    """The database of one process.

    Args:
        driver: speaks to the database.
        admission: which writes may wait; others are rejected with `Overloaded`.
        replicas: what may answer reads whose terms allow it.
        call_terms: the terms of the call that the thread is serving, on which it reads.
        committed: is told, in the thread of a write that is durable, how far the ledger goes with it.
        clock: by which transactions know what is due.

    Attributes:
        commits: transactions of the writer that were made durable, without those in which nothing was to be kept.
        writes: what was kept in them.
        chain: what transactions that write carry; see `Transaction`.
        expirers: what mutations run where they need the stock of what has expired; the domain's own, as `chain` is.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        admission: AdmissionController,
        replicas: Replicas | None = None,
        call_terms: CallTerms = plain_terms,
        committed: Committed = lambda position: None,
        clock: Clock = wall_clock,
    ) -> None:
        self.driver = driver
        self._clock = clock
        self._replicas = replicas
        self._call_terms = call_terms
        self._committed = committed
        self._queue: queue.SimpleQueue[tuple[float, _Write[Any] | Task] | None] = queue.SimpleQueue()
        self._admission = admission
        self._closed = False
        self._hub: greenlet | None = None
        self._idle: list[greenlet] = []
        self._collected: list[_Write[Any]] = []
        self._held: HeldWrites[_Write[Any]] = HeldWrites(patience_s=driver.row_patience_s)
        self.commits = 0
        self.writes = 0
        self.chain: Any = None
        self.expirers: tuple[Any, ...] = ()
        self._writer = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._writer.start()

    @property
    def queued(self) -> int:
        """Writes, and tasks that write, that wait to be begun."""
        return self._queue.qsize()

    def read(self, work: Work[T]) -> T:
        """Run `work`, which reads with a single statement, and give its result.

        Args:
            work: may be run twice, the second time on the primary, where a replica fails.

        Raises: StorageUnavailable, ShuttingDown, and what `work` raises.
        """
        return self._read(_read_by, work)

    def snapshot(self, work: Work[T]) -> T:
        """Run `work`, whose statements all see the database at one point in time.

        Raises: as `read`.
        """
        return self._read(_read_at_one_point, work)

    def _read(self, read_by: Callable[[Driver, Clock, float | None, Work[T]], T], work: Work[T]) -> T:
        if self._closed:
            raise ShuttingDown
        terms = self._call_terms()
        replica = None if self._replicas is None else self._replicas.choose(terms)
        if replica is not None:
            try:
                return read_by(replica.driver, self._clock, replica.time_for(terms), work)
            except replica.failures as error:
                replica.put_aside(error)
        try:
            return read_by(self.driver, self._clock, terms.deadline, work)
        except self.driver.errors as error:
            raise ShuttingDown() if self._closed else self.driver.translate(error) from error

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
        task = getcurrent()
        if task.parent is not None and task.parent is self._hub:
            write = _Write(work, deadline=deadline, trial=trial, task=task)
            self._collected.append(write)
            task.parent.switch()
        else:
            write = self._queue_up(work, deadline=deadline, trial=trial)
        if write.error is not None:
            raise write.error
        if write.position:
            self._committed(write.position)
        return write.result  # type: ignore[return-value]  # there is a result where there is no error

    def check(self) -> None:
        """Refuse a database that is not the one that was opened any more.

        Raises: StorageUnavailable.
        """
        self.driver.check()

    def run_soon(self, task: Task, queued_s: float | None = None) -> bool:
        """Have the writer's thread run a task, which may call `write`: then others run until the commit is done.

        A thread that waits for its commit costs two switches; a task costs none.

        Args:
            task: must not raise, nor wait for anything but a write.
            queued_s: since when it has waited, as a `time.monotonic()`; since now where it is None.

        Returns: False, and nothing is run, where as much is queued as may be.
        """
        if self._closed or self.queued >= self._admission.length_max:
            return False
        self._queue.put((time.monotonic() if queued_s is None else queued_s, task))
        return True

    def is_full(self) -> bool:
        """Return whether no further write is admitted."""
        return not self._admission.admits(self.queued)

    def _queue_up(self, work: Work[T], *, deadline: float | None, trial: bool) -> _Write[T]:
        """Queue a write for the writer and wait in this thread until it is done.

        Raises: Overloaded, DeadlinePassed, StorageUnavailable, ShuttingDown.
        """
        if self.is_full():
            raise Overloaded(retry_after_ms=RETRY_AFTER_MS)
        write = _Write(work, deadline=deadline, trial=trial)
        self._queue.put((time.monotonic(), write))
        if self._closed and write.claim.acquire(blocking=False):  # the writer may be gone already
            raise ShuttingDown
        self._await(write)
        return write

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
        self._hub = getcurrent()
        while True:
            try:
                first = self._queue.get(timeout=self._held.due_in_s())
                if first is None:
                    break
                self._collect(first)
            except queue.Empty:  # some that are held are due
                pass
            self._commit_collected()
        while self._held:  # they end within their patience
            time.sleep(self._held.due_in_s() or 0.0)
            self._commit_collected()

    def _commit_collected(self) -> None:
        """Commit what was collected, and what the tasks write that go on then; at its end, some that were held."""
        if self._held:
            self._collect_held()
        while self._collected:
            batch, self._collected = self._collected, []
            self._commit_batch(batch)

    def _collect_held(self) -> None:
        for write in self._held.take_expired():
            if write.deadline is not None and time.monotonic() > write.deadline:
                write.error = DeadlinePassed()
            write.wake()
        self._collected.extend(self._held.take_due())

    def _collect(self, first: tuple[float, _Write[Any] | Task]) -> None:
        """Gather writes: those that threads wait for, and what the tasks that are queued have to write.

        Under overload, tasks that have waited too long are refused: those behind them would wait for them too.
        """
        queued: tuple[float, _Write[Any] | Task] | None = first
        while queued is not None:
            queued_s, item = queued
            is_late = self._admission.record_wait(queued_s)
            if not isinstance(item, _Write):
                if is_late and give_up(item):
                    queued = self._next()
                    continue
                (self._idle.pop() if self._idle else greenlet(self._run_tasks)).switch(item)
            elif item.claim.acquire(blocking=False):
                self._collected.append(item)
            queued = self._next() if len(self._collected) < BATCH_MAX else None

    def _run_tasks(self, task: Task) -> None:
        """One of the greenlets that run tasks: each runs one at a time, and is kept for the next."""
        me = getcurrent()
        while True:
            task()
            self._idle.append(me)
            task = me.parent.switch()  # type: ignore[union-attr]  # the hub made it

    def _next(self) -> tuple[float, _Write[Any] | Task] | None:
        """What is queued next, if anything; the mark of the end is put back for `_write_forever`."""
        try:
            queued = self._queue.get_nowait()
        except queue.Empty:
            return None
        if queued is None:
            self._queue.put(None)
        return queued

    def _commit_batch(self, batch: list[_Write[Any]]) -> None:
        """Run a batch in one transaction, commit, and wake who waits for it."""
        try:
            self._run_until_committed(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
            self._fail_batch(batch, error)
        for write in batch:
            if not (write.is_held and self._held.set_aside(write)):
                write.wake()

    def _run_until_committed(self, batch: list[_Write[Any]]) -> None:
        """Run the batch and commit it; again where others were in its way, as in a deadlock with an operator's SQL."""
        connection = self.driver.writer()
        for attempt in itertools.count(1):
            try:
                if attempt == 1:
                    self._run_batch(connection, batch)
                else:
                    self._run_again(connection, batch)
                self.driver.commit(connection)
                self._count(batch)
                return
            except Exception as error:
                if attempt == ATTEMPTS_MAX or not self.driver.may_pass(error):
                    raise
                is_held = self.driver.is_held(error)
                if not is_held:
                    log.warning("a batch of writes is run again", extra={"attempt": attempt, "problem": str(error)})
            self.driver.rollback(connection)
            if not is_held:  # which holds up the one that wants it only, once it is known which one that is
                time.sleep(random.uniform(0, attempt * AGAIN_AFTER_S))  # noqa: S311 - jitter is no secret

    def _run_again(self, connection: Connection, batch: list[_Write[Any]]) -> dict[str, Any]:
        """Begin a transaction and run the batch in it, each write in a savepoint; gives the notes for the next one."""
        notes: dict[str, Any] = {}
        self.driver.begin_write(connection)
        for write in batch:
            notes = self._run_in_savepoint(connection, write, notes)
        return notes

    def _run_batch(self, connection: Connection, batch: list[_Write[Any]]) -> None:
        """Begin a transaction and run the batch in it.

        Most work succeeds, so it runs without a savepoint, which would copy every page that it changes. When one fails
        after it has changed something, the transaction begins again and all of the batch runs in savepoints.
        """
        notes: dict[str, Any] = {}
        in_savepoints = False
        self.driver.begin_write(connection)
        for place, write in enumerate(batch):
            if in_savepoints or write.trial or write.held_until_s:
                notes = self._run_in_savepoint(connection, write, notes)
                continue
            noted = self._run(connection, write, notes)
            if noted is not None:
                notes = noted
                continue
            in_savepoints = True
            self.driver.rollback(connection)
            notes = self._run_again(connection, batch[: place + 1])

    def _run(self, connection: Connection, write: _Write[Any], notes: dict[str, Any]) -> dict[str, Any] | None:
        """Run one write; gives the notes for the next one, or None where it has left changes that must be undone.

        Raises: the driver's error where the whole transaction is lost.
        """
        changes_before = self.driver.changes(connection)
        tx = self._attempt(connection, write, notes, deferring=True)
        if not tx.rollback_only:
            return tx.notes
        return notes if self.driver.changes(connection) == changes_before else None

    def _run_in_savepoint(self, connection: Connection, write: _Write[Any], notes: dict[str, Any]) -> dict[str, Any]:
        """Run one write so that its failure undoes it and nothing else; gives the notes for the next one.

        Raises: the driver's error where the whole transaction is lost.
        """
        connection.execute("SAVEPOINT work")
        tx = self._attempt(connection, write, notes)
        if tx.rollback_only:
            connection.execute("ROLLBACK TO SAVEPOINT work")
        connection.execute("RELEASE SAVEPOINT work")
        return notes if tx.rollback_only else tx.notes

    def _attempt(
        self, connection: Connection, write: _Write[Any], notes: dict[str, Any], *, deferring: bool = False
    ) -> Transaction:
        """Run one write and keep what it gives or raises; gives its transaction, which says whether to undo it.

        Args:
            deferring: whether statements may be deferred: then a failure may be that of another write.

        Raises: the driver's error where the whole transaction is lost.
        """
        tx = Transaction(connection, self.driver.dialect, notes.copy(), now_us=self._clock(), chain=self.chain)
        connection.deferring = deferring
        write.error = None
        write.is_held = False
        try:
            if write.deadline is not None and time.monotonic() > write.deadline:
                raise DeadlinePassed
            self.driver.limit(connection, write.deadline)
            write.result = write.work(tx)
            write.position = tx.position
        except Exception as error:
            if self.driver.is_lost(connection):
                raise
            write.error = self.driver.translate(error)
            write.is_held = not deferring and self.driver.is_held(error)
            tx.rollback_only = True
        finally:
            self.driver.limit(connection, None)
        return tx

    def _fail_batch(self, batch: list[_Write[Any]], error: Exception) -> None:
        reported = self.driver.translate(error)
        if not isinstance(error, StoreError):  # of those the driver has logged what there is to say
            log.error("the database refused a batch of writes", extra={"writes": len(batch)}, exc_info=error)
        with contextlib.suppress(Exception):
            self.driver.rollback(self.driver.writer())
        for write in batch:
            write.error = reported
            write.is_held = False

    def _count(self, batch: list[_Write[Any]]) -> None:
        kept = sum(not write.trial and write.error is None for write in batch)
        self.writes += kept
        self.commits += kept > 0

    def close(self) -> None:
        """Finish what is queued, then close every connection. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join(timeout=OUTCOME_TIMEOUT_S)
        if self._replicas is not None:
            self._replicas.close()
        self.driver.close()


def _read_by(driver: Driver, clock: Clock, deadline: float | None, work: Work[T]) -> T:
    connection = driver.reader(deadline)
    try:
        return work(Transaction(connection, driver.dialect, now_us=clock()))
    finally:
        driver.release(connection)


def _read_at_one_point(driver: Driver, clock: Clock, deadline: float | None, work: Work[T]) -> T:
    def in_transaction(tx: Transaction) -> T:
        driver.begin_snapshot(tx.connection)
        try:
            return work(tx)
        finally:
            driver.rollback(tx.connection)

    return _read_by(driver, clock, deadline, in_transaction)
