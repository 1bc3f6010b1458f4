"""The whole life of an order: numbers, freight, expiry, holds, how far each line has come, fulfilments and notes.

What was called off before is now written as such: the units of a cancelled order are cancelled, and cost nothing.
"""

from __future__ import annotations

import re
from typing import Any

ORDERS = (
    'ALTER TABLE "orders" ADD COLUMN "number" TEXT NOT NULL DEFAULT \'\'',
    'ALTER TABLE "orders" ADD COLUMN "shipping_minor" INTEGER NOT NULL DEFAULT 0 CHECK (shipping_minor >= 0)',
    'ALTER TABLE "orders" ADD COLUMN "expire_time_us" INTEGER',
    'ALTER TABLE "orders" ADD COLUMN "held" INTEGER NOT NULL DEFAULT FALSE',
    'ALTER TABLE "orders" ADD COLUMN "hold_reason" TEXT NOT NULL DEFAULT \'\'',
    'DROP INDEX "orders_external_reference"',
)
NULL_REFERENCE = (
    'ALTER TABLE "orders" ADD COLUMN "reference" TEXT',
    "UPDATE orders SET reference = NULLIF(external_reference, '')",
    'ALTER TABLE "orders" DROP COLUMN "external_reference"',
    'ALTER TABLE "orders" RENAME COLUMN "reference" TO "external_reference"',
)
"""SQLite cannot make a column nullable."""
POSTGRESQL_NULL_REFERENCE = (
    'ALTER TABLE "orders" ALTER COLUMN "external_reference" DROP NOT NULL',
    "UPDATE orders SET external_reference = NULL WHERE external_reference = ''",
)
LINES = (
    'ALTER TABLE "order_lines" ADD COLUMN "discount_minor" INTEGER NOT NULL DEFAULT 0 CHECK (discount_minor >= 0)',
    'ALTER TABLE "order_lines" ADD COLUMN "total_minor" INTEGER NOT NULL DEFAULT 0 CHECK (total_minor >= 0)',
    'ALTER TABLE "order_lines" ADD COLUMN "fulfilled" INTEGER NOT NULL DEFAULT 0 CHECK (fulfilled >= 0)',
    """
    ALTER TABLE "order_lines" ADD COLUMN "cancelled" INTEGER NOT NULL DEFAULT 0
    CHECK (cancelled >= 0) CHECK (fulfilled + cancelled <= quantity)
    """,
    """
    ALTER TABLE "order_lines" ADD COLUMN "returned" INTEGER NOT NULL DEFAULT 0
    CHECK (returned >= 0) CHECK (returned <= fulfilled)
    """,
)
VALUES = (
    """
    UPDATE orders SET number = 'SK-' || CASE WHEN placed.sequence < 100000000
        THEN SUBSTR('00000000' || placed.sequence, LENGTH(CAST(placed.sequence AS TEXT)) + 1)
        ELSE CAST(placed.sequence AS TEXT) END
    FROM audit_entries AS placed
    WHERE placed.resource = 'orders/' || orders.id AND placed.type = 'order.placed'
    """,
    "UPDATE orders SET number = id WHERE number = ''",
    "UPDATE order_lines SET cancelled = quantity WHERE order_id IN (SELECT id FROM orders WHERE state = 'CANCELLED')",
    "UPDATE order_lines SET total_minor = (quantity - cancelled) * unit_price_minor",
    "UPDATE orders SET total_minor = 0 WHERE state = 'CANCELLED'",
)
"""Numbers are made as those of new orders are by default: from the place of the order in the ledger."""
INDEXES = (
    'CREATE UNIQUE INDEX "orders_number" ON "orders" ("number")',
    """
    CREATE INDEX "orders_external_reference" ON "orders" ("external_reference") WHERE external_reference IS NOT NULL
    """,
    'CREATE INDEX "orders_expire_time_us" ON "orders" ("expire_time_us") WHERE state = \'PLACED\'',
)
TABLES = (
    """
    CREATE TABLE "fulfillments" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "order_id" TEXT NOT NULL,
        "location_id" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "carrier" TEXT NOT NULL,
        "tracking_number" TEXT NOT NULL,
        "ship_time_us" INTEGER,
        "deliver_time_us" INTEGER,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("order_id") REFERENCES "orders" ("id"),
        FOREIGN KEY ("location_id") REFERENCES "locations" ("id")
    )
    """,
    'CREATE INDEX "fulfillments_order_id_create_time_us_id" ON "fulfillments" ("order_id", "create_time_us", "id")',
    'CREATE INDEX "fulfillments_state_create_time_us_id" ON "fulfillments" ("state", "create_time_us", "id")',
    'CREATE INDEX "fulfillments_create_time_us_id" ON "fulfillments" ("create_time_us", "id")',
    """
    CREATE TABLE "fulfillment_lines" (
        "fulfillment_id" TEXT NOT NULL,
        "line_number" INTEGER NOT NULL,
        "quantity" INTEGER NOT NULL CHECK (quantity > 0),
        PRIMARY KEY ("fulfillment_id", "line_number"),
        FOREIGN KEY ("fulfillment_id") REFERENCES "fulfillments" ("id")
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE "order_notes" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "order_id" TEXT NOT NULL,
        "content" TEXT NOT NULL,
        "actor" TEXT NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("order_id") REFERENCES "orders" ("id")
    )
    """,
    'CREATE INDEX "order_notes_order_id_create_time_us_id" ON "order_notes" ("order_id", "create_time_us", "id")',
)
POSTGRESQL_TYPES = (
    (r"\) WITHOUT ROWID", ")"),
    (r'"held" INTEGER', '"held" BOOLEAN'),
    (r'(?<!"line_number" )\bINTEGER\b', "BIGINT"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
)


def up(_migrator: Any, database: Any) -> None:
    """Add the columns and tables, and say of the orders that are there what the new columns mean."""
    sqlite = database.param == "?"
    references = NULL_REFERENCE if sqlite else POSTGRESQL_NULL_REFERENCE
    for statement in (*ORDERS, *LINES, *TABLES):
        database.execute_sql(statement if sqlite else for_postgresql(statement))
    for statement in (*references, *VALUES, *INDEXES):
        database.execute_sql(statement)


def for_postgresql(statement: str) -> str:
    """What does the same to the same table on PostgreSQL."""
    for pattern, replacement in POSTGRESQL_TYPES:
        statement = re.sub(pattern, replacement, statement)
    return statement
