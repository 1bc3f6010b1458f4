"""The storage engine: concurrent readers and a single writer with group commit, on any `Driver`.

The writer takes queued writes in batches. It runs a batch in one transaction, rolls back only the writes that fail,
commits once (one fsync) and then answers. An acknowledged write survives a `kill -9` and a power cut; a write that
was not acknowledged may be lost.
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
from storekeep.server.runtime.histograms import SIZE_BOUNDS, WAIT_BOUNDS_S, Histogram
from storekeep.server.runtime.tasks import Task, TaskGreenlets, give_up_late
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
from storekeep.server.store.reads import ReadBoundsSource, get_unbounded_read
from storekeep.server.store.sql.transactions import Clock, Connection, Transaction, read_clock

if TYPE_CHECKING:
    from storekeep.server.store.replicas import Replicas, ReplicaState

T = TypeVar("T")
Work = Callable[[Transaction], T]
CommitListener = Callable[[int], None]

BATCH_MAX = 256
"""Maximum number of writes in one commit. It bounds how long the first write waits for the last one."""
ATTEMPTS_MAX = 5
"""Maximum number of attempts to commit a batch that conflicts with another session."""
RETRY_DELAY_MAX_S = 0.02
"""Maximum delay before a retry, multiplied by the number of the attempt."""
OUTCOME_TIMEOUT_S = 60.0
"""How long a caller waits for a write that has started. A longer wait means that the disk hangs."""

log = logging.getLogger("storekeep.store")


class _Write(Generic[T]):
    """One queued or running write. Either a thread or a task of the writer's thread waits for it.

    Attributes:
        task: the task to resume when the write is done; None if a thread waits.
        claim: a lock that is taken once: by the writer to start the write, or by the waiting thread to abandon it.
        done: released when the write is done.
        is_held: whether the last attempt failed because another session holds a lock.
        held_until_s: see `Holdable`.
        consistency_token: see `Transaction`.
    """

    __slots__ = (
        "claim",
        "consistency_token",
        "deadline",
        "done",
        "dry_run",
        "error",
        "held_until_s",
        "is_held",
        "result",
        "task",
        "work",
    )

    def __init__(self, work: Work[T], *, deadline: float | None, dry_run: bool, task: greenlet | None = None) -> None:
        self.work = work
        self.deadline = deadline
        self.dry_run = dry_run
        self.task = task
        if task is None:
            self.claim = threading.Lock()
            self.done = threading.Lock()
            self.done.acquire()
        self.result: T | None = None
        self.error: BaseException | None = None
        self.consistency_token = 0
        self.is_held = False
        self.held_until_s = 0.0

    def wake(self) -> None:
        """Resume the waiting thread or task.

        The greenlet is not kept: the traceback of an error may keep the write longer than its thread lives.
        """
        task, self.task = self.task, None
        if task is None:
            self.done.release()
        else:
            task.switch()


class Store:
    """The database as seen by one process.

    Args:
        driver: the driver of the database.
        admission: decides which writes may queue. Others are rejected with `Overloaded`.
        replicas: replicas that may serve reads whose bounds allow it.
        get_read_bounds: returns the read bounds of the call that the current thread serves.
        on_commit: called with the consistency token of a durable write, in the thread of the caller.
        clock: the time that transactions use, for example to decide what has expired.

    Attributes:
        commits: number of durable transactions, without those that committed no change.
        writes: number of writes committed in these transactions.
        commit_sizes: number of writes in each of them.
        commit_durations: time from the begin of each transaction of the writer to its commit, in seconds.
        chain: set on each write transaction; see `Transaction`.
        expirers: functions of the domain that mutations run when they need the stock of expired orders and
            reservations. The store only passes them on.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        admission: AdmissionController,
        replicas: Replicas | None = None,
        get_read_bounds: ReadBoundsSource = get_unbounded_read,
        on_commit: CommitListener = lambda consistency_token: None,
        clock: Clock = read_clock,
    ) -> None:
        self.driver = driver
        self._clock = clock
        self._replicas = replicas
        self._get_read_bounds = get_read_bounds
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[tuple[float, _Write[Any] | Task] | None] = queue.SimpleQueue()
        self._admission = admission
        self._closed = False
        self._greenlets = TaskGreenlets()
        self._collected: list[_Write[Any]] = []
        self._held: HeldWrites[_Write[Any]] = HeldWrites(retry_max_s=driver.row_retry_max_s)
        self.commit_sizes = Histogram(SIZE_BOUNDS)
        self.commit_durations = Histogram(WAIT_BOUNDS_S)
        self.commits = 0
        self.writes = 0
        self.chain: Any = None
        self.expirers: tuple[Any, ...] = ()
        self._writer = threading.Thread(target=self._run_writer, name="store-writer", daemon=True)
        self._writer.start()

    @property
    def queued(self) -> int:
        """Number of queued writes and tasks."""
        return self._queue.qsize()

    def read(self, work: Work[T]) -> T:
        """Run `work`, which reads with a single statement, and return its result.

        Args:
            work: runs a second time, on the primary, if a replica fails.

        Raises: StorageUnavailable, ShuttingDown, and the errors of `work`.
        """
        return self._read(_read_by, work)

    def snapshot(self, work: Work[T]) -> T:
        """Run `work` so that all its statements see the same snapshot of the database, and return its result.

        Raises: StorageUnavailable, ShuttingDown, and the errors of `work`.
        """
        return self._read(_read_snapshot, work)

    def _read(self, read_by: Callable[[Driver, Clock, float | None, Work[T]], T], work: Work[T]) -> T:
        if self._closed:
            raise ShuttingDown
        bounds = self._get_read_bounds()
        replica = None if self._replicas is None else self._replicas.choose(bounds)
        if replica is not None:
            try:
                return read_by(replica.driver, self._clock, replica.get_read_deadline(bounds), work)
            except replica.failures as error:
                replica.mark_failed(error)
        try:
            return read_by(self.driver, self._clock, bounds.deadline, work)
        except self.driver.errors as error:
            raise ShuttingDown() if self._closed else self.driver.translate(error) from error

    def write(self, work: Work[T], *, deadline: float | None = None, dry_run: bool = False) -> T:
        """Run `work` as one transaction and return its result when the transaction is durable.

        Args:
            work: runs in the writer's thread. An error that it raises rolls back its own changes only. It may run a
                second time after a rollback, so it must have no effects outside its transaction.
            deadline: the `time.monotonic()` after which `work` must not start.
            dry_run: whether `work` will be rolled back. A hint: it spares the rest of the batch a second run.

        Raises: Overloaded, DeadlinePassed, StorageFull, StorageUnavailable, ShuttingDown, and the errors of `work`.
        """
        if self._closed:
            raise ShuttingDown
        if threading.get_ident() == self._writer.ident:
            write = _Write(work, deadline=deadline, dry_run=dry_run, task=getcurrent())
            self._collected.append(write)
            getcurrent().parent.switch()  # type: ignore[union-attr]  # only tasks write in the writer's thread
        else:
            write = self._enqueue(work, deadline=deadline, dry_run=dry_run)
        if write.error is not None:
            raise write.error
        if write.consistency_token:
            self._on_commit(write.consistency_token)
        return write.result  # type: ignore[return-value]  # a write without an error has a result

    def check(self) -> None:
        """Check that the database is still the one that was opened.

        Raises: StorageUnavailable.
        """
        self.driver.check()

    def submit_task(self, task: Task, queued_s: float | None = None) -> bool:
        """Queue a task for the writer's thread. When the task calls `write`, other tasks run until the commit.

        A thread that waits for its commit costs two context switches; a task costs none.

        Args:
            task: must not raise and must wait for nothing but a write.
            queued_s: the `time.monotonic()` at which the task was queued (default: now).

        Returns: False if the queue is full or closed. The task does not run then.
        """
        if self._closed or self.queued >= self._admission.length_max:
            return False
        self._queue.put((time.monotonic() if queued_s is None else queued_s, task))
        return True

    def list_replica_states(self) -> list[ReplicaState]:
        """Return the state of each replica; empty without replicas."""
        return [] if self._replicas is None else self._replicas.list_states()

    def rejects_writes(self) -> bool:
        """Return whether a new write would be rejected."""
        return not self._admission.admits(self.queued)

    def _enqueue(self, work: Work[T], *, deadline: float | None, dry_run: bool) -> _Write[T]:
        """Queue a write and wait in this thread until it is done.

        Raises: Overloaded, DeadlinePassed, StorageUnavailable, ShuttingDown.
        """
        if self.rejects_writes():
            raise Overloaded(retry_after_ms=RETRY_AFTER_MS)
        write = _Write(work, deadline=deadline, dry_run=dry_run)
        self._queue.put((time.monotonic(), write))
        if self._closed and write.claim.acquire(blocking=False):  # the writer may have stopped already
            raise ShuttingDown
        self._await(write)
        return write

    def _await(self, write: _Write[Any]) -> None:
        """Wait until the write is done, or until its deadline if it has not started by then."""
        timeout_s = OUTCOME_TIMEOUT_S if write.deadline is None else write.deadline - time.monotonic()
        if write.done.acquire(timeout=min(max(0.0, timeout_s), threading.TIMEOUT_MAX)):
            return
        if write.claim.acquire(blocking=False):  # the claim keeps it from starting
            raise DeadlinePassed
        if not write.done.acquire(timeout=OUTCOME_TIMEOUT_S):
            raise StorageUnavailable

    def _run_writer(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=self._held.next_retry_in_s())
                if first is None:
                    break
                self._collect(first)
            except queue.Empty:  # held writes are due for a retry
                pass
            self._commit_collected()
        while self._held:  # each of them ends within its retry time
            time.sleep(self._held.next_retry_in_s() or 0.0)
            self._commit_collected()
        self._greenlets.end()

    def _commit_collected(self) -> None:
        """Commit the collected writes, and then the writes of the tasks that these commits resume."""
        if self._held:
            self._collect_held()
        while self._collected:
            batch, self._collected = self._collected, []
            self._commit_batch(batch)
            if self._collected and (queued := self._next()) is not None:
                self._collect(queued)  # a task that writes repeatedly must not delay the queue

    def _collect_held(self) -> None:
        for write in self._held.take_expired():
            if write.deadline is not None and time.monotonic() > write.deadline:
                write.error = DeadlinePassed()
            write.wake()
        self._collected.extend(self._held.take_due())

    def _collect(self, first: tuple[float, _Write[Any] | Task]) -> None:
        """Collect queued writes, and run queued tasks until they write.

        Under overload, reject tasks that have waited too long, because the tasks behind them would wait as well.
        """
        queued: tuple[float, _Write[Any] | Task] | None = first
        while queued is not None:
            queued_s, item = queued
            is_late = self._admission.record_wait(queued_s)
            if not isinstance(item, _Write):
                if is_late and give_up_late(item):
                    queued = self._next()
                    continue
                self._greenlets.start(item)
            elif item.claim.acquire(blocking=False):
                self._collected.append(item)
            queued = self._next() if len(self._collected) < BATCH_MAX else None

    def _next(self) -> tuple[float, _Write[Any] | Task] | None:
        """Return the next queued item, or None. The end marker goes back into the queue for `_run_writer`."""
        try:
            queued = self._queue.get_nowait()
        except queue.Empty:
            return None
        if queued is None:
            self._queue.put(None)
        return queued

    def _commit_batch(self, batch: list[_Write[Any]]) -> None:
        """Run a batch in one transaction, commit it and wake the callers."""
        try:
            self._run_until_committed(batch)
        except Exception as error:  # noqa: BLE001 - every caller must get the error
            self._fail_batch(batch, error)
        for write in batch:
            if not (write.is_held and self._held.set_aside(write)):
                write.wake()

    def _run_until_committed(self, batch: list[_Write[Any]]) -> None:
        """Run the batch and commit it. Retry after a conflict, such as a deadlock with an operator's SQL."""
        connection = self.driver.writer()
        began_s = time.monotonic()
        for attempt in itertools.count(1):
            try:
                if attempt == 1:
                    self._run_batch(connection, batch)
                else:
                    self._run_again(connection, batch)
                self.driver.commit(connection)
                self._count(batch, time.monotonic() - began_s)
                return
            except Exception as error:
                if attempt == ATTEMPTS_MAX or not self.driver.is_retryable(error):
                    raise
                is_held = self.driver.is_held(error)
                if not is_held:
                    log.warning("a batch of writes is retried", extra={"attempt": attempt, "problem": str(error)})
            self.driver.rollback(connection)
            if not is_held:  # a held lock delays its own write only, which the next attempt identifies
                time.sleep(random.uniform(0, attempt * RETRY_DELAY_MAX_S))  # noqa: S311 - jitter is no secret

    def _run_again(self, connection: Connection, batch: list[_Write[Any]]) -> dict[str, Any]:
        """Begin a transaction, run each write of the batch in a savepoint, and return the batch cache."""
        cache: dict[str, Any] = {}
        self.driver.begin_write(connection)
        for write in batch:
            cache = self._run_in_savepoint(connection, write, cache)
        return cache

    def _run_batch(self, connection: Connection, batch: list[_Write[Any]]) -> None:
        """Begin a transaction and run the batch in it.

        A savepoint copies every page that changes, so writes run without one at first. When a write fails after a
        change, the transaction starts again and the whole batch runs in savepoints.
        """
        cache: dict[str, Any] = {}
        in_savepoints = False
        self.driver.begin_write(connection)
        for index, write in enumerate(batch):
            if in_savepoints or write.dry_run or write.held_until_s:
                cache = self._run_in_savepoint(connection, write, cache)
                continue
            next_cache = self._run(connection, write, cache)
            if next_cache is not None:
                cache = next_cache
                continue
            in_savepoints = True
            self.driver.rollback(connection)
            cache = self._run_again(connection, batch[: index + 1])

    def _run(self, connection: Connection, write: _Write[Any], cache: dict[str, Any]) -> dict[str, Any] | None:
        """Run one write. Return the batch cache, or None if it failed and left changes that must be rolled back.

        Raises: the driver's error if the whole transaction is lost.
        """
        changes_before = self.driver.changes(connection)
        tx = self._attempt(connection, write, cache, deferring=True)
        if not tx.rollback_only:
            return tx.batch_cache
        return cache if self.driver.changes(connection) == changes_before else None

    def _run_in_savepoint(self, connection: Connection, write: _Write[Any], cache: dict[str, Any]) -> dict[str, Any]:
        """Run one write in a savepoint, so that a failure rolls back this write only, and return the batch cache.

        Raises: the driver's error if the whole transaction is lost.
        """
        connection.execute("SAVEPOINT work")
        tx = self._attempt(connection, write, cache)
        if tx.rollback_only:
            connection.execute("ROLLBACK TO SAVEPOINT work")
        connection.execute("RELEASE SAVEPOINT work")
        return cache if tx.rollback_only else tx.batch_cache

    def _attempt(
        self, connection: Connection, write: _Write[Any], cache: dict[str, Any], *, deferring: bool = False
    ) -> Transaction:
        """Run one write, store its result or error, and return its transaction.

        `rollback_only` of the transaction tells whether the changes must be rolled back.

        Args:
            deferring: whether statements may be deferred. An error can then belong to an earlier write.

        Raises: the driver's error if the whole transaction is lost.
        """
        tx = Transaction(connection, self.driver.dialect, cache.copy(), now_us=self._clock(), chain=self.chain)
        connection.deferring = deferring
        write.error = None
        write.is_held = False
        try:
            if write.deadline is not None and time.monotonic() > write.deadline:
                raise DeadlinePassed
            self.driver.set_deadline(connection, write.deadline)
            write.result = write.work(tx)
            write.consistency_token = tx.consistency_token
        except Exception as error:
            if self.driver.is_lost(connection):
                raise
            write.error = self.driver.translate(error)
            write.is_held = not deferring and self.driver.is_held(error)
            tx.rollback_only = True
        finally:
            self.driver.set_deadline(connection, None)
        return tx

    def _fail_batch(self, batch: list[_Write[Any]], error: Exception) -> None:
        reported = self.driver.translate(error)
        if not isinstance(error, StoreError):  # the driver has logged store errors already
            log.error("the database refused a batch of writes", extra={"writes": len(batch)}, exc_info=error)
        with contextlib.suppress(Exception):
            self.driver.rollback(self.driver.writer())
        for write in batch:
            write.error = reported
            write.is_held = False

    def _count(self, batch: list[_Write[Any]], duration_s: float) -> None:
        committed = sum(not write.dry_run and write.error is None for write in batch)
        self.writes += committed
        self.commits += committed > 0
        if committed:
            self.commit_sizes.add(committed)
            self.commit_durations.add(duration_s)

    def close(self) -> None:
        """Finish the queued writes, then close every connection. Safe to call twice."""
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


def _read_snapshot(driver: Driver, clock: Clock, deadline: float | None, work: Work[T]) -> T:
    def in_transaction(tx: Transaction) -> T:
        driver.begin_snapshot(tx.connection)
        try:
            return work(tx)
        finally:
            driver.rollback(tx.connection)

    return _read_by(driver, clock, deadline, in_transaction)
