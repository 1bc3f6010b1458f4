"""Background checkpoints of SQLite's write-ahead log.

By default, the commit that makes the log too long copies all of it, which stalls writes for 20 to 40 ms. Here a thread
copies most pages. The writer copies only the rest, because the log restarts only when all of it is copied.
Invariant: the database is synced before copied pages are read from it, and a failed sync ends the process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import apsw
import peewee

from storekeep.server.store.sqlite.syncs import SyncedPasses, end_process, is_failed_sync

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits while another process, such as a backup, locks the database."""
PAGES_MIN = 1_000
"""Length of the log at which it is copied, in pages of 4 KiB. A smaller value writes the same pages more often, a
larger one takes longer per checkpoint: 1,000, 2,000 and 4,000 pages took 18, 25 and 40 ms (2026-11-24)."""
COMMITS_MIN = 12
"""Minimum length of the log as a multiple of the last commit. Large commits mean high load, when throughput matters
more than latency, so checkpoints are rarer then."""
PAGES_MAX = 16_000
"""Length of the log, in pages, at which the writer copies it, in case the thread fails. SQLite's default is 1,000."""
LOG_BYTES_MAX = 16 * 1024 * 1024
"""Size to which a restarted log is truncated: four times the usual length, so that the usual log keeps its file."""
PASSES_MAX = 3
COPY = "PRAGMA wal_checkpoint(PASSIVE)"
"""Copies as many pages as possible without blocking or being blocked."""
CLEAR = "PRAGMA wal_checkpoint(TRUNCATE)"
"""Copies all pages and truncates the log. It blocks writers, and fails if a reader needs the log for longer than the
busy timeout."""
CLEAR_WAIT_MS = 50
"""How long it waits for readers. A read is usually shorter; a backup takes minutes, and must not stop all writes."""
WRITER_PAGES_MAX = 200
"""Number of pages that the writer may copy: about 2 ms."""

ERRORS = (apsw.Error, peewee.PeeweeException)
"""Errors of SQLite, and those that Peewee raises for them when it connects."""

log = logging.getLogger("storekeep.store")


class Checkpoints:
    """Keeps the log of one database short.

    One connection runs all checkpoints, in the thread and in the writer. All others turn `wal_autocheckpoint` off.

    Args:
        connect: opens that connection. It stays open, so that SQLite does not remove the log and its index.

    Attributes:
        failures: number of failed checkpoints.

    Raises: the errors of `connect`.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._requested = threading.Semaphore(0)
        self._turn = threading.Lock()
        self._in_progress = False
        self._almost_done = False
        self._closed = False
        self.failures = 0
        self._from_page = 0
        self._pages = 0
        self._is_long = False
        opened: Future[Any] = Future()
        self._thread = threading.Thread(target=self._run, args=[connect, opened], name="store-checkpoints", daemon=True)
        self._thread.start()
        self._connection = opened.result()

    def after_commit(self, connection: Any) -> None:
        """Start a checkpoint if the log is too long. The writer calls it with its connection after each commit.

        It never raises, because the commit is durable even if the checkpoint fails.
        """
        try:
            self._checkpoint_if_due(connection)
        except ERRORS as error:
            self._record_failure(error)

    def _checkpoint_if_due(self, connection: Any) -> None:
        if self._almost_done:
            self._almost_done = self._in_progress = False
            self._pass_unless_busy()
            return
        pages = _count_pages(connection)
        committed, self._pages = pages - self._pages, pages
        self._report_length(pages)
        if pages > PAGES_MAX:
            self._pass_unless_busy()
        elif not self._in_progress:
            if pages < self._from_page:  # the log has restarted
                self._from_page = 0
            if pages - self._from_page > max(PAGES_MIN, COMMITS_MIN * committed):
                self._from_page = pages
                self._in_progress = True
                self._requested.release()

    def _report_length(self, pages: int) -> None:
        """Log once that the log has become too long, and once that it is short again."""
        if not self._is_long and pages > PAGES_MAX:
            self._is_long = True
            log.warning(
                "the write-ahead log has become long, usually because another process reads an old snapshot; it grows "
                "until that process ends its transaction",
                extra={"pages": pages},
            )
        elif self._is_long and pages < PAGES_MAX:
            self._is_long = False
            log.info("the write-ahead log has restarted and is short again", extra={"pages": pages})

    def _pass_unless_busy(self) -> bool:
        """Copy the log unless another thread does, and return whether all of it was copied."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            _, pages, copied = self._connection.execute(COPY).fetchone()
        finally:
            self._turn.release()
        return bool(pages == copied)

    def copy_all(self) -> bool:
        """Copy as much of the log as readers allow, and return whether all of it was copied. It never raises."""
        try:
            return self._pass_unless_busy()
        except ERRORS as error:
            self._record_failure(error)
            return False

    def clear_log(self) -> bool:
        """Copy the log and truncate its file to nothing. Return False if a reader or a writer is busy. It never raises.

        Most pages are copied before, so that writers wait for `CLEAR_WAIT_MS` and a few pages at most.
        """
        try:
            with self._turn:
                self._connection.execute(COPY).fetchone()
                self._connection.set_busy_timeout(CLEAR_WAIT_MS)
                try:
                    busy, _, _ = self._connection.execute(CLEAR).fetchone()
                finally:
                    self._connection.set_busy_timeout(round(BUSY_TIMEOUT_S * 1_000))
        except apsw.BusyError:
            return False
        except ERRORS as error:
            self._record_failure(error)
            return False
        return not busy

    def _run(self, connect: Callable[[], Any], opened: Future[Any]) -> None:
        try:
            connection = connect()
            synced = SyncedPasses(connection)  # must live as long as the connection
        except Exception as error:  # noqa: BLE001 - the constructor waits for the connection and must get the error
            opened.set_exception(error)
            return
        opened.set_result(connection)
        while self._requested.acquire() and not self._closed:
            try:
                with self._turn:
                    _copy_log(connection)
            except ERRORS as error:
                self._record_failure(error)
            self._almost_done = True
        connection.close()
        del synced

    def _record_failure(self, error: Exception) -> None:
        """Count and log a failed checkpoint, which will be retried. End the process if a sync failed."""
        if is_failed_sync(error):
            end_process(str(error))
        self.failures += 1
        log.warning("the log could not be copied to the database", extra={"problem": str(error)})

    def close(self, *, keep_files: bool = False) -> None:
        """End the thread and close the connection.

        Args:
            keep_files: see `SqliteDriver.close`.
        """
        if keep_files:
            keep_log_files(self._connection)
        self._closed = True
        self._requested.release()
        self._thread.join()


def keep_log_files(connection: Any) -> None:
    """Keep a connection from removing the log when it closes: the files at the path are not the ones it opened."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def _copy_log(connection: Any) -> None:
    """Copy the log in several passes, until few pages are left for the writer."""
    for _ in range(PASSES_MAX):
        _, _, copied = connection.execute(COPY).fetchone()
        if _count_pages(connection) - copied < WRITER_PAGES_MAX:
            return


def _count_pages(connection: Any) -> int:
    """Return the length of the log in pages."""
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    return int(pages)
