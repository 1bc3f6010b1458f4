"""Opening a database: which driver speaks to it."""

from __future__ import annotations

from pathlib import Path

from storekeep.server.backlogs import Backlog
from storekeep.server.store.engine import Store
from storekeep.server.store.sqlite import SqliteDriver

QUEUE_MAX = 1_000
QUEUE_WAIT_MAX_S = 60.0


def open_store(database: Path, *, backlog: Backlog | None = None) -> Store:
    """Open a database.

    Args:
        database: the SQLite file; it is made when missing.
        backlog: see `Store`; one for commands, which write a little, where none is given.

    Raises: UnsafeSqlite.
    """
    return Store(SqliteDriver(database), backlog=backlog or Backlog(length_max=QUEUE_MAX, wait_max_s=QUEUE_WAIT_MAX_S))
