"""Errors of the database itself, independent of the operation.

StoreError
├── Overloaded          the write queue is full; nothing was changed
├── DeadlinePassed      the deadline passed in the queue or during a read; nothing was changed
├── StorageFull         the disk is full; nothing was changed
├── StorageUnavailable  no answer; the outcome is unknown
├── ShuttingDown        the store is closed
└── UnusableDatabase    UnsafeSqlite, UnusablePostgres: raised when a database is opened that cannot be used
"""

from __future__ import annotations

RETRY_AFTER_MS = 100
"""Suggested delay before a rejected caller retries: a full queue drains in about this time."""


class StoreError(Exception):
    """The database could not perform the operation."""


class Overloaded(StoreError):
    """The write queue is full.

    Attributes:
        retry_after_ms: how long to wait before a retry.
    """

    def __init__(self, *, retry_after_ms: int) -> None:
        super().__init__("the write queue of the server is full; nothing was changed")
        self.retry_after_ms = retry_after_ms


class DeadlinePassed(StoreError):
    """The caller's deadline passed before the work started, or while it could still be rolled back."""

    def __init__(self) -> None:
        super().__init__("the deadline passed before the work was done; nothing was changed")


class StorageFull(StoreError):
    """The disk is full, or the database has reached its size limit."""

    def __init__(self) -> None:
        super().__init__("the disk or the database is full; nothing was changed")


class StorageUnavailable(StoreError):
    """The database did not answer, or not in time."""

    def __init__(self) -> None:
        super().__init__("the database does not answer; retry with the same request_id")


class ShuttingDown(StoreError):
    """The store is closed and accepts no more work."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down and accepts no new calls")


class UnusableDatabase(StoreError):
    """Storekeep cannot run on this database. Raised when it is opened; the subclasses give the reason."""
