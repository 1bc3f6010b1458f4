"""Backups: a consistent copy of the database while it is served, and putting one in its place.

A copy is one file that only its owner can read, checked and on the disk before it gets its name. Restoring refuses a
damaged copy, and keeps the database that was there. The server's secret is not in the database: it needs a copy of its
own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from storekeep.server.runtime.files import new_file, sync
from storekeep.server.store.locks import lock, lock_to_serve
from storekeep.server.store.schema import SchemaError, pending_migrations
from storekeep.server.store.urls import sqlite_url

BUSY_TIMEOUT_MS = 60_000
SIDECARS = ("-wal", "-shm")
"""What SQLite keeps beside a database; they belong to it alone."""


class BackupRefused(Exception):
    """The copy cannot be made, or cannot be used."""


def back_up(database: Path, *, to: Path) -> int:
    """Copy the database, as it was at one moment, while others read and write it.

    Args:
        to: the new file; never one that exists.

    Returns: its size in bytes.

    Raises: BackupRefused; OSError when the folder takes no file or the disk has no room.
    """
    if to.exists():
        raise BackupRefused(f"{to} exists; a backup never overwrites")
    if not database.is_file():
        raise BackupRefused(f"there is no database {database}")
    if not to.parent.is_dir():
        raise BackupRefused(f"there is no folder {to.parent}")
    try:
        with new_file(to, replaces=False) as new:
            _copy(database, new)
            _check(new, name=to)
    except FileExistsError:
        raise BackupRefused(f"{to} exists; a backup never overwrites") from None
    except apsw.Error as error:
        raise BackupRefused(f"{database} cannot be copied: {error}") from None
    return to.stat().st_size


def restore(copy: Path, *, database: Path) -> Path | None:
    """Put a backup in the database's place.

    Returns: where the database that was there is kept; None where there was none.

    Raises: BackupRefused (no sound backup), SchemaError (of a newer release), DatabaseInUse (a server runs).
    """
    if not copy.is_file():
        raise BackupRefused(f"there is no file {copy}")
    with lock_to_serve(database), lock(database, purpose="migrate"):
        with new_file(database, replaces=True) as new:
            try:
                shutil.copyfile(copy, new)
                _check(new, name=copy)
                _check_schema(new)
                sync(new)  # before the database that is there is touched
                kept = _put_aside(database)
            finally:
                for leftover in _sidecars(new):
                    leftover.unlink(missing_ok=True)
        return kept


def _copy(database: Path, new: Path) -> None:
    """One file without a write-ahead log, through SQLite's backup API: one step, so that writers cannot restart it."""
    with _opened(database) as source, _opened(new) as target:
        with target.backup("main", source, "main") as copying:
            copying.step()
        target.execute("PRAGMA journal_mode = DELETE")


def _check(path: Path, *, name: Path) -> None:
    """Refuse what is not a sound database.

    Args:
        name: what the caller calls it.

    Raises: BackupRefused.
    """
    try:
        with _opened(path) as connection:
            problem = connection.execute("PRAGMA integrity_check(1)").get
    except apsw.Error as error:
        problem = str(error)
    if problem != "ok":
        raise BackupRefused(f"{name.name} is not a sound database: {' '.join(problem.split())}")


def _check_schema(path: Path) -> None:
    """Refuse a database of a newer release, or of something else; one of an older release can be migrated.

    Raises: BackupRefused, SchemaError.
    """
    try:
        with _opened(path) as connection:
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_migrations'")
            ours = tables.get
        pending_migrations(sqlite_url(path))
    except apsw.Error as error:
        raise SchemaError(f"{path} cannot be read: {error}") from None
    if not ours:
        raise BackupRefused("the file is a database, but none of Storekeep")


def _put_aside(database: Path) -> Path | None:
    """Keep the database under another name beside its own, which stays taken until the new one replaces it.

    It is made private too: a release before this one may have restored it with whatever mode the umask gave.
    """
    if not database.exists():
        return None
    for file in (database, *_sidecars(database)):
        with contextlib.suppress(FileNotFoundError):
            file.chmod(0o600)
    kept = database.with_name(f"{database.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{os.getpid()}")
    with contextlib.suppress(apsw.Error), _opened(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for sidecar, target in zip(_sidecars(database), _sidecars(kept), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.rename(sidecar, target)
    os.link(database, kept)
    return kept


def _sidecars(database: Path) -> list[Path]:
    return [database.with_name(database.name + ending) for ending in SIDECARS]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    try:
        yield connection
    finally:
        connection.close()
