"""Personal data is encrypted. What an existing database has is encrypted by `migrate`, after all migrations."""

from __future__ import annotations

from typing import Any

TABLES = ("customers", "orders", "order_notes", "fulfillments", "reservations")
STEPS = (*TABLES, "webhook_deliveries", "replies", "stock_movements", "audit_entries", "files")


def up(_migrator: Any, database: Any) -> None:
    """Add the columns and the steps that an existing database needs, and change two indexes."""
    kind = "TEXT" if database.param == "?" else 'TEXT COLLATE "C"'
    for table in TABLES:
        database.execute_sql(f"""ALTER TABLE "{table}" ADD COLUMN "encrypted" {kind} NOT NULL DEFAULT ''""")
    database.execute_sql("DROP INDEX customers_display_name_id")
    database.execute_sql('CREATE INDEX "reservations_order_id" ON "reservations" ("order_id") WHERE order_id <> \'\'')
    number = "INTEGER" if database.param == "?" else "BIGINT"
    database.execute_sql(
        f"""
        CREATE TABLE "encryption_steps" (
            "number" {number} NOT NULL PRIMARY KEY, "name" {kind} NOT NULL, "position" {kind} NOT NULL
        )
        """
    )
    if database.execute_sql("SELECT 1 FROM audit_entries LIMIT 1").fetchone() is None:
        return
    for index, step in enumerate(STEPS, start=1):
        database.execute_sql(
            f"""INSERT INTO "encryption_steps" ("number", "name", "position") VALUES ({index}, '{step}', '')"""  # noqa: S608 - fixed names
        )
