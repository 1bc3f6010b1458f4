"""The fingerprints of requests are stored as keyed hashes. `migrate` replaces those of an existing database."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the step before those that are not complete yet, and without any, `files`, which removes the old values."""
    if database.execute_sql("SELECT 1 FROM audit_entries LIMIT 1").fetchone() is None:
        return
    if database.execute_sql("SELECT 1 FROM encryption_steps LIMIT 1").fetchone() is None:
        database.execute_sql(
            """INSERT INTO "encryption_steps" ("number", "name", "position") VALUES (1, 'files', '')"""
        )
    database.execute_sql(
        """
        INSERT INTO "encryption_steps" ("number", "name", "position")
        SELECT MIN("number") - 1, 'fingerprints', '' FROM "encryption_steps"
        """
    )
