"""Checkpoints of SQLite's write-ahead log: its pages are copied to the database beside the writer, not in its way.

SQLite's own way is that the commit which makes the log long copies all of it: 20 to 40 ms in which nobody is answered.
Here a thread copies most of it, and the writer the few pages that came in meanwhile, as only then the log begins anew.
Invariant: the database is synced before anybody reads from it what was copied, and a failed sync ends the process.
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

PAGES = 1_000
"""The log's length, in pages of 4 KiB, from which on it is copied. A short one costs more writes of the same pages, a
long one more time at once: 1,000, 2,000 and 4,000 pages took 18, 25 and 40 ms (2026-11-24)."""
COMMITS = 12
"""How many commits as long as the last it has to have besides. Commits are long where much is to be done, and then it
counts how much is done; where they are short it counts how long each takes."""
PAGES_MAX = 16_000
"""Where the writer copies the log by itself after all, as SQLite does by default from 1,000 on: the thread may fail."""
PASSES_MAX = 3
COPY = "PRAGMA wal_checkpoint(PASSIVE)"
"""Copies what it can without waiting for anybody, nor anybody for it."""
FEW_PAGES = 200
"""As many as the writer may copy without anybody noticing: some 2 ms."""

ERRORS = (apsw.Error, peewee.PeeweeException)
"""What SQLite reports, and what Peewee makes of it where it connects."""

log = logging.getLogger("storekeep.store")


class Checkpoints:
    """Keeps the log of one database short.

    One connection makes all checkpoints, in whichever thread; all others have `wal_autocheckpoint` turned off.

    Args:
        connect: opens that connection, which stays open: so the files of the database stay the same ones.

    Raises: what `connect` does.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._wanted = threading.Semaphore(0)
        self._turn = threading.Lock()
        self._under_way = False
        self._almost_done = False
        self._closed = False
        self._from_page = 0
        self._pages = 0
        opened: Future[Any] = Future()
        self._thread = threading.Thread(target=self._run, args=[connect, opened], name="store-checkpoints", daemon=True)
        self._thread.start()
        self._connection = opened.result()

    def after_commit(self, connection: Any) -> None:
        """Have the log copied when it has become long; to be called by the writer, with its connection.

        It never raises: what was committed is durable, whatever becomes of the log.
        """
        try:
            self._go_on(connection)
        except ERRORS as error:
            _tell(error)

    def _go_on(self, connection: Any) -> None:
        if self._almost_done:
            self._almost_done = self._under_way = False
            self._pass_unless_busy()
            return
        pages = _pages(connection)
        committed, self._pages = pages - self._pages, pages
        if pages > PAGES_MAX:
            self._pass_unless_busy()
        elif not self._under_way:
            if pages < self._from_page:  # it has begun anew
                self._from_page = 0
            if pages - self._from_page > max(PAGES, COMMITS * committed):
                self._from_page = pages
                self._under_way = True
                self._wanted.release()

    def _pass_unless_busy(self) -> bool:
        """Copy what the log has; return whether that was all. Not while another thread does: the disk may be slow."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            _, pages, copied = self._connection.execute(COPY).fetchone()
        finally:
            self._turn.release()
        return bool(pages == copied)

    def copy_all(self) -> bool:
        """Copy what the log has, as far as readers let it; return whether that was all. It never raises."""
        try:
            return self._pass_unless_busy()
        except ERRORS as error:
            _tell(error)
            return False

    def _run(self, connect: Callable[[], Any], opened: Future[Any]) -> None:
        try:
            connection = connect()
            synced = SyncedPasses(connection)  # lives as long as the connection
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for the connection must hear of it
            opened.set_exception(error)
            return
        opened.set_result(connection)
        while self._wanted.acquire() and not self._closed:
            try:
                with self._turn:
                    _copy(connection)
            except ERRORS as error:
                _tell(error)
            self._almost_done = True
        connection.close()
        del synced

    def close(self, *, leaves_files: bool = False) -> None:
        """End the thread and close the connection.

        Args:
            leaves_files: see `SqliteDriver.close`.
        """
        if leaves_files:
            leave_files(self._connection)
        self._closed = True
        self._wanted.release()
        self._thread.join()


def leave_files(connection: Any) -> None:
    """Have a connection remove no files when it is closed as the last one: those at the path are not its own."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def _tell(error: Exception) -> None:
    """Log why the log was not copied; it will be tried again, unless a sync has failed."""
    if is_failed_sync(error):
        end_process(str(error))
    log.warning("the log could not be copied to the database", extra={"problem": str(error)})


def _copy(connection: Any) -> None:
    """Copy what the log has, until what comes in meanwhile is little."""
    for _ in range(PASSES_MAX):
        _, _, copied = connection.execute(COPY).fetchone()
        if _pages(connection) - copied < FEW_PAGES:
            return


def _pages(connection: Any) -> int:
    """How long the log is; nothing is copied."""
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    return int(pages)
