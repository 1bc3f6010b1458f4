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
from typing import TYPE_CHECKING, Any, TypeVar

from greenlet import getcurrent, greenlet

from storekeep.server.runtime.admission import AdmissionController
from storekeep.server.runtime.histograms import SIZE_BOUNDS, WAIT_BOUNDS_S, Histogram
from storekeep.server.runtime.tasks import Task, TaskGreenlets, give_up_late
from storekeep.server.store.commit_traces import CommitTracer
from storekeep.server.store.drivers import Driver
from storekeep.server.store.errors import (
    RETRY_AFTER_MS,
    DeadlinePassed,
    DeferredFailed,
    Overloaded,
    ShuttingDown,
    StorageUnavailable,
    StoreError,
)
from storekeep.server.store.held_writes import HeldWrites
from storekeep.server.store.lasting_reads import LastingReads
from storekeep.server.store.reads import ReadBoundsSource, get_unbounded_read
from storekeep.server.store.sql.dialects import Dialect
from storekeep.server.store.sql.transactions import Clock, Connection, SharedReads, Transaction, read_clock
from storekeep.server.store.writes import Work, Write, find_alike

if TYPE_CHECKING:
    from storekeep.server.store.replicas import Replicas, ReplicaState

T = TypeVar("T")
MakeTransaction = Callable[[Connection, Dialect], Transaction]
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


def _ignore_batch() -> None:
    pass


