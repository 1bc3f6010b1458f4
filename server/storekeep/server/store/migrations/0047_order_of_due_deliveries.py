"""Due deliveries have an order: by the time of their next attempt, then by sequence."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the sequence to the index that finds them, so that no engine has to sort."""
    database.execute_sql('DROP INDEX "webhook_deliveries_endpoint_id_state_next_attempt_time_us"')
    database.execute_sql(
        'CREATE INDEX "webhook_deliveries_due" ON "webhook_deliveries" '
        '("endpoint_id", "state", "next_attempt_time_us", "sequence")'
    )
