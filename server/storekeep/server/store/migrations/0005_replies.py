"""Stored replies belong to an API key, and the secrets of new keys stand beside them, to be removed within minutes.

Replies of before belong to no key, so a retry of them is refused and done no second time; their secrets are gone.
"""

from __future__ import annotations

from typing import Any

STATEMENTS = (
    'ALTER TABLE "replies" ADD COLUMN "api_key" {text}',
    """
    CREATE TABLE "new_api_key_secrets" (
        "lookup_id" {text} NOT NULL PRIMARY KEY,
        "sealed_secret" {blob} NOT NULL,
        "create_time_us" {integer} NOT NULL,
        FOREIGN KEY ("lookup_id") REFERENCES "api_keys" ("lookup_id")
    )
    """,
    """
    UPDATE "replies" SET "reply" = {nothing}
    WHERE "method" IN ('storekeep.v1.AuthService/CreateApiKey', 'storekeep.v1.AuthService/RotateApiKey')
    """,
)
SQLITE = {"text": "TEXT", "blob": "BLOB", "integer": "INTEGER", "nothing": "X''"}
POSTGRESQL = {"text": 'TEXT COLLATE "C"', "blob": "BYTEA", "integer": "BIGINT", "nothing": "CAST('' AS BYTEA)"}


def up(_migrator: Any, database: Any) -> None:
    """Add the column and the table, and forget the secrets that are stored."""
    types = SQLITE if database.param == "?" else POSTGRESQL
    for statement in STATEMENTS:
        database.execute_sql(statement.format(**types))
