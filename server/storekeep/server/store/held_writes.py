"""Held writes: writes that failed because another session, such as an operator's, holds a lock on a row or table.

They wait outside the batches and are retried periodically. A failed retry delays its batch by the lock timeout, so
only a few are retried at a time. Invariant: each leaves within its retry time.
"""

from __future__ import annotations

import collections
import time
from typing import Generic, Protocol, TypeVar

HELD_MAX = 1_000
"""Maximum number of held writes. Further ones fail at once: most wait for the same row and would fail later anyway."""
RETRY_INTERVAL_S = 0.05
"""Delay before the next retry after one has failed."""
RETRY_COUNT_MIN = 4
"""Number of writes in the first retry. It doubles after each retry without a failure."""


class Holdable(Protocol):
    """A write that can be held.

    Attributes:
        deadline: the `time.monotonic()` at which its caller stops waiting; None without a deadline.
        held_until_s: the `time.monotonic()` until which it is retried; 0 if it was never held.
    """

    deadline: float | None
    held_until_s: float


W = TypeVar("W", bound=Holdable)


class HeldWrites(Generic[W]):
    """The held writes of one store. Used by the writer's thread only.

    Args:
        retry_max_s: how long each write is retried.
    """

    def __init__(self, *, retry_max_s: float) -> None:
        self._retry_max_s = retry_max_s
        self._waiting: collections.deque[W] = collections.deque()
        self._due_s = 0.0
        self._tried_max = RETRY_COUNT_MIN

    def __len__(self) -> int:
        return len(self._waiting)

    def set_aside(self, write: W) -> bool:
        """Hold a write for a retry. Return False if it must fail now."""
        now_s = time.monotonic()
        was_tried = write.held_until_s > 0.0
        if not was_tried:
            write.held_until_s = now_s + self._retry_max_s
        if was_tried or not self._waiting:
            self._due_s = now_s + RETRY_INTERVAL_S
            self._tried_max = RETRY_COUNT_MIN
        if now_s >= write.held_until_s or len(self._waiting) >= HELD_MAX:
            return False
        self._waiting.append(write)
        return True

    def next_retry_in_s(self) -> float | None:
        """Return the seconds until the next retry; None if no write is held."""
        return max(0.0, self._due_s - time.monotonic()) if self._waiting else None

    def take_expired(self) -> list[W]:
        """Remove and return the writes whose retry time or deadline has passed; none before the next retry is due."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return []
        expired = [write for write in self._waiting if now_s >= _get_expiry_s(write)]
        if expired:
            self._waiting = collections.deque(write for write in self._waiting if now_s < _get_expiry_s(write))
        return expired

    def take_due(self) -> list[W]:
        """Remove and return the writes to retry now. `set_aside` holds those again that fail."""
        if not self._waiting or time.monotonic() < self._due_s:
            return []
        due = [self._waiting.popleft() for _ in range(min(self._tried_max, len(self._waiting)))]
        self._tried_max = min(2 * self._tried_max, HELD_MAX)
        return due


def _get_expiry_s(write: Holdable) -> float:
    return write.held_until_s if write.deadline is None else min(write.deadline, write.held_until_s)
