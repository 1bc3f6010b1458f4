"""Held writes: those that want a row, or a table, which somebody else's transaction holds, as an operator's SQL may.

They wait beside the batches of all others and are tried again now and then, a few at a time, as each one that is tried
in vain costs the batch the time that it waits for the lock. Invariant: each leaves within its patience.
"""

from __future__ import annotations

import collections
import time
from typing import Generic, Protocol, TypeVar

HELD_MAX = 1_000
"""Writes that wait for rows at most; more fail at once, as most of them wait for the same row and would fail later."""
PAUSE_S = 0.05
"""How long until some are tried again, where one of the last was tried in vain."""
TRIED_FIRST = 4
"""How many are tried at a time then; twice as many after each time that none was in vain."""


class Holdable(Protocol):
    """A write, as far as it matters here.

    Attributes:
        deadline: the `time.monotonic()` after which nobody waits for it; None where there is none.
        held_until_s: the `time.monotonic()` until which it is tried again; 0 where it has not met a held row.
    """

    deadline: float | None
    held_until_s: float


W = TypeVar("W", bound=Holdable)


class HeldWrites(Generic[W]):
    """The writes that wait. For the writer's thread only.

    Args:
        patience_s: how long each is tried again.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waiting: collections.deque[W] = collections.deque()
        self._due_s = 0.0
        self._tried_max = TRIED_FIRST

    def __len__(self) -> int:
        return len(self._waiting)

    def set_aside(self, write: W) -> bool:
        """Keep a write that has met a held row; False where it is to fail now."""
        now_s = time.monotonic()
        was_tried = write.held_until_s > 0.0
        if not was_tried:
            write.held_until_s = now_s + self._patience_s
        if was_tried or not self._waiting:
            self._due_s = now_s + PAUSE_S
            self._tried_max = TRIED_FIRST
        if now_s >= write.held_until_s or len(self._waiting) >= HELD_MAX:
            return False
        self._waiting.append(write)
        return True

    def due_in_s(self) -> float | None:
        """Return how long it is until some are tried again, in seconds; None where none waits."""
        return max(0.0, self._due_s - time.monotonic()) if self._waiting else None

    def take_expired(self) -> list[W]:
        """Take out those whose patience or deadline is over, where some are due."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return []
        expired = [write for write in self._waiting if now_s >= _end_of(write)]
        if expired:
            self._waiting = collections.deque(write for write in self._waiting if now_s < _end_of(write))
        return expired

    def take_due(self) -> list[W]:
        """Take out those that are to be tried again now; `set_aside` takes those back that were tried in vain."""
        if not self._waiting or time.monotonic() < self._due_s:
            return []
        due = [self._waiting.popleft() for _ in range(min(self._tried_max, len(self._waiting)))]
        self._tried_max = min(2 * self._tried_max, HELD_MAX)
        return due


def _end_of(write: Holdable) -> float:
    return write.held_until_s if write.deadline is None else min(write.deadline, write.held_until_s)
