"""Positions: how far the server's ledger goes with what a client wrote, so that an old answer is never older than that.

The server says so with each change; the client sends the highest that it knows with reads that may be old. A number
never falls, so it can be handed from one client to another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

POSITION_KEY = "storekeep-position"
"""The metadata of both: trailing, with the answer to a change; leading, with a read."""


class Position:
    """The highest position that a client knows of, for as many threads as use it. 0: it wrote nothing yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    @property
    def value(self) -> int:
        """The position."""
        return self._value

    def advance(self, position: int) -> None:
        """Note a position; a lower one changes nothing."""
        with self._lock:
            self._value = max(self._value, position)

    def learn(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Note the position that came with an answer, if one did."""
        for key, value in metadata:
            if key == POSITION_KEY and isinstance(value, str) and value.isdecimal():
                self.advance(int(value))
