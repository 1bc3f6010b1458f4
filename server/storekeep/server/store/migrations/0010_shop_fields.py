"""Fields that shops need: drafts of products with a publish time, media, quantity rules, labels, companies.

Every existing row gets the value that new rows have by default.
"""

from __future__ import annotations

import re
from typing import Any

COLUMNS = (
    'ALTER TABLE "products" ADD COLUMN "publish_time_us" INTEGER',
    """ALTER TABLE "products" ADD COLUMN "media" TEXT NOT NULL DEFAULT '[]'""",
    """ALTER TABLE "variants" ADD COLUMN "labels" TEXT NOT NULL DEFAULT '{}'""",
    """ALTER TABLE "variants" ADD COLUMN "quantity_rules" TEXT NOT NULL DEFAULT 'null'""",
    """ALTER TABLE "customers" ADD COLUMN "groups" TEXT NOT NULL DEFAULT '[]'""",
    """ALTER TABLE "customers" ADD COLUMN "company" TEXT NOT NULL DEFAULT ''""",
    """ALTER TABLE "customers" ADD COLUMN "tax_id" TEXT NOT NULL DEFAULT ''""",
)
POSTGRESQL_TYPES = (
    (r"\bINTEGER\b", "BIGINT"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
)


def up(_migrator: Any, database: Any) -> None:
    """Add the columns."""
    for statement in COLUMNS:
        database.execute_sql(statement if database.param == "?" else _for_postgresql(statement))


def _for_postgresql(statement: str) -> str:
    for pattern, replacement in POSTGRESQL_TYPES:
        statement = re.sub(pattern, replacement, statement)
    return statement
