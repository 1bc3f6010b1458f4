"""Queued writes, and which of a batch can read together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from greenlet import greenlet

from storekeep.server.store.sql.transactions import Transaction

T = TypeVar("T")
Work = Callable[[Transaction], T]


class Write(Generic[T]):
    """One queued or running write. Either a thread or a task of the writer's thread waits for it.

    Attributes:
        subject: what the write is about, if consecutive writes of the same type of subject can read together; see
            `SharedReads`. None if they cannot.
        task: the task to resume when the write is done; None if a thread waits.
        claim: a lock that is taken once: by the writer to start the write, or by the waiting thread to abandon it.
        done: released when the write is done.
        is_held: whether the last attempt failed because another session holds a lock.
        held_until_s: see `Holdable`.
        consistency_token: see `Transaction`.
        call: the traced call that it belongs to; None if none is.
    """

    __slots__ = (
        "call",
        "claim",
        "consistency_token",
        "deadline",
        "done",
        "dry_run",
        "error",
        "held_until_s",
        "is_held",
        "result",
        "subject",
        "task",
        "work",
    )

    def __init__(
        self, work: Work[T], *, deadline: float | None, dry_run: bool, subject: Any = None, task: greenlet | None = None
    ) -> None:
        self.work = work
        self.subject = subject
        self.deadline = deadline
        self.dry_run = dry_run
        self.task = task
        if task is None:
            self.claim = threading.Lock()
            self.done = threading.Lock()
            self.done.acquire()
        self.call: Any = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self.consistency_token = 0
        self.is_held = False
        self.held_until_s = 0.0

    @property
    def runs_apart(self) -> bool:
        """Return whether the write runs in a savepoint of its own."""
        return self.dry_run or self.held_until_s > 0

    def wake(self) -> None:
        """Resume the waiting thread or task.

        The greenlet is not kept: the traceback of an error may keep the write longer than its thread lives.
        """
        task, self.task = self.task, None
        if task is None:
            self.done.release()
        else:
            task.switch()


def find_alike(batch: Sequence[Write[Any]], index: int) -> Iterator[Any]:
    """Yield the subjects of a write and of those after it, up to the first whose subject has another type."""
    kind = type(batch[index].subject)
    for number in range(index, len(batch)):
        write = batch[number]
        if type(write.subject) is not kind or write.runs_apart:
            return
        yield write.subject
