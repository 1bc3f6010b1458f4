"""What a read may know of the call that it is for: until when, how old its answer may be, what it must show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class ReadTerms(NamedTuple):
    """The terms of one read. It goes to a replica only where both `max_staleness_s` and `position` are given.

    Attributes:
        deadline: the `time.monotonic()` by which it has to be answered; None without one.
        max_staleness_s: how old what it shows may be, in seconds; None where it may not be old at all.
        position: the sequence of the last entry of the ledger that it must show, as the caller wrote it; 0 where the
            caller wrote nothing, None where nobody knows what it wrote.
    """

    deadline: float | None = None
    max_staleness_s: float | None = None
    position: int | None = None


PLAIN = ReadTerms()


def plain_terms() -> ReadTerms:
    """The terms of reads for no call."""
    return PLAIN


CallTerms = Callable[[], ReadTerms]
"""The terms of the call that the thread is serving."""
