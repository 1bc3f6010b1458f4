"""Orders have contact details, a billing address, labels and promised times; fulfilments have several parcels.

Existing orders have none of them. An existing tracking number stays where it is: it is that of the first parcel.
"""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    'ALTER TABLE "orders" ADD COLUMN "billing_address" {text}',
    """ALTER TABLE "orders" ADD COLUMN "email" {text} NOT NULL DEFAULT ''""",
    """ALTER TABLE "orders" ADD COLUMN "phone" {text} NOT NULL DEFAULT ''""",
    'ALTER TABLE "orders" ADD COLUMN "labels" {text}',
    'ALTER TABLE "orders" ADD COLUMN "ship_by_time_us" {integer}',
    'ALTER TABLE "orders" ADD COLUMN "deliver_by_time_us" {integer}',
    'ALTER TABLE "fulfillments" ADD COLUMN "parcels" {text}',
    'ALTER TABLE "fulfillments" ADD COLUMN "restock_time_us" {integer}',
)
SQLITE = {"text": "TEXT", "integer": "INTEGER"}
POSTGRESQL = {"text": 'TEXT COLLATE "C"', "integer": "BIGINT"}


def up(_migrator: Any, database: Any) -> None:
    """Add the columns."""
    types = SQLITE if database.param == "?" else POSTGRESQL
    for statement in STATEMENTS:
        database.execute_sql(statement.format(**types))
