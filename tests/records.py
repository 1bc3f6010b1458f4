"""What a server's database holds, read from its file by somebody who can change nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from pysqlite3 import dbapi2 as sqlite

Row = tuple[Any, ...]


class Records:
    """The database of a running server.

    Args:
        path: its SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._uri = f"file:{path}?mode=ro"

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """The rows of one statement."""
        with closing(sqlite.connect(self._uri, uri=True, timeout=10)) as connection:
            return connection.execute(sql, values).fetchall()

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row."""
        return self.rows(sql, *values)[0][0]

    def everything(self) -> dict[str, list[Row]]:
        """All rows of all tables: equal before and after what must change nothing."""
        with closing(sqlite.connect(self._uri, uri=True, timeout=10)) as connection:
            connection.execute("BEGIN")
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
            return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in tables}

    def last_sequence(self) -> int:
        """Of the events, which have no gap."""
        return int(self.value("SELECT COALESCE(MAX(sequence), 0) FROM events"))

    def events_after(self, sequence: int) -> list[Row]:
        """(type, resource, the resource after) of each later event."""
        rows = self.rows("SELECT type, resource, payload FROM events WHERE sequence > ? ORDER BY sequence", sequence)
        return [(kind, resource, _decoded(payload)) for kind, resource, payload in rows]

    def audit_entries_after(self, sequence: int) -> list[Row]:
        """(actor, method, resource, request_id, before, after) of each later audit entry."""
        rows = self.rows(
            "SELECT actor, method, resource, request_id, before, after FROM audit_entries"
            " WHERE sequence > ? ORDER BY sequence",
            sequence,
        )
        return [(*row[:4], _decoded(row[4]), _decoded(row[5])) for row in rows]


def _decoded(payload: bytes | None) -> Any:
    return None if payload is None else msgspec.json.decode(payload)
