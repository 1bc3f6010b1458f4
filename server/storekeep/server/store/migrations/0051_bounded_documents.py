"""Search documents have a limited number of words, and those of customers other hashes. `migrate` writes them anew."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the steps, after those that are not complete yet but before `files`, the last one."""
    for noun in ("customer", "product"):
        if database.execute_sql(f"SELECT 1 FROM {noun}s LIMIT 1").fetchone() is None:  # noqa: S608 - fixed names
            continue
        database.execute_sql(
            f"""
            INSERT INTO "encryption_steps" ("number", "name", "position")
            SELECT COALESCE(MAX("number"), 0) + 1, '{noun}_documents', '' FROM "encryption_steps"
            """  # noqa: S608 - fixed names
        )
    database.execute_sql(
        """
        UPDATE "encryption_steps" SET "number" = (SELECT MAX("number") + 1 FROM "encryption_steps")
        WHERE "name" = 'files'
        """
    )
