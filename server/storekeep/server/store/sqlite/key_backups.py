"""The data keys of a backup, in a file of their own (`*.keys`), so that backups hold no personal data that can be read.

A keys file is complete: it restores every earlier backup too, without the keys that were destroyed meanwhile. So old
ones need not be kept, and an erased person is gone from all backups when the last keys file from before is deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from storekeep.server.runtime.files import create_file
from storekeep.server.store.tables.data_keys import MOVED_US, NEVER_US

SUFFIX = ".keys"
APPLICATION_ID = 0x534B4B53
"""Marks a keys file: a backup has the same table, but no keys in it."""
WRAPPED_CHARACTERS = 80
"""Length of a wrapped key; the zeros in its place have the same."""
HAS_TABLE = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'data_keys'"
COPIED = {
    "data_keys": "number, subject, key_id, wrapped_key, create_time_us, destroy_time_us",
    "key_encryption_keys": "number, key_id, create_time_us",
}
"""Tables of a keys file, and their columns."""
OVERWRITE = """
UPDATE main.data_keys SET wrapped_key = :zeros, destroy_time_us = :moved_us WHERE destroy_time_us = :never_us
"""
GIVE_UP = "UPDATE data_keys SET subject = 'given-up/' || number WHERE destroy_time_us = ?"
KEY_IDS = f"""
SELECT key_id FROM (SELECT key_id FROM key_encryption_keys ORDER BY number DESC LIMIT 1)
UNION SELECT key_id FROM data_keys WHERE destroy_time_us = {NEVER_US}
"""  # noqa: S608 - fixed text
"""The ids of the KEKs that a database or a keys file needs."""
UNCOVERED = """
SELECT COUNT(*) FROM main.data_keys WHERE NOT EXISTS (
    SELECT 1 FROM keys.data_keys AS other WHERE other.number = data_keys.number AND other.subject = data_keys.subject
)
"""


class KeysMissing(Exception):
    """No file with the keys of a backup exists."""

    def __init__(self, copy: Path, reason: str) -> None:
        super().__init__(
            f"{copy} needs the data keys of its personal data: {reason}; name their file with --keys, or give up all "
            "personal data with --without-keys"
        )


def move_keys(copy: Path, *, to: Path) -> int:
    """Move the data keys of a copy of the database to a new file that only its owner can read. Return their number.

    The keys are overwritten in place: nothing of them stays in the copy, and no journal holds them. Without keys, there
    is no file.

    Raises: FileExistsError; OSError; apsw.Error.
    """
    if not has_keys(copy):
        return 0
    with create_file(to, replaces=False) as new, _open(copy) as connection:
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("ATTACH ? AS keys", (str(new),))
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in COPIED.items():
            connection.execute(f"CREATE TABLE keys.{table} AS SELECT {columns} FROM main.{table}")  # noqa: S608
        values = {"zeros": "0" * WRAPPED_CHARACTERS, "moved_us": MOVED_US, "never_us": NEVER_US}
        connection.execute(OVERWRITE, values)
        count = connection.changes()
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA keys.application_id = {APPLICATION_ID}")
        connection.execute("DETACH keys")
        connection.execute("PRAGMA journal_mode = DELETE")
    return int(count)


def has_keys(copy: Path) -> bool:
    """Return whether a backup needs the keys of another file.

    Raises: apsw.Error.
    """
    with _open(copy) as connection:
        return bool(connection.execute(HAS_TABLE).get) and bool(
            connection.execute("SELECT EXISTS (SELECT 1 FROM data_keys)").get
        )


def has_usable_keys(copy: Path) -> bool:
    """Return whether a file has data keys that can be used: a copy of the database's own file has, a backup has not.

    Raises: apsw.Error.
    """
    with _open(copy) as connection:
        sql = "SELECT EXISTS (SELECT 1 FROM data_keys WHERE destroy_time_us = ?)"
        return bool(connection.execute(sql, (NEVER_US,)).get)


def list_key_ids(path: Path) -> list[str]:
    """Return the ids of the key-encryption keys that a database or a keys file needs.

    Raises: apsw.Error.
    """
    with _open(path) as connection:
        if not connection.execute(HAS_TABLE).get:
            return []
        return [key_id for (key_id,) in connection.execute(KEY_IDS)]


def find_keys_file(copy: Path) -> Path:
    """Return the newest keys file beside a backup that has all its keys.

    Raises: KeysMissing, OSError.
    """
    for path in find_keys_files(copy.parent):
        with contextlib.suppress(apsw.Error), _open(copy) as connection:
            if _attach(connection, path) and not connection.execute(UNCOVERED).get:
                return path
    raise KeysMissing(copy, f"no file *{SUFFIX} beside it has them")


def find_keys_files(folder: Path) -> list[Path]:
    """Return the keys files in a directory, the newest first. Other files with their suffix are left out.

    Raises: OSError.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path for path in paths if _is_keys_file(path)]


def _is_keys_file(path: Path) -> bool:
    try:
        with _open(path) as connection:
            return bool(connection.execute("PRAGMA application_id").get == APPLICATION_ID)
    except apsw.Error:
        return False


def restore_keys(new: Path, *, keys: Path, copy: Path) -> int:
    """Put the data keys of a file back into a new database. Return the number of those that can be used.

    Args:
        copy: the backup that the database was copied from, for the error message.

    Raises: KeysMissing if the file is damaged, or lacks keys of the copy; OSError.
    """
    if not keys.is_file():
        raise KeysMissing(copy, f"{keys} does not exist")
    try:
        with _open(new) as connection:
            if not _attach(connection, keys):
                raise KeysMissing(copy, f"{keys} is no keys file")
            uncovered = connection.execute(UNCOVERED).get
            if uncovered:
                raise KeysMissing(copy, f"{keys} lacks {uncovered} of them")
            connection.execute("BEGIN IMMEDIATE")
            for table, columns in COPIED.items():
                connection.execute(
                    f"INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {columns} FROM keys.{table}"  # noqa: S608
                )
            connection.execute("UPDATE main.data_key_state SET generation = lower(hex(randomblob(16)))")
            connection.execute("COMMIT")
            return int(
                connection.execute("SELECT COUNT(*) FROM main.data_keys WHERE destroy_time_us = ?", (NEVER_US,)).get
            )
    except apsw.Error as error:
        raise KeysMissing(copy, f"{keys} cannot be read: {error}") from None


def give_up_keys(copy: Path) -> None:
    """Leave a copy without its data keys: what they encrypt is lost, and what is stored from now on gets new keys.

    The given up keys leave their persons, but not the table: their numbers are in what they encrypted, so no new key
    may get them. Keys that were destroyed before the backup keep their persons, about whom nothing new is stored. The
    copy forgets its key-encryption key, too, so a server with another one can serve it.
    """
    with _open(copy) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(GIVE_UP, (MOVED_US,))
        connection.execute("DELETE FROM key_encryption_keys")
        connection.execute("COMMIT")


def _attach(connection: apsw.Connection, keys: Path) -> bool:
    """Attach a file as `keys`, and return whether it is a keys file.

    Raises: apsw.Error if it is no database.
    """
    connection.execute("ATTACH ? AS keys", (str(keys),))
    return bool(connection.execute("PRAGMA keys.application_id").get == APPLICATION_ID)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path))
    try:
        yield connection
    finally:
        connection.close()
