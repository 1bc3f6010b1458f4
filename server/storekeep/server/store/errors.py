"""What can go wrong with the database itself, whatever was to be done there.

StoreError
├── Overloaded          the write queue is full; nothing was done
├── DeadlinePassed      the deadline passed in the queue or while it was read; nothing was done
├── StorageFull         no room left; nothing was done
├── StorageUnavailable  no answer; whether it was done is unknown
├── ShuttingDown        the store is closed
└── UnusableDatabase    UnsafeSqlite, UnusablePostgres: Storekeep cannot run on it; found when it is opened
"""

from __future__ import annotations

RETRY_AFTER_MS = 100
"""What a shed caller is told to wait: a full queue drains in about that time."""


class StoreError(Exception):
    """The database could not do what was asked."""


class Overloaded(StoreError):
    """The queue of writes is as long as it may get.

    Attributes:
        retry_after_ms: when it is worth trying again.
    """

    def __init__(self, *, retry_after_ms: int) -> None:
        super().__init__("the server has as much queued as it can finish in time")
        self.retry_after_ms = retry_after_ms


class DeadlinePassed(StoreError):
    """The caller's deadline passed before the work was begun, or while it could still be undone."""

    def __init__(self) -> None:
        super().__init__("the deadline passed before the work was done; nothing was changed")


class StorageFull(StoreError):
    """The disk, or the database's own limit, has no room left."""

    def __init__(self) -> None:
        super().__init__("the database has no room left; nothing was changed")


class StorageUnavailable(StoreError):
    """The database did not answer, or not in time."""

    def __init__(self) -> None:
        super().__init__("the database does not answer; retry with the same request_id")


class ShuttingDown(StoreError):
    """The store takes no more work."""

    def __init__(self) -> None:
        super().__init__("the server is stopping and takes no new calls")


class UnusableDatabase(StoreError):
    """Storekeep cannot run on this database; the classes below say why. Found when it is opened, before any call."""
