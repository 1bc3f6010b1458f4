"""Failed attempts: how often a user may present a wrong code or password where another proof came first.

Invariant: only attempts that needed another proof, such as a session or the password, are counted. Otherwise anybody
could lock users out.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

FAILURES_MAX = 10
"""Wrong codes for one user, with the right password, or wrong passwords in a session, before further ones fail."""
FAILURES_WINDOW_S = 900.0
TRACKED_MAX = 10_000


class FailedAttempts:
    """Counts the failed attempts for each user in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def take(self, user_id: str) -> bool:
        """Count an attempt, before it is checked; return False if there were too many."""
        now_s = time.monotonic()
        with self._lock:
            count, since_s = self._failures.pop(user_id, (0, now_s))
            if now_s - since_s > FAILURES_WINDOW_S:
                count, since_s = 0, now_s
            self._failures[user_id] = count + 1, since_s
            if len(self._failures) > TRACKED_MAX:
                self._failures.popitem(last=False)
        return count < FAILURES_MAX

    def clear(self, user_id: str) -> None:
        """Forget the attempts of a user, after a right one."""
        with self._lock:
            self._failures.pop(user_id, None)
