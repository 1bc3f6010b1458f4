"""Destroyed data keys that a backup still has: their persons were erased after it was made, and stay erased.

The database that the backup replaces and the newest keys files know them. A file of another shop, which has no key of
the backup, is not used: the same ids are other persons there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apsw

from storekeep.server.store.sqlite.key_backups import WRAPPED_CHARACTERS, find_keys_files
from storekeep.server.store.tables.data_keys import MOVED_US

CREATE = """
CREATE TEMP TABLE known (
    number INTEGER PRIMARY KEY, subject TEXT, key_id TEXT, create_time_us INTEGER, destroy_time_us INTEGER
)
"""
ADD = "INSERT OR IGNORE INTO known VALUES (?, ?, ?, ?, ?)"
READ = "SELECT number, subject, key_id, create_time_us, destroy_time_us FROM data_keys ORDER BY number "
DIRECTIONS = ("ASC", "DESC")
"""A damaged table is read from both ends."""
IS_SAME_SHOP = """
SELECT EXISTS (SELECT 1 FROM known JOIN main.data_keys AS own USING (number, create_time_us))
"""
DESTROYED = f"""
FROM known WHERE known.destroy_time_us < {MOVED_US} AND known.subject NOT LIKE 'given-up/%'
"""
DESTROY = f"""
UPDATE main.data_keys SET wrapped_key = :zeros, destroy_time_us = other.destroy_time_us
FROM (SELECT subject, destroy_time_us {DESTROYED}) AS other
WHERE data_keys.subject = other.subject AND data_keys.destroy_time_us >= {MOVED_US}
"""  # noqa: S608 - fixed text
INSERT = f"""
INSERT INTO main.data_keys (subject, key_id, wrapped_key, create_time_us, destroy_time_us)
SELECT subject, key_id, :zeros, create_time_us, destroy_time_us {DESTROYED} ORDER BY number
ON CONFLICT (subject) DO NOTHING
"""
LATEST_US = f"SELECT MAX(MAX(create_time_us), MAX(destroy_time_us * (destroy_time_us < {MOVED_US}))) FROM data_keys"  # noqa: S608 - fixed text


def find_latest_us(path: Path) -> int:
    """Return when the newest data key of a file was created or destroyed, microseconds since 1970.

    Raises: apsw.Error.
    """
    with _open(path) as connection:
        return int(connection.execute(LATEST_US).get or 0)


def destroy_keys_again(new: Path, *, database: Path, folders: Iterable[Path], since_us: int) -> str:
    """Destroy the data keys in a restored database that are known to be destroyed.

    Args:
        new: the restored database, with its data keys.
        database: the one that it replaces. It may be missing or damaged.
        folders: directories with keys files. The newest file of the shop in each counts.
        since_us: `find_latest_us` of the backup.

    Returns: why erasures after the backup may be unknown; empty if they are known.

    Raises: apsw.Error if the new database cannot be changed; OSError.
    """
    with _open(new) as connection:
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA secure_delete = ON")
        is_same, problem = _destroy(connection, _find_sources(database))
        for folder in folders:
            _destroy(connection, find_keys_files(folder))
    if problem:
        return f"{database} cannot be read wholly ({problem})"
    if is_same or find_latest_us(new) > since_us:
        return ""
    return "neither a replaced database nor a newer keys file of this shop tells of them"


def _find_sources(database: Path) -> Sequence[Path]:
    return [database] if database.is_file() else []


def _destroy(connection: apsw.Connection, sources: Iterable[Path]) -> tuple[bool, str]:
    """Destroy the keys again that are destroyed in the first source of the same shop.

    Returns: whether there is one, and what could not be read of the sources until then.
    """
    problems: list[str] = []
    for source in sources:
        connection.execute(CREATE)
        try:
            for direction in DIRECTIONS:
                connection.executemany(ADD, _read_keys(source, direction, problems))
            if connection.execute(IS_SAME_SHOP).get:
                values = {"zeros": "0" * WRAPPED_CHARACTERS}
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(DESTROY, values)
                connection.execute(INSERT, values)
                connection.execute("COMMIT")
                return True, "".join(problems[:1])
        finally:
            connection.execute("DROP TABLE known")
    return False, "".join(problems[:1])


def _read_keys(source: Path, direction: str, problems: list[str]) -> Iterator[tuple[object, ...]]:
    """Yield the rows of data keys of a file, without the keys, until the damage if it has any."""
    try:
        with _open(source) as connection:
            yield from connection.execute(READ + direction)
    except apsw.Error as error:
        problems.append(str(error))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[apsw.Connection]:
    """Open a file, and leave the write-ahead log of one that is only read as it is."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    try:
        yield connection
    finally:
        connection.close()
