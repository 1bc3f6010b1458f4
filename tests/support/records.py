"""Read-only access to a server's database."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.support.databases import Database, Row

OF_JOBS = frozenset({"audit_checkpoint.signed", "personal_data.read"})
OF_CALLS = "type NOT IN ('audit_checkpoint.signed', 'personal_data.read')"
"""Selects entries of calls. Periodic jobs sign checkpoints of the audit log and record bulk reads, beside any call."""


class Records:
    """The database of a running server. Entries of periodic jobs are left out of the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Return the rows of a statement, whose placeholders are `?`."""
        with self._database.opened() as session:
            return session.rows(sql, *values)

    def value(self, sql: str, *values: Any) -> Any:
        """Return the first column of the first row."""
        return self.rows(sql, *values)[0][0]

    def everything(self) -> dict[str, list[Row]]:
        """Return all rows of all tables: equal before and after a call that must change nothing."""
        tables = self._database.everything()
        tables.pop("audit_checkpoints", None)
        tables["audit_entries"] = [row for row in tables["audit_entries"] if OF_JOBS.isdisjoint(row)]
        return tables

    def last_sequence(self) -> int:
        """Return the sequence number of the last event."""
        return int(self.value(f"SELECT COALESCE(MAX(sequence), 0) FROM events WHERE {OF_CALLS}"))

    def events_after(self, sequence: int) -> list[Row]:
        """Return (type, resource, resource after the event) of each later event."""
        rows = self.rows(
            f"SELECT type, resource, payload FROM events WHERE sequence > ? AND {OF_CALLS} ORDER BY sequence", sequence
        )
        return [(kind, resource, _decode(payload)) for kind, resource, payload in rows]

    def audit_entries_after(self, sequence: int) -> list[Row]:
        """Return (actor, method, resource, request_id, before, after) of each later audit entry."""
        rows = self.rows(
            "SELECT actor, method, resource, request_id, before, after FROM audit_entries"
            f" WHERE sequence > ? AND {OF_CALLS} ORDER BY sequence",
            sequence,
        )
        return [(*row[:4], _decode(row[4]), _decode(row[5])) for row in rows]


def _decode(payload: bytes | None) -> Any:
    return None if payload is None else msgspec.json.decode(payload)
