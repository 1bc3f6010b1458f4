"""Periodic jobs: threads that purge old rows, expire reservations and orders, and sign the audit log.

They use small transactions, so that they do not delay the writes of callers.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence

from storekeep.server.domain.audit.checkpoints import sign_head
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.stock.expiry import expire_batch, require_expirers
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StoreError
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.access import PURGE_NEW_SECRETS
from storekeep.server.store.tables.retention import PURGE_REPLIES

ROWS_PER_TRANSACTION_MAX = 500
"""Maximum number of rows deleted in one transaction, which takes a few milliseconds."""
CHECKPOINT_CHECK_INTERVAL_S = 10.0
"""Interval at which the job checks whether the audit log must be signed."""
STOP_TIMEOUT_S = 5.0
"""How long `stop` waits for the running transaction."""

Purge = Callable[[Transaction], int]
"""Deletes a bounded number of old rows and returns the number; if it is not 0, there may be more."""

log = logging.getLogger("storekeep.jobs")


def purge_replies(*, retention_s: float, read_elapsed_s: Callable[[], float] = time.monotonic) -> Purge:
    """Return the purge of stored replies older than `retention_s`; a later retry is executed again.

    A step of the clock makes no reply older: since the first purge, time passes as `read_elapsed_s` counts it.
    """
    offset_us: int | None = None

    def purge(tx: Transaction) -> int:
        nonlocal offset_us
        elapsed_us = round(read_elapsed_s() * 1_000_000)
        if offset_us is None:
            offset_us = tx.now_us - elapsed_us
        before_us = min(tx.now_us, offset_us + elapsed_us) - round(retention_s * 1_000_000)
        return PURGE_REPLIES.change(tx, before_us=before_us, rows_max=ROWS_PER_TRANSACTION_MAX)

    return purge


def purge_new_secrets(*, retention_s: float) -> Purge:
    """Return the purge of the stored secrets of new API keys older than `retention_s`; a later retry gets no secret."""

    def purge(tx: Transaction) -> int:
        since_us = tx.now_us - round(retention_s * 1_000_000)
        return PURGE_NEW_SECRETS.change(tx, since_us=since_us, rows_max=ROWS_PER_TRANSACTION_MAX)

    return purge


class PeriodicJob:
    """A thread that runs a job at an interval until it is stopped.

    Args:
        name: Name of the thread.
        interval_s: Time from the end of one run to the start of the next.
        success_message: Log message of a run that changed something.
        failure_message: Log message of a run that failed.
        at_start: Whether `start` runs the job once before it returns.
    """

    def __init__(
        self, name: str, *, interval_s: float, success_message: str, failure_message: str, at_start: bool = False
    ) -> None:
        self._interval_s = interval_s
        self._at_start = at_start
        self._problem = ""
        self._success_message = success_message
        self._failure_message = failure_message
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        if self._at_start:
            self._try_once()
        self._thread.start()

    @property
    def was_started(self) -> bool:
        """Whether `start` was called."""
        return self._thread.ident is not None

    def stop(self) -> None:
        """Stop after the running transaction; do nothing if the thread was never started."""
        self._stop.set()
        if self.was_started:
            self._thread.join(timeout=STOP_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._try_once()

    def _try_once(self) -> None:
        try:
            count = self.run_once()
        except StoreError as error:
            if str(error) != self._problem:  # log a repeated failure once
                log.warning(self._failure_message, extra={"problem": str(error)})
            self._problem = str(error)
            return
        except Exception as error:  # one that nobody expected must not end the job until a restart
            if repr(error) != self._problem:
                log.error(self._failure_message, exc_info=error)
            self._problem = repr(error)
            return
        self._problem = ""
        if count:
            log.info(self._success_message, extra={"rows": count})

    def run_once(self) -> int:
        """Do all pending work.

        Returns: The number of changed rows.

        Raises: StoreError.
        """
        raise NotImplementedError

    def _repeat(self, run_batch: Callable[[], int]) -> int:
        """Run batches until one changes nothing or the job is stopped; return the total number of rows."""
        total = 0
        while not self._stop.is_set() and (count := run_batch()):
            total += count
        return total


class PurgeJob(PeriodicJob):
    """Runs all purges."""

    def __init__(self, store: Store, *, purges: Sequence[Purge], interval_s: float) -> None:
        super().__init__("purge", interval_s=interval_s, success_message="purged", failure_message="nothing was purged")
        self._store = store
        self._purges = tuple(purges)

    def run_once(self) -> int:
        """Delete all old rows.

        Returns: The number of deleted rows.

        Raises: StoreError.
        """
        return sum(self._repeat(functools.partial(self._store.write, purge)) for purge in self._purges)


class ExpiryJob(PeriodicJob):
    """Writes the expiry of resources soon after their expiry time; see `domain.stock.expiry`.

    Raises: ExpirersMissing if the store has no expirers.
    """

    def __init__(self, store: Store, *, interval_s: float) -> None:
        require_expirers(store.expirers)
        super().__init__(
            "expiry", interval_s=interval_s, success_message="expired", failure_message="nothing was expired"
        )
        self._store = store

    def run_once(self) -> int:
        """Write the expiry of all resources whose expiry time has passed.

        Returns: The number of expired resources.

        Raises: StoreError.
        """
        return self._repeat(lambda: expire_batch(self._store))


class CheckpointJob(PeriodicJob):
    """Signs the head of the audit log at the first start and when it is due; see `domain.audit.checkpoints`.

    Args:
        store: The database.
        chain: Keys that sign the audit log.
        entries: Number of new entries after which the head is signed.
        interval_s: Maximum age of the last checkpoint if there are new entries.
    """

    def __init__(self, store: Store, chain: AuditChain, *, entries: int, interval_s: float) -> None:
        super().__init__(
            "checkpoints",
            interval_s=min(CHECKPOINT_CHECK_INTERVAL_S, interval_s),
            success_message="audit log signed",
            failure_message="the audit log was not signed",
            at_start=True,
        )
        self._store = store
        self._chain = chain
        self._entries = entries
        self._checkpoint_interval_s = interval_s

    def run_once(self) -> int:
        """Sign the head if a checkpoint is due.

        Returns: The number of new checkpoints, 0 or 1.

        Raises: StoreError.
        """
        try:
            return sign_head(self._store, self._chain, entries=self._entries, interval_s=self._checkpoint_interval_s)
        except DecryptionFailed as error:
            log.error("the audit log was not signed", extra={"problem": str(error)})
            return 0
