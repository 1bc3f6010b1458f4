"""Online backup and restore of a SQLite database.

A backup is one file that only its owner can read. It is verified and synced before it gets its name. A restore rejects
a damaged backup and keeps the previous database. The data keys of personal data go to a file of their own. The server
secret and the key-encryption key are not in the database: back them up separately.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from storekeep.server.runtime.files import create_file, sync
from storekeep.server.store.locks import hold_file_locks, lock
from storekeep.server.store.schema import SchemaError, list_pending_migrations
from storekeep.server.store.sqlite.key_backups import (
    SUFFIX,
    find_keys_file,
    give_up_keys,
    has_keys,
    has_usable_keys,
    move_keys,
    restore_keys,
)
from storekeep.server.store.sqlite.key_erasures import destroy_keys_again, find_latest_us
from storekeep.server.store.sqlite.page_checksums import (
    NoPageChecksums,
    add_page_checksums,
    describe_wrong_checksum,
    load_page_checksums,
)
from storekeep.server.store.urls import make_sqlite_url

BUSY_TIMEOUT_MS = 60_000
NO_ERROR = "not an error"
"""SQLite's text of a connection that had no error."""
SIDECARS = ("-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside a database. They must never be used with another database."""


class BackupRefused(Exception):
    """The backup cannot be made or cannot be restored."""


class Restored(NamedTuple):
    """What a restore did.

    Attributes:
        previous: the new path of the previous database; None if there was none.
        unknown_erasures: why persons who were erased after the backup may be unknown; empty if they are erased again.
    """

    previous: Path | None
    unknown_erasures: str


def back_up(database: Path, *, to: Path, with_keys: bool = False) -> int:
    """Copy a snapshot of the database to a new file. Readers and writers continue meanwhile.

    Args:
        to: the new file. It must not exist.
        with_keys: leave the data keys in the copy. Otherwise they go to a file beside it; see `get_keys_path`.

    Returns: the size of the backup in bytes.

    Raises: BackupRefused; OSError if the directory is not writable or the disk is full.
    """
    if to.exists():
        raise BackupRefused(f"{to} exists already; name a new file")
    if not database.is_file():
        raise BackupRefused(f"the database {database} does not exist")
    if not to.parent.is_dir():
        raise BackupRefused(f"the folder {to.parent} does not exist")
    try:
        with create_file(to, replaces=False) as new:
            _copy(database, new)
            _check(new, name=to)
            if not with_keys:
                move_keys(new, to=get_keys_path(to))
    except FileExistsError:
        raise BackupRefused(f"{to} or its keys file exists already; name a new file") from None
    except apsw.Error as error:
        raise BackupRefused(f"{database} cannot be copied: {_describe_copy_error(error)}") from None
    return to.stat().st_size


def _describe_copy_error(error: apsw.Error) -> str:
    """Return why a copy failed. The text of SQLite is about the target, which may have had no error."""
    text = describe_wrong_checksum(error) or str(error)
    return type(error).__name__ if text == NO_ERROR else text


def get_keys_path(backup: Path) -> Path:
    """Return the path of the keys file that is made with a backup."""
    return backup.with_suffix(SUFFIX)


def restore(
    copy: Path,
    *,
    database: Path,
    keys: Path | None = None,
    without_keys: bool = False,
    keys_folders: Sequence[Path] = (),
    verify: Callable[[Path], None] = lambda _path: None,
    page_checksums: bool = False,
) -> Restored:
    """Replace the database with a backup. The data keys stay destroyed that the database or a keys file says are.

    Args:
        keys: the file with its data keys (default: the newest one beside it that has them all; a copy that has its
            keys itself needs none).
        without_keys: give up all personal data.
        keys_folders: more directories with keys files that tell of erasures; that of the backup always counts.
        verify: checks the copy before it takes the place of the database, and raises to refuse it.
        page_checksums: whether to add page checksums to a database without them.

    Raises: BackupRefused (damaged), KeysMissing, SchemaError (from a newer release), DatabaseInUse (a server is
        running).
    """
    if not copy.is_file():
        raise BackupRefused(f"the file {copy} does not exist")
    with hold_file_locks(database), lock(database, purpose="migrate"):
        with create_file(database, replaces=True) as new:
            try:
                shutil.copyfile(copy, new)
                _check(new, name=copy)
                _check_schema(new)
                unknown = ""
                if has_keys(new):
                    folders = dict.fromkeys((copy.parent.absolute(), *(one.absolute() for one in keys_folders)))
                    since_us = find_latest_us(new)
                    if not without_keys and (keys or not has_usable_keys(new)):
                        restore_keys(new, keys=keys or find_keys_file(copy), copy=copy)
                    unknown = destroy_keys_again(new, database=database, folders=folders, since_us=since_us)
                    if without_keys:
                        give_up_keys(new)
                if page_checksums:
                    _add_page_checksums(new)
                verify(new)
                make_single_file(new)
                sync(new)  # before the previous database is renamed
                previous = _link_previous(database)
            finally:
                for leftover in _sidecars(new):
                    leftover.unlink(missing_ok=True)
        return Restored(previous, unknown)


def _copy(database: Path, new: Path) -> None:
    """Copy a database to one file without a write-ahead log.

    It uses SQLite's backup API in a single step, because a write between two steps restarts the copy.
    """
    with _open(database) as source, _open(new) as target:
        source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()  # its errors have a text here only
        with target.backup("main", source, "main") as copying:
            copying.step()
    make_single_file(new)


def make_single_file(path: Path) -> None:
    """Copy the write-ahead log of a database that nothing has open into its file, and leave it without one."""
    with _open(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _check(path: Path, *, name: Path) -> None:
    """Check the integrity of a database.

    Args:
        name: the path for the error message.

    Raises: BackupRefused.
    """
    try:
        with _open(path) as connection:
            problem = connection.execute("PRAGMA integrity_check(1)").get
    except apsw.Error as error:
        problem = describe_wrong_checksum(error) or str(error)
    if problem != "ok":
        raise BackupRefused(f"{name.name} is not an intact database: {' '.join(problem.split())}")


def _check_schema(path: Path) -> None:
    """Check that a file is a Storekeep database of this release or an older one.

    Raises: BackupRefused, SchemaError.
    """
    try:
        with _open(path) as connection:
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_migrations'")
            ours = tables.get
        list_pending_migrations(make_sqlite_url(path))
    except apsw.Error as error:
        raise SchemaError(f"{path} cannot be read: {error}") from None
    if not ours:
        raise BackupRefused("the file is not a Storekeep database")


def _add_page_checksums(path: Path) -> None:
    """Add page checksums to a copy.

    Raises: BackupRefused.
    """
    try:
        add_page_checksums(path)
    except (NoPageChecksums, apsw.Error) as error:
        raise BackupRefused(f"page checksums cannot be added: {error}") from None


def _link_previous(database: Path) -> Path | None:
    """Link the previous database to a second name in the same directory, and return that name; None without one.

    Its first name stays in use until the backup replaces it. The file is made private, because an earlier release may
    have restored it with the default mode of the umask.
    """
    if not database.exists():
        return None
    for file in (database, *_sidecars(database)):
        with contextlib.suppress(FileNotFoundError):
            file.chmod(0o600)
    previous = database.with_name(f"{database.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{os.getpid()}")
    with contextlib.suppress(apsw.Error), _open(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for sidecar, target in zip(_sidecars(database), _sidecars(previous), strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.rename(sidecar, target)
    os.link(database, previous)
    return previous


def _sidecars(database: Path) -> list[Path]:
    return [database.with_name(database.name + ending) for ending in SIDECARS]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[apsw.Connection]:
    load_page_checksums()
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    try:
        yield connection
    finally:
        connection.close()
