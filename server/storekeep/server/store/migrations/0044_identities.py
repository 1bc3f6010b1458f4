"""Users can be people of an identity provider. ID tokens that have signed in are remembered until they expire."""

from __future__ import annotations

from typing import Any


def up(_migrator: Any, database: Any) -> None:
    """Add the column and the table."""
    is_sqlite = database.param == "?"
    text, integer = ("TEXT", "INTEGER") if is_sqlite else ('TEXT COLLATE "C"', "BIGINT")
    for statement in (
        f"""ALTER TABLE "users" ADD COLUMN "identity" {text} NOT NULL DEFAULT ''""",
        """CREATE UNIQUE INDEX "users_identity" ON "users" ("identity") WHERE identity <> ''""",
        f"""
        CREATE TABLE "used_identity_tokens" (
            "token_id" {text} NOT NULL PRIMARY KEY,
            "expire_time_us" {integer} NOT NULL
        )
        """,
        'CREATE INDEX "used_identity_tokens_expire_time_us" ON "used_identity_tokens" ("expire_time_us")',
    ):
        database.execute_sql(statement)
