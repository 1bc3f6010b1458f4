"""Retention of events: finds positions in the ledger by time, and refuses what is no longer kept.

The ledger itself is never shortened: the audit chain needs every entry.
"""

from __future__ import annotations

import threading
import time

from storekeep.server.domain.errors import EventsExpired, HistoryChanged
from storekeep.server.domain.events.cursors import START, Position, find_position, is_in_history, write_cursor
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.audit import ENTRY_TIME, LAST_SEQUENCE

CACHE_S = 10.0
"""How long the oldest kept sequence is cached. Finding it takes some twenty small reads."""


def find_first_since(tx: Transaction, time_us: int) -> int:
    """Return the sequence of the first ledger entry at or after a time; one after the last entry if there is none.

    Sequences have no gaps, so a binary search finds it. After a step of the clock it may be another entry near it.
    """
    low, high = 1, (LAST_SEQUENCE.all(tx)[0][0] or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = ENTRY_TIME.one(tx, sequence=middle)
        if row is not None and row[0] >= time_us:
            high = middle
        else:
            low = middle + 1
    return low


class Retention:
    """Knows which events are kept. Thread-safe.

    Args:
        source: the database.
        days: age of the oldest kept event; 0 for no limit.
        tokens: writes the cursors of errors.
    """

    def __init__(self, source: Store, *, days: float, tokens: PageTokens) -> None:
        self._source = source
        self._age_us = round(days * DAY_US)
        self._tokens = tokens
        self._lock = threading.Lock()
        self._before = START
        self._fresh_until_s = 0.0

    def find_oldest(self) -> int:
        """Return the sequence of the oldest kept event; 0 without a limit.

        Raises: StorageUnavailable, ShuttingDown.
        """
        if not self._age_us or time.monotonic() < self._fresh_until_s:
            return self._before.sequence + 1 if self._age_us else 0
        before = self._source.snapshot(
            lambda tx: find_position(tx, find_first_since(tx, tx.now_us - self._age_us) - 1) or START
        )
        with self._lock:
            self._before = before
            self._fresh_until_s = time.monotonic() + CACHE_S
        return self._before.sequence + 1

    def check(self, position: Position) -> None:
        """Raise unless every event after a position is kept, and the ledger still has those before it.

        Raises: EventsExpired, HistoryChanged; StorageUnavailable, ShuttingDown.
        """
        self.check_age(position.sequence)
        if not self._source.read(lambda tx: is_in_history(tx, position)):
            raise self.make_history_error()

    def check_age(self, sequence: int) -> None:
        """Raise unless every event after a sequence is kept.

        Raises: EventsExpired; StorageUnavailable, ShuttingDown.
        """
        if sequence < self.find_oldest() - 1:
            raise EventsExpired(self._write_oldest())

    def make_history_error(self) -> HistoryChanged:
        """Return the error for a position that is not in the ledger's history."""
        return HistoryChanged(self._write_oldest())

    def _write_oldest(self) -> str:
        return write_cursor(self._before, tokens=self._tokens)
