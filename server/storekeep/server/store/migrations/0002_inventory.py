"""The whole ledger of stock: what is promised moves in it too; safety thresholds, priorities, reservations.

Open orders get the movements that they would have had, so that the ledger tells of all that is promised.
"""

from __future__ import annotations

import re
import time
from typing import Any

TABLES = (
    'ALTER TABLE "locations" ADD COLUMN "priority" INTEGER NOT NULL DEFAULT 0',
    """
    ALTER TABLE "stock_levels" ADD COLUMN "safety_threshold" INTEGER NOT NULL DEFAULT 0 CHECK (safety_threshold >= 0)
    """,
    'ALTER TABLE "stock_movements" ADD COLUMN "reserved_delta" INTEGER NOT NULL DEFAULT 0',
    'ALTER TABLE "stock_movements" ADD COLUMN "allocated_delta" INTEGER NOT NULL DEFAULT 0',
    """ALTER TABLE "stock_movements" ADD COLUMN "source" TEXT NOT NULL DEFAULT ''""",
    'ALTER TABLE "stock_movements" ADD COLUMN "line_number" INTEGER NOT NULL DEFAULT 0',
    'DROP INDEX "stock_movements_location_id_id"',
    """CREATE INDEX "stock_movements_source" ON "stock_movements" ("source") WHERE source <> ''""",
    """
    CREATE TABLE "reservations" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "state" TEXT NOT NULL,
        "reference" TEXT NOT NULL,
        "order_id" TEXT NOT NULL,
        "expire_time_us" INTEGER NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL
    )
    """,
    'CREATE INDEX "reservations_create_time_us_id" ON "reservations" ("create_time_us", "id")',
    'CREATE INDEX "reservations_expire_time_us_id" ON "reservations" ("expire_time_us", "id")',
    'CREATE INDEX "reservations_reference_id" ON "reservations" ("reference", "id")',
    """CREATE INDEX "reservations_active" ON "reservations" ("expire_time_us") WHERE state = 'ACTIVE'""",
    """
    CREATE TABLE "reservation_lines" (
        "reservation_id" TEXT NOT NULL,
        "line_number" INTEGER NOT NULL,
        "sku" TEXT NOT NULL,
        "location_id" TEXT NOT NULL,
        "quantity" INTEGER NOT NULL CHECK (quantity > 0),
        PRIMARY KEY ("reservation_id", "line_number", "location_id"),
        FOREIGN KEY ("reservation_id") REFERENCES "reservations" ("id"),
        FOREIGN KEY ("sku") REFERENCES "variants" ("sku"),
        FOREIGN KEY ("location_id") REFERENCES "locations" ("id")
    ) WITHOUT ROWID
    """,
)
OPEN_ORDERS = """
    INSERT INTO stock_movements (
        location_id, sku, quantity_delta, reserved_delta, allocated_delta, on_hand, cause, reason, actor, source,
        line_number, create_time_us
    )
    SELECT orders.location_id, order_lines.sku, 0, 0, order_lines.quantity, stock_levels.on_hand, 'ALLOCATE',
           'promised before the ledger told of it', 'system/migration', 'orders/' || orders.id,
           order_lines.line_number, ?
    FROM orders
    JOIN order_lines ON order_lines.order_id = orders.id
    JOIN stock_levels ON stock_levels.location_id = orders.location_id AND stock_levels.sku = order_lines.sku
    WHERE orders.state IN ('PLACED', 'CONFIRMED')
    ORDER BY orders.create_time_us, orders.id, order_lines.line_number
    """
APPEND_ONLY = (
    """
    CREATE TRIGGER stock_movements_kept BEFORE UPDATE ON stock_movements BEGIN
        SELECT RAISE(ABORT, 'stock_movements is append-only');
    END
    """,
    """
    CREATE TRIGGER stock_movements_not_deleted BEFORE DELETE ON stock_movements BEGIN
        SELECT RAISE(ABORT, 'stock_movements is append-only');
    END
    """,
)
"""What holds the ledger to its word, whoever writes: an entry that was wrong is corrected by another one."""
POSTGRESQL_APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only', ERRCODE = 'restrict_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER stock_movements_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON stock_movements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)
POSTGRESQL_TYPES = (
    (r"\) WITHOUT ROWID", ")"),
    (r'(?<!"line_number" )\bINTEGER\b', "BIGINT"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
)


def up(_migrator: Any, database: Any) -> None:
    """Widen the ledger, write down what is promised, and close it to changes."""
    on_sqlite = database.param == "?"
    for statement in TABLES:
        database.execute_sql(statement if on_sqlite else _for_postgresql(statement))
    database.execute_sql(OPEN_ORDERS.replace("?", database.param), (time.time_ns() // 1000,))
    for statement in APPEND_ONLY if on_sqlite else POSTGRESQL_APPEND_ONLY:
        database.execute_sql(statement)


def _for_postgresql(statement: str) -> str:
    for pattern, replacement in POSTGRESQL_TYPES:
        statement = re.sub(pattern, replacement, statement)
    return statement
