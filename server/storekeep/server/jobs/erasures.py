"""The jobs of the leader that erase personal data by its age, and that remove destroyed keys from SQLite's log."""

from __future__ import annotations

import time

from storekeep.server.domain.personal_data.retention import apply_retention
from storekeep.server.jobs.periodic import PeriodicJob
from storekeep.server.store.engine import Store

CLEAR_INTERVAL_S = 1.0
"""How often the job looks for destroyed keys. They stay in the log for this long, or until long reads end."""
RETRY_AFTER_S = 5.0
"""Pause after an attempt that failed because of a long read: each attempt holds up writes for a moment."""


class RetentionJob(PeriodicJob):
    """Erases the customers whose retention has ended; see `domain.personal_data.retention`.

    Args:
        store: the database.
        days: name of a rule -> age in days; 0 if it is off.
        interval_s: interval between runs.
    """

    def __init__(self, store: Store, *, days: dict[str, float], interval_s: float) -> None:
        super().__init__(
            "retention",
            interval_s=interval_s,
            success_message="customers erased by retention",
            failure_message="retention was not applied",
        )
        self._store = store
        self._days = days

    def run_once(self) -> int:
        """Erase all customers that are due.

        Returns: the number of erased customers.

        Raises: StoreError.
        """
        return self._repeat(lambda: apply_retention(self._store, self._days))


class KeyRemovalJob(PeriodicJob):
    """Empties the write-ahead log after keys were destroyed, and once at the start: old versions of rows have them.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(
            "key-removal",
            interval_s=CLEAR_INTERVAL_S,
            success_message="destroyed keys removed from the log",
            failure_message="destroyed keys are still in the log",
        )
        self._store = store
        self._cleared: str | None = None
        self._retry_at_s = 0.0

    def run_once(self) -> int:
        """Empty the log if keys were destroyed since it was emptied.

        Returns: 1 if it did, 0 otherwise.

        Raises: StoreError.
        """
        generation = self._store.read(self._store.data_keys.read_generation)
        if generation == self._cleared or time.monotonic() < self._retry_at_s:
            return 0
        if not self._store.driver.clear_log():
            self._retry_at_s = time.monotonic() + RETRY_AFTER_S
            return 0
        is_first, self._cleared = self._cleared is None, generation
        return 0 if is_first else 1