class Store:
    """The database as seen by one process.

    Args:
        driver: the driver of the database.
        admission: decides which writes may queue. Others are rejected with `Overloaded`.
        replicas: replicas that may serve reads whose bounds allow it.
        get_read_bounds: returns the read bounds of the call that the current thread serves.
        on_commit: called with the consistency token of a durable write, in the thread of the caller.
        clock: the time that transactions use, for example to decide what has expired.
        tracer: records commits of traced calls; None if no call is traced.

    Attributes:
        commits: number of durable transactions, without those that committed no change.
        writes: number of writes committed in these transactions.
        commit_sizes: number of writes in each of them.
        commit_durations: time from the beginning of each transaction of the writer to its commit, in seconds.
        on_batch: called after each commit of changes, in the writer's thread; must not block or raise.
        chain: set on each write transaction; see `Transaction`.
        data_keys: set on each transaction; see `Transaction`.
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
        tracer: CommitTracer | None = None,
    ) -> None:
        self.driver = driver
        self._tracer = tracer
        self._clock = clock
        self._replicas = replicas
        self._get_read_bounds = get_read_bounds
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[tuple[float, Write[Any] | Task] | None] = queue.SimpleQueue()
        self._admission = admission
        self._closed = False
        self._greenlets = TaskGreenlets()
        self._collected: list[Write[Any]] = []
        self._lasting_reads = LastingReads(driver)
        self._held: HeldWrites[Write[Any]] = HeldWrites(retry_max_s=driver.row_retry_max_s)
        self.commit_sizes = Histogram(SIZE_BOUNDS)
        self.commit_durations = Histogram(WAIT_BOUNDS_S)
        self.commits = 0
        self.writes = 0
        self.on_batch: Callable[[], None] = _ignore_batch
        self.chain: Any = None
        self.data_keys: Any = None
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

    def _read(self, read_by: Callable[[Driver, MakeTransaction, float | None, Work[T]], T], work: Work[T]) -> T:
        if self._closed:
            raise ShuttingDown
        bounds = self._get_read_bounds()
        replica = None if self._replicas is None else self._replicas.choose(bounds)
        if replica is not None:
            try:
                return read_by(replica.driver, self._make_read, replica.get_read_deadline(bounds), work)
            except replica.failures as error:
                replica.mark_failed(error)
        try:
            return read_by(self.driver, self._make_read, bounds.deadline, work)
        except self.driver.errors as error:
            raise ShuttingDown() if self._closed else self.driver.translate(error) from error

    def _make_read(self, connection: Connection, dialect: Dialect) -> Transaction:
        return Transaction(connection, dialect, now_us=self._clock(), data_keys=self.data_keys)

    def write(self, work: Work[T], *, deadline: float | None = None, dry_run: bool = False, subject: Any = None) -> T:
        """Run `work` as one transaction and return its result when the transaction is durable.

        Args:
            work: runs in the writer's thread. An error that it raises rolls back its own changes only. It may run a
                second time after a rollback, so it must have no effects outside its transaction.
            deadline: the `time.monotonic()` after which `work` must not start.
            dry_run: whether `work` will be rolled back. A hint: it spares the rest of the batch a second run.
            subject: what the write is about, so that writes of the same kind can read together; see `SharedReads`.

        Raises: Overloaded, DeadlinePassed, StorageFull, StorageUnavailable, ShuttingDown, and the errors of `work`.
        """
        if self._closed:
            raise ShuttingDown
        if threading.get_ident() == self._writer.ident:
            write = self._make_write(work, deadline=deadline, dry_run=dry_run, subject=subject, task=getcurrent())
            self._collected.append(write)
            getcurrent().parent.switch()  # type: ignore[union-attr]  # only tasks write in the writer's thread
        else:
            write = self._enqueue(work, deadline=deadline, dry_run=dry_run, subject=subject)
        if write.error is not None:
            raise write.error
        if write.consistency_token:
            self._on_commit(write.consistency_token)
        return write.result  # type: ignore[return-value]  # a write without an error has a result

    def _make_write(
        self, work: Work[T], *, deadline: float | None, dry_run: bool, subject: Any, task: greenlet | None = None
    ) -> Write[T]:
        write = Write(work, deadline=deadline, dry_run=dry_run, subject=subject, task=task)
        if self._tracer is not None:
            write.call = self._tracer.get_call()
        return write

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

    def _enqueue(self, work: Work[T], *, deadline: float | None, dry_run: bool, subject: Any) -> Write[T]:
        """Queue a write and wait in this thread until it is done.

        Raises: Overloaded, DeadlinePassed, StorageUnavailable, ShuttingDown.
        """
        if self.rejects_writes():
            raise Overloaded(retry_after_ms=RETRY_AFTER_MS)
        write = self._make_write(work, deadline=deadline, dry_run=dry_run, subject=subject)
        self._queue.put((time.monotonic(), write))
        if self._closed and write.claim.acquire(blocking=False):  # the writer may have stopped already
            raise ShuttingDown
        self._await(write)
        return write

    def _await(self, write: Write[Any]) -> None:
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

    def _collect(self, first: tuple[float, Write[Any] | Task]) -> None:
        """Collect queued writes, and run queued tasks until they write.

        Under overload, reject tasks that have waited too long, because the tasks behind them would wait as well.
        """
        queued: tuple[float, Write[Any] | Task] | None = first
        while queued is not None:
            queued_s, item = queued
            is_late = self._admission.record_wait(queued_s)
            if not isinstance(item, Write):
                if is_late and give_up_late(item):
                    queued = self._next()
                    continue
                self._greenlets.start(item)
            elif item.claim.acquire(blocking=False):
                self._collected.append(item)
            queued = self._next() if len(self._collected) < BATCH_MAX else None

    def _next(self) -> tuple[float, Write[Any] | Task] | None:
        """Return the next queued item, or None. The end marker goes back into the queue for `_run_writer`."""
        try:
            queued = self._queue.get_nowait()
        except queue.Empty:
            return None
        if queued is None:
            self._queue.put(None)
        return queued

    def _commit_batch(self, batch: list[Write[Any]]) -> None:
        """Run a batch in one transaction, commit it and wake the callers."""
        began_s = time.monotonic()
        try:
            self._run_until_committed(batch)
        except Exception as error:  # noqa: BLE001 - every caller must get the error
            self._fail_batch(batch, error)
            self._trace_commit(batch, time.monotonic() - began_s, error=type(error).__name__)
        for write in batch:
            if not (write.is_held and self._held.set_aside(write)):
                write.wake()

    def _run_until_committed(self, batch: list[Write[Any]]) -> None:
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
                self._lasting_reads.end()
                self._count(batch, time.monotonic() - began_s)
                return
            except Exception as error:
                self._lasting_reads.forget()
                if attempt == ATTEMPTS_MAX or not self.driver.is_retryable(error):
                    raise
                # The next attempt identifies the write that a held lock delays, or whose deferred statement failed.
                is_expected = self.driver.is_held(error) or isinstance(error, DeferredFailed)
                if not is_expected:
                    log.warning("a batch of writes is retried", extra={"attempt": attempt, "problem": str(error)})
            self.driver.rollback(connection)
            if not is_expected:
                time.sleep(random.uniform(0, attempt * RETRY_DELAY_MAX_S))  # noqa: S311 - jitter is no secret

    def _run_again(self, connection: Connection, batch: list[Write[Any]]) -> dict[str, Any]:
        """Begin a transaction, run each write of the batch in a savepoint, and return the batch cache."""
        cache: dict[str, Any] = {}
        self._lasting_reads.forget()
        self.driver.begin_write(connection)
        for write in batch:
            cache = self._run_in_savepoint(connection, write, cache)
        return cache

    def _run_batch(self, connection: Connection, batch: list[Write[Any]]) -> None:
        """Begin a transaction and run the batch in it.

        A savepoint copies every page that changes, so writes run without one at first. When a write fails after a
        change, the transaction starts again and the whole batch runs in savepoints.
        """
        cache: dict[str, Any] = {}
        in_savepoints = False
        shared: SharedReads | None = None
        shared_end = 0
        self.driver.begin_write(connection)
        self._lasting_reads.begin(connection)
        for index, write in enumerate(batch):
            if in_savepoints or write.runs_apart:
                cache = self._run_in_savepoint(connection, write, cache)
                continue
            if write.subject is None:
                shared = None
            elif index >= shared_end:
                shared = self._lasting_reads.share(find_alike(batch, index), now_us=self._clock())
                shared_end = index + len(shared.subjects)
            next_cache = self._run(connection, write, cache, shared)
            if next_cache is not None:
                cache = next_cache
                continue
            in_savepoints = True
            self.driver.rollback(connection)
            cache = self._run_again(connection, batch[: index + 1])

    def _run(
        self, connection: Connection, write: Write[Any], cache: dict[str, Any], shared: SharedReads | None
    ) -> dict[str, Any] | None:
        """Run one write. Return the batch cache, or None if it failed and left changes that must be rolled back.

        Raises: the driver's error if the whole transaction is lost.
        """
        changes_before = self.driver.changes(connection)
        tx = self._attempt(connection, write, cache, deferring=True, shared=shared)
        if not tx.rollback_only:
            return tx.batch_cache
        return cache if self.driver.changes(connection) == changes_before else None

    def _run_in_savepoint(self, connection: Connection, write: Write[Any], cache: dict[str, Any]) -> dict[str, Any]:
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
        self,
        connection: Connection,
        write: Write[Any],
        cache: dict[str, Any],
        *,
        deferring: bool = False,
        shared: SharedReads | None = None,
    ) -> Transaction:
        """Run one write, store its result or error, and return its transaction.

        `rollback_only` of the transaction tells whether the changes must be rolled back.

        Args:
            deferring: whether statements may be deferred. An error can then belong to an earlier write.

        Raises: the driver's error if the whole transaction is lost.
        """
        now_us = self._clock() if shared is None else shared.now_us
        connection.deferring = deferring
        tx = Transaction(
            connection if shared is not None else self._lasting_reads.watch(connection),
            self.driver.dialect,
            cache.copy(),
            now_us=now_us,
            chain=self.chain,
            data_keys=self.data_keys,
            shared_reads=shared,
        )
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

    def _fail_batch(self, batch: list[Write[Any]], error: Exception) -> None:
        reported = self.driver.translate(error)
        if not isinstance(error, StoreError):  # the driver has logged store errors already
            log.error("the database refused a batch of writes", extra={"writes": len(batch)}, exc_info=error)
        with contextlib.suppress(Exception):
            self.driver.rollback(self.driver.writer())
        for write in batch:
            write.error = reported
            write.is_held = False

    def _count(self, batch: list[Write[Any]], duration_s: float) -> None:
        committed = sum(not write.dry_run and write.error is None for write in batch)
        self.writes += committed
        self.commits += committed > 0
        if committed:
            self.commit_sizes.add(committed)
            self.commit_durations.add(duration_s)
            self.on_batch()
            self._trace_commit([write for write in batch if write.error is None], duration_s)

    def _trace_commit(self, batch: list[Write[Any]], duration_s: float, *, error: str = "") -> None:
        """Record the commit of a batch if it has the write of a traced call."""
        if self._tracer is None:
            return
        writes = [write for write in batch if not write.dry_run]
        calls = [write.call for write in writes if write.call is not None]
        if calls:
            self._tracer.trace_commit(calls, writes=len(writes), duration_s=duration_s, error=error)

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


def _read_by(driver: Driver, make: MakeTransaction, deadline: float | None, work: Work[T]) -> T:
    connection = driver.reader(deadline)
    try:
        return work(make(connection, driver.dialect))
    finally:
        driver.release(connection)


def _read_snapshot(driver: Driver, make: MakeTransaction, deadline: float | None, work: Work[T]) -> T:
    def in_transaction(tx: Transaction) -> T:
        driver.begin_snapshot(tx.connection)
        try:
            return work(tx)
        finally:
            driver.rollback(tx.connection)

    return _read_by(driver, make, deadline, in_transaction)
