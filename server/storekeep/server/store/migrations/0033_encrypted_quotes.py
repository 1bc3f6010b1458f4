"""The personal data of quotes and users, and the exemptions of customers and in orders, are encrypted.

What an existing database has is encrypted by `migrate`, after all migrations.
"""

from __future__ import annotations

from typing import Any

STEPS = ("customers", "orders", "quotes", "users", "replies", "audit_entries", "files")


def up(_migrator: Any, database: Any) -> None:
    """Add the columns and the steps, and change two indexes."""
    kind = "TEXT" if database.param == "?" else 'TEXT COLLATE "C"'
    for table in ("quotes", "users"):
        database.execute_sql(f"""ALTER TABLE "{table}" ADD COLUMN "encrypted" {kind} NOT NULL DEFAULT ''""")
    database.execute_sql("DROP INDEX users_display_name_id")
    database.execute_sql("DROP INDEX users_email")
    database.execute_sql('CREATE UNIQUE INDEX "users_email" ON "users" ("email") WHERE email <> \'\'')
    if database.execute_sql("SELECT 1 FROM audit_entries LIMIT 1").fetchone() is None:
        return
    if database.execute_sql("SELECT 1 FROM encryption_steps LIMIT 1").fetchone() is not None:
        return  # a database of a release without quotes and users: its steps encrypt all that it has
    for index, step in enumerate(STEPS, start=1):
        database.execute_sql(
            f"""INSERT INTO "encryption_steps" ("number", "name", "position") VALUES ({index}, '{step}', '')"""  # noqa: S608 - fixed names
        )
