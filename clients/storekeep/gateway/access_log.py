"""The access log: one JSON object per request, written in batches by one background thread.

Logging never blocks a request: if the queue is full, lines are dropped and their number is logged. No line has a
header, a query or a body, so none has a token.
"""

from __future__ import annotations

import collections
import os
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec

QUEUE_MAX = 10_000
BATCH_DELAY_S = 0.02
STDERR = 2
FRAMES_MAX = 8


def describe_defect(error: BaseException) -> str:
    """Return the type of an error, and the places where it was raised, the innermost first.

    The text of the error is left out: it may have a value of a request.
    """
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    places = [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
    return " < ".join([type(error).__name__, *places])


class AccessLog:
    """Writes lines to a file descriptor (default: standard error)."""

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._lines: collections.deque[bytes] = collections.deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, message: str, **fields: Any) -> None:
        """Queue one line."""
        if len(self._lines) >= QUEUE_MAX:
            self._dropped += 1
            return
        self._lines.append(msgspec.json.encode({"time": datetime.now(UTC), "message": message, **fields}) + b"\n")
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write the remaining lines."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=3)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            threading.Event().wait(BATCH_DELAY_S)
            self._wake.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        batch = b"".join(self._lines.popleft() for _ in range(len(self._lines)))
        if self._dropped:
            batch += msgspec.json.encode({"message": "log lines dropped", "count": self._dropped}) + b"\n"
            self._dropped = 0
        try:
            while batch:
                batch = batch[os.write(self._descriptor, batch) :]
        except OSError:  # the log's reader or disk is gone; the gateway goes on
            return
