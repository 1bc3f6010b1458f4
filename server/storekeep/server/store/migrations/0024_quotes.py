"""Quotes."""

from __future__ import annotations

import re
from typing import Any

STATEMENTS = (
    """
    CREATE TABLE "quotes" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "customer_id" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "currency_code" TEXT NOT NULL,
        "lines" TEXT NOT NULL,
        "shipping_address" TEXT NOT NULL,
        "billing_address" TEXT NOT NULL,
        "shipping" TEXT NOT NULL,
        "coupon_codes" TEXT NOT NULL,
        "shipping_method" TEXT NOT NULL,
        "tax_address" TEXT NOT NULL,
        "exemption" TEXT NOT NULL,
        "expire_time_us" INTEGER NOT NULL,
        "note" TEXT NOT NULL,
        "send_time_us" INTEGER,
        "order_id" TEXT NOT NULL,
        "total_minor" INTEGER NOT NULL,
        "priced_lines" TEXT NOT NULL,
        "pricing" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("customer_id") REFERENCES "customers" ("id")
    )
    """,
    'CREATE INDEX "quotes_create_time_us_id" ON "quotes" ("create_time_us", "id")',
    'CREATE INDEX "quotes_update_time_us_id" ON "quotes" ("update_time_us", "id")',
    'CREATE INDEX "quotes_expire_time_us_id" ON "quotes" ("expire_time_us", "id")',
    'CREATE INDEX "quotes_customer_id_create_time_us_id" ON "quotes" ("customer_id", "create_time_us", "id")',
    """CREATE INDEX "quotes_open" ON "quotes" ("expire_time_us") WHERE state IN ('DRAFT', 'SENT')""",
)


def up(_migrator: Any, database: Any) -> None:
    """Add the table."""
    for statement in STATEMENTS:
        if database.param != "?":
            statement = re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', re.sub(r"\bINTEGER\b", "BIGINT", statement))
        database.execute_sql(statement)
