"""Indexes for lists that are sorted by update time, and for the notes of all orders."""

from __future__ import annotations

from typing import Any

INDEXES = (
    ("categories", ("update_time_us", "id")),
    ("customers", ("update_time_us", "id")),
    ("variants", ("update_time_us", "sku")),
    ("orders", ("update_time_us", "id")),
    ("fulfillments", ("update_time_us", "id")),
    ("reservations", ("update_time_us", "id")),
    ("order_notes", ("create_time_us", "id")),
)


def up(_migrator: Any, database: Any) -> None:
    """Create the indexes."""
    for table, columns in INDEXES:
        name = "_".join((table, *columns))
        quoted = ", ".join(f'"{column}"' for column in columns)
        database.execute_sql(f'CREATE INDEX "{name}" ON "{table}" ({quoted})')
