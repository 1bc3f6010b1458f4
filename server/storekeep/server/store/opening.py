"""Opening a database: which driver speaks to it."""

from __future__ import annotations

from pathlib import Path

from storekeep.server.store.engine import QUEUE_MAX, Store
from storekeep.server.store.sqlite import SqliteDriver


def open_store(database: Path, *, queue_max: int = QUEUE_MAX) -> Store:
    """Open a database.

    Args:
        database: the SQLite file; it is made when missing.
        queue_max: see `Store`.

    Raises: UnsafeSqlite.
    """
    return Store(SqliteDriver(database), queue_max=queue_max)
