"""An index of the destroyed data keys, by which a start finds customers whose erasure an older backup lacks."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Create the index. It has the numbers of keys, and nothing of the keys."""
    database.execute_sql(
        'CREATE INDEX "data_keys_destroyed" ON "data_keys" ("number") WHERE destroy_time_us < 4611686018427387903'
    )
