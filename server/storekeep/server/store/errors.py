"""Errors of the database itself, independent of the operation.

StoreError
├── Overloaded          too many calls; nothing was changed
├── DeadlinePassed      the deadline passed in the queue or during a read; nothing was changed
├── StorageFull         the disk is full; nothing was changed
├── StorageUnavailable  no answer; the outcome is unknown
├── ReadTooExpensive    a statement of a read took longer than the server allows; nothing was changed
├── ShuttingDown        the store is closed
└── UnusableDatabase    UnsafeSqlite, UnusablePostgres: raised when a database is opened that cannot be used
"""

from __future__ import annotations

RETRY_AFTER_MS = 100
"""Suggested delay before a rejected caller retries: a full queue drains in about this time."""


class DeferredFailed(Exception):
    """A deferred statement failed. The transaction must be rolled back, and run again without deferring."""


class StoreError(Exception):
    """The database could not perform the operation."""


class Overloaded(StoreError):
    """The write queue is full, or more reads arrive than can be served.

    Args:
        is_read: whether the call would have changed nothing.

    Attributes:
        retry_after_ms: how long to wait before a retry.
    """

    def __init__(self, *, retry_after_ms: int, is_read: bool = False) -> None:
        queue_text = "the write queue of the server is full; nothing was changed"
        super().__init__("the server has more calls than it can serve" if is_read else queue_text)
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


class ReadTooExpensive(StoreError):
    """A statement of a read took longer than the server allows, and was ended. A retry would take as long.

    Args:
        timeout_s: the longest that a statement may take, in seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"the read took longer than {timeout_s:g} s and was ended; a retry takes as long: use fewer or narrower "
            "conditions in the filter, such as a range of create_time, or a smaller page",
        )


class ShuttingDown(StoreError):
    """The store is closed and accepts no more work."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down and accepts no new calls")


class UnusableDatabase(StoreError):
    """Storekeep cannot run on this database. Raised when it is opened; the subclasses give the reason."""
