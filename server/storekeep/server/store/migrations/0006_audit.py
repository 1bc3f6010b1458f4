"""An audit log that cannot be rebuilt quietly: keyed hashes, signed checkpoints, entries that name key and session.

The log and its checkpoints are closed to changes. Entries from before keep their hashes; a server anchors them at its
next start, under a key.
"""

from __future__ import annotations

import re
from typing import Any

TABLES = (
    """ALTER TABLE "audit_entries" ADD COLUMN "api_key" TEXT NOT NULL DEFAULT ''""",
    """ALTER TABLE "audit_entries" ADD COLUMN "session_id" TEXT NOT NULL DEFAULT ''""",
    """ALTER TABLE "api_keys" ADD COLUMN "key_digest" TEXT NOT NULL DEFAULT ''""",
    'ALTER TABLE "api_key_secrets" ADD COLUMN "secret_number" INTEGER NOT NULL DEFAULT 1',
    """
    CREATE TABLE "server_secrets" (
        "number" INTEGER NOT NULL PRIMARY KEY,
        "fingerprint" BLOB NOT NULL,
        "create_time_us" INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE "audit_epochs" (
        "number" INTEGER NOT NULL PRIMARY KEY,
        "first_sequence" INTEGER NOT NULL,
        "sealed_key" BLOB NOT NULL,
        "create_time_us" INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE "audit_keys" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "public_key" BLOB NOT NULL,
        "sealed_private_key" BLOB NOT NULL,
        "create_time_us" INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE "audit_checkpoints" (
        "sequence" INTEGER NOT NULL PRIMARY KEY,
        "chain" TEXT NOT NULL,
        "head_hash" BLOB NOT NULL,
        "key_id" TEXT NOT NULL,
        "signature" BLOB NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("key_id") REFERENCES "audit_keys" ("id")
    )
    """,
)
GUARDED = ("audit_entries", "audit_checkpoints")
POSTGRESQL_TYPES = (
    (r"\bINTEGER\b", "BIGINT"),
    (r"\bBLOB\b", "BYTEA"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
)


def up(_migrator: Any, database: Any) -> None:
    """Add the columns and tables, and close the log to changes."""
    sqlite = database.param == "?"
    for statement in TABLES:
        database.execute_sql(statement if sqlite else _for_postgresql(statement))
    for table in GUARDED:
        for statement in _guards(table) if sqlite else _postgresql_guards(table):
            database.execute_sql(statement)


def _guards(table: str) -> tuple[str, ...]:
    return tuple(
        f"""
        CREATE TRIGGER {table}_{name} BEFORE {action} ON {table} BEGIN
            SELECT RAISE(ABORT, '{table} is append-only');
        END
        """
        for name, action in (("kept", "UPDATE"), ("not_deleted", "DELETE"))
    )


def _postgresql_guards(table: str) -> tuple[str, ...]:
    return (
        f"""
        CREATE TRIGGER {table}_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """,
    )


def _for_postgresql(statement: str) -> str:
    for pattern, replacement in POSTGRESQL_TYPES:
        statement = re.sub(pattern, replacement, statement)
    return statement
