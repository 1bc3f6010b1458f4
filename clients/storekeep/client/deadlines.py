"""Deadlines: the time by which a call must end, retries included.

Deadlines are on the monotonic clock. Each call has one, which never changes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

TIMEOUT_MAX_S = 365 * 86_400.0
"""Longest timeout that is sent. A longer one means this: gRPC takes one of 300 years as already over."""


def check_timeout(timeout_s: float) -> float:
    """Return a timeout in seconds, at most `TIMEOUT_MAX_S`.

    Raises: ValueError unless it is a finite number greater than 0.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise ValueError(f"timeout_s must be a number of seconds greater than 0, not {timeout_s!r}")
    if not timeout_s > 0 or math.isinf(timeout_s):
        raise ValueError(f"timeout_s must be a finite number of seconds greater than 0, not {timeout_s!r}")
    return min(timeout_s, TIMEOUT_MAX_S)


@dataclass(frozen=True)
class Deadline:
    """A point in time on the monotonic clock."""

    at_s: float
    """Seconds on the monotonic clock."""

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        """Return the deadline `timeout_s` seconds from now."""
        return cls(time.monotonic() + timeout_s)

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, 0 once it has passed."""
        return max(0.0, self.at_s - time.monotonic())
