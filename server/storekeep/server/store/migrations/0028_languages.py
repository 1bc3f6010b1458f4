"""The language of customers and of their orders. Existing rows have the server's default language."""

from __future__ import annotations

from typing import Any

TABLES = ("customers", "orders")


def up(_migrator: Any, database: Any) -> None:
    """Add the columns."""
    kind = "TEXT" if database.param == "?" else 'TEXT COLLATE "C"'
    for table in TABLES:
        database.execute_sql(f"""ALTER TABLE "{table}" ADD COLUMN "language_code" {kind} NOT NULL DEFAULT ''""")
