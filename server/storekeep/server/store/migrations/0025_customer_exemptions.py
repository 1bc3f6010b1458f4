"""Exemptions of customers from tax, as JSON. Existing customers have none."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the column."""
    kind = "TEXT" if database.param == "?" else 'TEXT COLLATE "C"'
    database.execute_sql(f"""ALTER TABLE "customers" ADD COLUMN "exemption" {kind} NOT NULL DEFAULT 'null'""")
