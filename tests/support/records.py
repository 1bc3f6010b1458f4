"""What a server's database holds, read by somebody who can change nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.support.databases import Database, Row


class Records:
    """The database of a running server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """The rows of one statement, whose places are `?`."""
        with self._database.opened() as session:
            return session.rows(sql, *values)

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row."""
        return self.rows(sql, *values)[0][0]

    def everything(self) -> dict[str, list[Row]]:
        """All rows of all tables: equal before and after what must change nothing."""
        return self._database.everything()

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
