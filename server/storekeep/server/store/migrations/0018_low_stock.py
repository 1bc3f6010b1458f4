"""Low stock thresholds of stock levels. 0, the value of every existing level, is none."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the column."""
    kind = "INTEGER" if database.param == "?" else "BIGINT"
    database.execute_sql(
        f"""
        ALTER TABLE "stock_levels"
        ADD COLUMN "low_stock_threshold" {kind} NOT NULL DEFAULT 0 CHECK (low_stock_threshold >= 0)
        """
    )
