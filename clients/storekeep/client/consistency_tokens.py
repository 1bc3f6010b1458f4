"""Consistency tokens, which give a client read-your-writes when it allows stale reads.

A token is the server's ledger sequence after a write. The server returns one with each write, and the client sends the
highest with each stale read. Tokens only grow, so one client may pass its token to another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

CONSISTENCY_METADATA_KEY = "storekeep-position"
"""Metadata key of the token: trailing metadata of a write's reply, initial metadata of a read."""


class ConsistencyToken:
    """The highest consistency token that a client has seen; 0 before its first write. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    @property
    def value(self) -> int:
        """The token, as a ledger sequence."""
        return self._value

    def advance(self, value: int) -> None:
        """Raise the token to `value`. A lower value has no effect."""
        with self._lock:
            self._value = max(self._value, value)

    def update_from_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Advance to the token in the trailing metadata of a reply, if it has one."""
        for key, value in metadata:
            if key == CONSISTENCY_METADATA_KEY and isinstance(value, str) and value.isdecimal():
                self.advance(int(value))
