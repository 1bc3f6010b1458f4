"""Maintenance: threads that remove what is over, such as replies that nobody will ask for again, and end promises.

In small transactions, so that it never holds up the writes of callers.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence

from storekeep.server.domain.audit.checkpoints import sign_head
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.encryption import SealBroken
from storekeep.server.domain.stock.expiry import expire_batch, require_expirers
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StoreError
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.access import PURGE_NEW_SECRETS
from storekeep.server.store.tables.retention import PURGE_REPLIES

ROWS_PER_TRANSACTION_MAX = 500
"""Deleting as many rows takes a few milliseconds."""
CHECKPOINT_LOOK_S = 10.0
"""How often it is looked whether the audit log is to be signed."""
STOP_TIMEOUT_S = 5.0

Purge = Callable[[Transaction], int]
"""Removes a bounded number of rows that are over and says how many; when it is not 0, there may be more."""

log = logging.getLogger("storekeep.maintenance")


def purge_replies(*, retention_s: float) -> Purge:
    """What removes the replies that are older than that: a retry that comes later is done a second time."""

    def purge(tx: Transaction) -> int:
        before_us = tx.now_us - round(retention_s * 1_000_000)
        return PURGE_REPLIES.change(tx, before_us=before_us, rows_max=ROWS_PER_TRANSACTION_MAX)

    return purge


def purge_new_secrets(*, retention_s: float) -> Purge:
    """What removes the secrets of new API keys that no retry is shown any more."""

    def purge(tx: Transaction) -> int:
        since_us = tx.now_us - round(retention_s * 1_000_000)
        return PURGE_NEW_SECRETS.change(tx, since_us=since_us, rows_max=ROWS_PER_TRANSACTION_MAX)

    return purge


class Rounds:
    """A thread that does one thing again and again, until it is stopped.

    Args:
        name: the thread's.
        interval_s: from the end of one round to the start of the next.
        done: what is logged of rounds that did something, failed: of rounds that could not.
        at_start: whether the first round is run by `start`, before it returns.
    """

    def __init__(self, name: str, *, interval_s: float, done: str, failed: str, at_start: bool = False) -> None:
        self._interval_s = interval_s
        self._at_start = at_start
        self._problem = ""
        self._done = done
        self._failed = failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        if self._at_start:
            self._try_once()
        self._thread.start()

    def stop(self) -> None:
        """End after the transaction that is running; also where it has never begun."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=STOP_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._try_once()

    def _try_once(self) -> None:
        try:
            count = self.run_once()
        except StoreError as error:
            if str(error) != self._problem:  # once, and not as often as it is tried
                log.warning(self._failed, extra={"problem": str(error)})
            self._problem = str(error)
            return
        self._problem = ""
        if count:
            log.info(self._done, extra={"rows": count})

    def run_once(self) -> int:
        """Do all that there is to do.

        Returns: how much that was.

        Raises: StoreError.
        """
        raise NotImplementedError

    def _repeat(self, piece: Callable[[], int]) -> int:
        """Do pieces until there is nothing left, or it is time to stop."""
        total = 0
        while not self._stop.is_set() and (count := piece()):
            total += count
        return total


class Maintenance(Rounds):
    """Runs all purges now and then."""

    def __init__(self, store: Store, *, purges: Sequence[Purge], interval_s: float) -> None:
        super().__init__("maintenance", interval_s=interval_s, done="purged", failed="nothing was purged")
        self._store = store
        self._purges = tuple(purges)

    def run_once(self) -> int:
        """Remove all that is over.

        Returns: the number of rows.

        Raises: StoreError.
        """
        return sum(self._repeat(functools.partial(self._store.write, purge)) for purge in self._purges)


class Sweeper(Rounds):
    """The expiry job: writes, soon after, what has expired by itself; see `domain.expiry`.

    Raises: ExpirersMissing where the store has no expirers.
    """

    def __init__(self, store: Store, *, interval_s: float) -> None:
        require_expirers(store.expirers)
        super().__init__("sweeper", interval_s=interval_s, done="expired", failed="nothing was expired")
        self._store = store

    def run_once(self) -> int:
        """Expire all that has expired.

        Returns: the number of resources.

        Raises: StoreError.
        """
        return self._repeat(lambda: expire_batch(self._store))


class CheckpointJob(Rounds):
    """Signs the head of the audit log at the first start, and when it is due; see `domain.audit.checkpoints`."""

    def __init__(self, store: Store, chain: AuditChain, *, entries: int, interval_s: float) -> None:
        super().__init__(
            "checkpoints",
            interval_s=min(CHECKPOINT_LOOK_S, interval_s),
            done="audit log signed",
            failed="the audit log was not signed",
            at_start=True,
        )
        self._store = store
        self._chain = chain
        self._entries = entries
        self._age_s = interval_s

    def run_once(self) -> int:
        """Sign the head where it is time.

        Returns: the number of checkpoints.

        Raises: StoreError.
        """
        try:
            return sign_head(self._store, self._chain, entries=self._entries, interval_s=self._age_s)
        except SealBroken as error:
            log.error("the audit log was not signed", extra={"problem": str(error)})
            return 0
