"""Checksums of the pages of a SQLite database, by SQLite's checksum VFS (sqlite.org/cksumvfs.html), which apsw has.

A database either has them in all pages or in none. Every process that opens databases loads the VFS: it computes and
checks the checksums of a database that has them, and leaves others alone. A wrong checksum is an I/O error.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import apsw
from apsw import sqlite_extra

from storekeep.server.store.errors import UnusableDatabase

EXTENSION = "cksumvfs"
CHECKSUM_BYTES = 8
"""Bytes at the end of each page that SQLite leaves to the VFS. They mark a database with checksums."""
QUERY = -1


class NoPageChecksums(UnusableDatabase):
    """The database has page checksums, or is to get them, and the installed apsw lacks SQLite's checksum VFS."""

    def __init__(self) -> None:
        super().__init__("page checksums need an apsw with the extension cksumvfs, as its wheels on PyPI have it")


@cache
def load_page_checksums() -> bool:
    """Load the VFS for all databases that this process opens later. Return False if apsw lacks it."""
    if sqlite_extra.has(EXTENSION) is None:
        return False
    connection = apsw.Connection(":memory:")
    try:
        sqlite_extra.load(connection, EXTENSION)
    finally:
        connection.close()
    return True


def describe_wrong_checksum(error: BaseException) -> str:
    """Return what an error of apsw, or one that it caused, says about a wrong checksum; empty for other errors."""
    errors = (error, error.__cause__, error.__context__)
    is_wrong = any(getattr(one, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA for one in errors)
    return "a page has a wrong checksum, so the disk has changed it; restore a backup" if is_wrong else ""


def has_page_checksums(connection: Any) -> bool:
    """Return whether the database of an apsw connection has page checksums.

    Raises: NoPageChecksums if it has, and they cannot be computed: changed pages would have wrong ones.
    """
    connection.execute("PRAGMA schema_version").fetchone()  # reads the header of the file
    if _exchange_reserved_bytes(connection, QUERY) != CHECKSUM_BYTES:
        return False
    if not load_page_checksums():
        raise NoPageChecksums
    return True


def add_page_checksums(path: Path) -> None:
    """Rewrite a database with page checksums, unless it has them. Nothing else may have it open.

    Raises: NoPageChecksums, apsw.Error.
    """
    if not load_page_checksums():
        raise NoPageChecksums
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        if has_page_checksums(connection):
            return
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        _exchange_reserved_bytes(connection, CHECKSUM_BYTES)
        connection.execute("VACUUM")
    finally:
        connection.close()


def _exchange_reserved_bytes(connection: Any, count: int) -> int:
    """Set how many bytes each page reserves, from the next VACUUM on, and return the current number."""
    reserved = ctypes.c_int(count)
    connection.file_control("main", apsw.SQLITE_FCNTL_RESERVE_BYTES, ctypes.addressof(reserved))
    return reserved.value
