"""When a customer was erased, and which customer it was merged into."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the columns."""
    number, text = ("INTEGER", "TEXT") if database.param == "?" else ("BIGINT", 'TEXT COLLATE "C"')
    for statement in (
        f'ALTER TABLE "customers" ADD COLUMN "erase_time_us" {number}',
        f"""ALTER TABLE "customers" ADD COLUMN "merged_into" {text} NOT NULL DEFAULT ''""",
        """CREATE INDEX "customers_merged_into" ON "customers" ("merged_into") WHERE merged_into <> ''""",
    ):
        database.execute_sql(statement)
