"""Threads that call a server for as long as a test does something with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def run_callers(callers: Sequence[threading.Thread], stop: threading.Event) -> Iterator[None]:
    """Run threads during the context. Its end sets `stop`, waits for them, and clears `stop` for the next ones."""
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        stop.set()
        for caller in callers:
            caller.join()
        stop.clear()
