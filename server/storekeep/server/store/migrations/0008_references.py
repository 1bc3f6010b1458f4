"""References that are unique on request: of orders per source, and of active reservations. Labels of both kinds.

Existing orders and reservations keep references that need not be unique.
"""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    """ALTER TABLE "orders" ADD COLUMN "reference_source" {text} NOT NULL DEFAULT ''""",
    'ALTER TABLE "orders" ADD COLUMN "unique_reference" {boolean} NOT NULL DEFAULT FALSE',
    'DROP INDEX "orders_external_reference"',
    """
    CREATE INDEX "orders_external_reference_reference_source" ON "orders" ("external_reference", "reference_source")
    WHERE external_reference IS NOT NULL
    """,
    """
    CREATE UNIQUE INDEX "orders_unique_reference" ON "orders" ("reference_source", "external_reference")
    WHERE unique_reference
    """,
    """ALTER TABLE "reservations" ADD COLUMN "labels" {text} NOT NULL DEFAULT '{{}}'""",
    'ALTER TABLE "reservations" ADD COLUMN "unique_reference" {boolean} NOT NULL DEFAULT FALSE',
    """
    CREATE UNIQUE INDEX "reservations_unique_reference" ON "reservations" ("reference")
    WHERE unique_reference AND state = 'ACTIVE'
    """,
    """ALTER TABLE "locations" ADD COLUMN "labels" {text} NOT NULL DEFAULT '{{}}'""",
)
SQLITE = {"text": "TEXT", "boolean": "INTEGER"}
POSTGRESQL = {"text": 'TEXT COLLATE "C"', "boolean": "BOOLEAN"}


def up(_migrator: Any, database: Any) -> None:
    """Add the columns and the indexes."""
    types = SQLITE if database.param == "?" else POSTGRESQL
    for statement in STATEMENTS:
        database.execute_sql(statement.format(**types))
