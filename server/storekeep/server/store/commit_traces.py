"""What the store asks of traces: which call a write belongs to, and a record of each commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class CommitTracer(Protocol):
    """Records commits. Its calls are opaque to the store."""

    def get_call(self) -> Any:
        """Return the traced call that the current thread or task serves; None if it serves none."""

    def trace_commit(self, calls: Sequence[Any], *, writes: int, duration_s: float, error: str) -> None:
        """Record a commit; must not block or raise.

        Args:
            calls: the traced calls whose writes it has, in their order.
            writes: number of all its writes.
            duration_s: time from the beginning of the transaction to its end, in seconds.
            error: the name of the error; empty if the commit is durable.
        """
