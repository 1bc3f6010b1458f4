"""Whether full webhooks mask personal data. Existing endpoints send it, as before."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the column."""
    kind = "INTEGER" if database.param == "?" else "BOOLEAN"
    database.execute_sql(
        f"""ALTER TABLE "webhook_endpoints" ADD COLUMN "exclude_personal_data" {kind} NOT NULL DEFAULT FALSE"""
    )
