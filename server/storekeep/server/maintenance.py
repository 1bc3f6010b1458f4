"""Maintenance: one thread that removes what is over, such as replies that nobody will ask for again.

In small transactions, so that it never holds up the writes of callers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StoreError
from storekeep.server.store.retention import PURGE_REPLIES

ROWS_PER_TRANSACTION_MAX = 500
"""Deleting as many rows takes a few milliseconds."""
STOP_TIMEOUT_S = 5.0

Purge = Callable[[Transaction], int]
"""Removes a bounded number of rows that are over and says how many; when it is not 0, there may be more."""

log = logging.getLogger("storekeep.maintenance")


def purge_replies(*, retention_s: float) -> Purge:
    """What removes the replies that are older than that: a retry that comes later is done a second time."""

    def purge(tx: Transaction) -> int:
        before_us = tx.now_us - round(retention_s * 1_000_000)
        removed: int = PURGE_REPLIES.run(tx, before_us=before_us, rows_max=ROWS_PER_TRANSACTION_MAX).rowcount
        return removed

    return purge


class Maintenance:
    """Runs all purges now and then.

    Args:
        interval_s: from the end of one round to the start of the next.
    """

    def __init__(self, store: Store, *, purges: Sequence[Purge], interval_s: float) -> None:
        self._store = store
        self._purges = tuple(purges)
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the transaction that is running; also where it has never begun."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=STOP_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                removed = self.run_once()
            except StoreError as error:
                log.warning("nothing was purged", extra={"problem": str(error)})
                continue
            if removed:
                log.info("purged", extra={"rows": removed})

    def run_once(self) -> int:
        """Remove all that is over.

        Returns: the number of rows.

        Raises: StoreError.
        """
        return sum(self._purge(purge) for purge in self._purges)

    def _purge(self, purge: Purge) -> int:
        total = 0
        while not self._stop.is_set() and (removed := self._store.write(purge)):
            total += removed
        return total
