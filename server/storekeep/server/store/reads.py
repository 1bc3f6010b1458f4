"""Bounds of a read: its deadline, its maximum staleness and the consistency token that it must reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class ReadBounds(NamedTuple):
    """The bounds of one read. A replica may serve it only if both `max_staleness_s` and `consistency_token` are set.

    Attributes:
        deadline: the `time.monotonic()` by which the read must be answered; None without a deadline.
        max_staleness_s: how old the result may be, in seconds; None if it must be current.
        consistency_token: sequence of the last ledger entry that the caller wrote, which the result must include.
            0 if the caller wrote nothing; None if that is unknown.
    """

    deadline: float | None = None
    max_staleness_s: float | None = None
    consistency_token: int | None = None


UNBOUNDED_READ = ReadBounds()


def get_unbounded_read() -> ReadBounds:
    """Return the bounds of reads outside a call: none."""
    return UNBOUNDED_READ


ReadBoundsSource = Callable[[], ReadBounds]
"""Returns the read bounds of the call that the current thread serves."""
