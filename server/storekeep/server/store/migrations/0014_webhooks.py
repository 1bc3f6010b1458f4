"""Webhooks: endpoints, their encrypted signing secrets, their positions in the ledger, and deliveries."""

from __future__ import annotations

import re
from typing import Any

STATEMENTS = (
    """
    CREATE TABLE "webhook_endpoints" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "url" TEXT NOT NULL,
        "event_types" TEXT NOT NULL,
        "payload" TEXT NOT NULL,
        "ordered" BOOL NOT NULL,
        "labels" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "state_reason" TEXT NOT NULL,
        "secrets" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
    )
    """,
    """
    CREATE TABLE "webhook_secrets" (
        "endpoint_id" TEXT NOT NULL,
        "number" INTEGER NOT NULL,
        "sealed_secret" BLOB NOT NULL,
        PRIMARY KEY ("endpoint_id", "number"),
        FOREIGN KEY ("endpoint_id") REFERENCES "webhook_endpoints" ("id")
    )
    """,
    """
    CREATE TABLE "webhook_progress" (
        "endpoint_id" TEXT NOT NULL PRIMARY KEY,
        "sequence" INTEGER NOT NULL,
        "hold_until_us" INTEGER NOT NULL,
        "failing_since_us" INTEGER,
        FOREIGN KEY ("endpoint_id") REFERENCES "webhook_endpoints" ("id")
    )
    """,
    """
    CREATE TABLE "webhook_deliveries" (
        "endpoint_id" TEXT NOT NULL,
        "sequence" INTEGER NOT NULL,
        "event_type" TEXT NOT NULL,
        "resource" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "attempts" INTEGER NOT NULL,
        "claim_until_us" INTEGER NOT NULL,
        "first_attempt_time_us" INTEGER,
        "last_attempt_time_us" INTEGER,
        "next_attempt_time_us" INTEGER,
        "last_status" INTEGER NOT NULL,
        "last_problem" TEXT NOT NULL,
        "last_reply" TEXT NOT NULL,
        "last_duration_us" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        PRIMARY KEY ("endpoint_id", "sequence"),
        FOREIGN KEY ("endpoint_id") REFERENCES "webhook_endpoints" ("id")
    )
    """,
    *(
        'CREATE INDEX "{0}_{1}" ON "{0}" ("{2}")'.format(table, "_".join(columns), '", "'.join(columns))
        for table, columns in (
            ("webhook_endpoints", ("create_time_us", "id")),
            ("webhook_endpoints", ("update_time_us", "id")),
            ("webhook_endpoints", ("display_name", "id")),
            ("webhook_deliveries", ("endpoint_id", "create_time_us", "sequence")),
            ("webhook_deliveries", ("create_time_us", "endpoint_id", "sequence")),
            ("webhook_deliveries", ("endpoint_id", "state", "next_attempt_time_us")),
            ("webhook_deliveries", ("endpoint_id", "state", "resource", "sequence")),
            ("webhook_deliveries", ("state", "create_time_us")),
        )
    ),
)
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
    """Add the tables."""
    types = TYPES["sqlite" if database.param == "?" else "postgresql"]
    for statement in STATEMENTS:
        for pattern, replacement in types:
            statement = re.sub(pattern, replacement, statement)
        database.execute_sql(statement)
