"""Users: people who sign in with a password. A session belongs to an API key, or to a user."""

from __future__ import annotations

import re
from typing import Any

TABLES = (
    """
    CREATE TABLE "users" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "email" TEXT NOT NULL,
        "roles" TEXT NOT NULL,
        "disabled" BOOL NOT NULL,
        "has_password" BOOL NOT NULL,
        "totp_enabled" BOOL NOT NULL,
        "secrets_digest" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
    )
    """,
    'CREATE UNIQUE INDEX "users_email" ON "users" ("email")',
    'CREATE INDEX "users_create_time_us_id" ON "users" ("create_time_us", "id")',
    'CREATE INDEX "users_display_name_id" ON "users" ("display_name", "id")',
    """
    CREATE TABLE "user_secrets" (
        "user_id" TEXT NOT NULL PRIMARY KEY,
        "sealed_secrets" BLOB NOT NULL,
        "totp_step" INTEGER NOT NULL,
        FOREIGN KEY ("user_id") REFERENCES "users" ("id")
    )
    """,
    """
    CREATE TABLE "password_links" (
        "token_hash" BLOB NOT NULL PRIMARY KEY,
        "user_id" TEXT NOT NULL,
        "id" TEXT NOT NULL,
        "expire_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("user_id") REFERENCES "users" ("id")
    )
    """,
    'CREATE INDEX "password_links_user_id" ON "password_links" ("user_id")',
    'CREATE INDEX "password_links_expire_time_us" ON "password_links" ("expire_time_us")',
)
# SQLite cannot drop NOT NULL, so both tables are built anew. Renaming a table renames it in foreign keys too.
SQLITE_SESSIONS = (
    """
    CREATE TABLE "new_sessions" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "lookup_id" TEXT,
        "user_id" TEXT,
        "program" TEXT NOT NULL DEFAULT '',
        "create_time_us" INTEGER NOT NULL,
        "expire_time_us" INTEGER NOT NULL,
        "revoke_time_us" INTEGER,
        FOREIGN KEY ("lookup_id") REFERENCES "api_keys" ("lookup_id"),
        FOREIGN KEY ("user_id") REFERENCES "users" ("id")
    )
    """,
    """
    INSERT INTO "new_sessions" ("id", "lookup_id", "create_time_us", "expire_time_us", "revoke_time_us")
    SELECT "id", "lookup_id", "create_time_us", "expire_time_us", "revoke_time_us" FROM "sessions"
    """,
    """
    CREATE TABLE "new_refresh_tokens" (
        "token_hash" BLOB NOT NULL PRIMARY KEY,
        "session_id" TEXT NOT NULL,
        "expire_time_us" INTEGER NOT NULL,
        "use_time_us" INTEGER,
        FOREIGN KEY ("session_id") REFERENCES "new_sessions" ("id")
    )
    """,
    'INSERT INTO "new_refresh_tokens" SELECT * FROM "refresh_tokens"',
    'DROP TABLE "refresh_tokens"',
    'DROP TABLE "sessions"',
    'ALTER TABLE "new_sessions" RENAME TO "sessions"',
    'ALTER TABLE "new_refresh_tokens" RENAME TO "refresh_tokens"',
    'CREATE INDEX "sessions_lookup_id" ON "sessions" ("lookup_id")',
    'CREATE INDEX "sessions_expire_time_us" ON "sessions" ("expire_time_us")',
    'CREATE INDEX "refresh_tokens_session_id" ON "refresh_tokens" ("session_id")',
    'CREATE INDEX "refresh_tokens_expire_time_us" ON "refresh_tokens" ("expire_time_us")',
)
POSTGRESQL_SESSIONS = (
    'ALTER TABLE "sessions" ALTER COLUMN "lookup_id" DROP NOT NULL',
    'ALTER TABLE "sessions" ADD COLUMN "user_id" TEXT REFERENCES "users" ("id")',
    """ALTER TABLE "sessions" ADD COLUMN "program" TEXT NOT NULL DEFAULT ''""",
)
INDEX = 'CREATE INDEX "sessions_user_id_create_time_us_id" ON "sessions" ("user_id", "create_time_us", "id")'
TYPES = {
    "sqlite": ((r"\bBOOL\b", "INTEGER"),),
    "postgresql": (
        (r"\bINTEGER\b", "BIGINT"),
        (r"\bBLOB\b", "BYTEA"),
        (r"\bTEXT\b", 'TEXT COLLATE "C"'),
        (r"\bBOOL\b", "BOOLEAN"),
    ),
}


def up(_migrator: Any, database: Any) -> None:
    """Add the tables of users, and let sessions belong to users."""
    engine = "sqlite" if database.param == "?" else "postgresql"
    sessions = SQLITE_SESSIONS if engine == "sqlite" else POSTGRESQL_SESSIONS
    for statement in (*TABLES, *sessions, INDEX):
        for pattern, replacement in TYPES[engine]:
            statement = re.sub(pattern, replacement, statement)
        database.execute_sql(statement)
