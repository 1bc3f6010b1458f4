"""Locks on a database file between processes: one serves it, one of its workers writes, one migrates it at a time.

The kernel keeps them (`flock`), so that a killed process leaves none behind. They hold on one machine only.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RETRY_S = 0.02


class DatabaseInUse(Exception):
    """Another process holds the lock.

    Attributes:
        holder: its process id, as it wrote it down; empty when unknown.
    """

    def __init__(self, database: Path | str, *, holder: str) -> None:
        super().__init__(
            f"{database} is in use by another storekeep-server" + (f", process {holder}" if holder else "")
        )
        self.holder = holder


@contextmanager
def lock(database: Path, *, purpose: str, wait_s: float | None = 0.0) -> Iterator[None]:
    """Hold one of a database's locks.

    Args:
        purpose: names the lock: `serve`, `write` or `migrate`.
        wait_s: how long to wait for who holds it; None: until it is free, without polling.

    Raises: DatabaseInUse.
    """
    path = database.with_name(f"{database.name}.{purpose}.lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if wait_s is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            _acquire(descriptor, database, give_up=time.monotonic() + wait_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, database: Path, *, give_up: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise DatabaseInUse(database, holder=os.pread(descriptor, 20, 0).decode(errors="replace")) from None
            time.sleep(RETRY_S)
        else:
            return
