"""Texts of products, variants and categories in several languages. No existing row has translations."""

from __future__ import annotations

from typing import Any

TABLES = ("categories", "products", "variants")


def up(_migrator: Any, database: Any) -> None:
    """Add the columns."""
    kind = "TEXT" if database.param == "?" else 'TEXT COLLATE "C"'
    for table in TABLES:
        database.execute_sql(f"""ALTER TABLE "{table}" ADD COLUMN "translations" {kind} NOT NULL DEFAULT '{{}}'""")
