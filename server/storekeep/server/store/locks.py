"""Locks between processes on a SQLite file: one server, one writing worker and one migration at a time.

Each is a `flock` on a file beside the database. The kernel releases it when the process ends. It works on one machine
only. The server also locks the database file itself, because a lock file can be deleted by mistake.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storekeep.server.runtime.input_files import open_regular_file, require_regular

RETRY_S = 0.02


class DatabaseInUse(Exception):
    """Another process holds the lock.

    Attributes:
        holder: the process id of the holder; empty if unknown.
    """

    def __init__(self, database: Path | str, *, holder: str) -> None:
        super().__init__(
            f"{database} is in use by another storekeep-server" + (f", process {holder}" if holder else "")
        )
        self.holder = holder


@contextmanager
def lock(database: Path, *, purpose: str, wait_s: float | None = 0.0) -> Iterator[None]:
    """Hold one of the locks of a database.

    Args:
        purpose: which lock: `serve`, `write` or `migrate`.
        wait_s: how long to wait for the lock; None waits indefinitely, without polling.

    Raises: DatabaseInUse.
    """
    path = database.with_name(f"{database.name}.{purpose}.lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    give_up = None if wait_s is None else time.monotonic() + wait_s
    descriptor = _open_locked(path, database, give_up=give_up)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_file_locks(database: Path) -> Iterator[None]:
    """Hold the lock of the server of a database, and a lock on the database file if it exists.

    SQLite uses `fcntl` locks, which are independent of `flock`. But closing the file drops the `fcntl` locks of this
    process, so close all SQLite connections before this lock is released.

    Raises: DatabaseInUse.
    """
    with lock(database, purpose="serve"), contextlib.ExitStack() as held:
        with contextlib.suppress(FileNotFoundError):
            descriptor = open_regular_file(database)
            held.callback(os.close, descriptor)
            _acquire(descriptor, database, give_up=0.0, names_holder=False)
        yield


def _open_locked(path: Path, database: Path, *, give_up: float | None) -> int:
    """Open and lock a lock file, and return its descriptor. Retry if the file was deleted meanwhile.

    Raises: DatabaseInUse; OSError, also if the path is no regular file.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            require_regular(path, os.fstat(descriptor))
            with contextlib.suppress(PermissionError):  # the file belongs to another user, such as root
                os.fchmod(descriptor, 0o600)
            if give_up is None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            else:
                _acquire(descriptor, database, give_up=give_up)
            if _is_file_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_file_at(path: Path, descriptor: int) -> bool:
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
