"""Checkpoints of SQLite's write-ahead log: its pages are copied to the database beside the writer, not in its way.

SQLite's own way is that the commit which makes the log long copies all of it: 20 to 40 ms in which nobody is answered.
Here a thread copies most of it, and the writer the few pages that came in meanwhile, as only then the log begins anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import apsw
import peewee

PAGES = 1_000
"""The log's length, in pages of 4 KiB, from which on it is copied. A short one costs more writes of the same pages, a
long one more time at once: 1,000, 2,000 and 4,000 pages took 18, 25 and 40 ms (2026-11-24)."""
COMMITS = 12
"""How many commits as long as the last it has to have besides. Commits are long where much is to be done, and then it
counts how much is done; where they are short it counts how long each takes."""
PAGES_MAX = 16_000
"""Where a commit copies the log by itself after all, as SQLite does by default from 1,000 on: the thread may fail."""
PASSES_MAX = 3
FEW_PAGES = 200
"""As many as the writer may copy without anybody noticing: some 2 ms."""

ERRORS = (apsw.Error, peewee.PeeweeException)
"""What SQLite reports, and what Peewee makes of it where it connects."""

log = logging.getLogger("storekeep.store")


class Checkpoints:
    """Keeps the log of one database short.

    Args:
        connect: opens a further connection.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._wanted = threading.Semaphore(0)
        self._under_way = False
        self._almost_done = False
        self._closed = False
        self._from_page = 0
        self._pages = 0
        self._thread = threading.Thread(target=self._run, name="store-checkpoints", daemon=True)
        self._thread.start()

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
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        elif not self._under_way:
            pages = _pages(connection)
            committed, self._pages = pages - self._pages, pages
            if pages < self._from_page:  # it has begun anew
                self._from_page = 0
            if pages - self._from_page > max(PAGES, COMMITS * committed):
                self._from_page = pages
                self._under_way = True
                self._wanted.release()

    def _run(self) -> None:
        connection = None
        while self._wanted.acquire() and not self._closed:
            try:
                connection = connection or self._connect()
                _copy(connection)
            except ERRORS as error:
                _tell(error)
            self._almost_done = True
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wanted.release()
        self._thread.join()


def _tell(error: Exception) -> None:
    log.warning("the log could not be copied to the database", extra={"problem": str(error)})


def _copy(connection: Any) -> None:
    """Copy what the log has, until what comes in meanwhile is little."""
    for _ in range(PASSES_MAX):
        _, _, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if _pages(connection) - copied < FEW_PAGES:
            return


def _pages(connection: Any) -> int:
    """How long the log is; nothing is copied."""
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    return int(pages)
