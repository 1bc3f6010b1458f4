"""Deadlines: the time by which a call must end, retries included.

Deadlines are on the monotonic clock. Each call has one, which never changes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


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
