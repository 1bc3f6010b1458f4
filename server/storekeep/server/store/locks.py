"""Locks on a database file between processes: one serves it, one of its workers writes, one migrates it at a time.

The kernel keeps them (`flock`), so that a killed process leaves none behind. They hold on one machine only. Each is a
file beside the database; who serves holds the database's own file too, as a lock's file may be deleted by mistake.
"""

from __future__ import annotations

import contextlib
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
    give_up = None if wait_s is None else time.monotonic() + wait_s
    descriptor = _locked(path, database, give_up=give_up)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def lock_to_serve(database: Path) -> Iterator[None]:
    """Hold the lock of the one server of a database, and the database's own file where there is one.

    SQLite locks by `fcntl`, which knows nothing of `flock`. But closing the file drops the locks that SQLite has on it
    in this process, so its connections have to be closed by then.

    Raises: DatabaseInUse.
    """
    with lock(database, purpose="serve"), contextlib.ExitStack() as held:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(database, os.O_RDONLY)
            held.callback(os.close, descriptor)
            _acquire(descriptor, database, give_up=0.0, names_holder=False)
        yield


def _locked(path: Path, database: Path, *, give_up: float | None) -> int:
    """Open a lock's file and lock it; again where it was deleted meanwhile, as then others lock another one.

    Raises: DatabaseInUse.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with contextlib.suppress(PermissionError):  # it is another user's, such as root's
                os.fchmod(descriptor, 0o600)
            if give_up is None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            else:
                _acquire(descriptor, database, give_up=give_up)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


def _acquire(descriptor: int, database: Path, *, give_up: float, names_holder: bool = True) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace") if names_holder else ""
                raise DatabaseInUse(database, holder=holder) from None
            time.sleep(RETRY_S)
        else:
            return
