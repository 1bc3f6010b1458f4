"""Tax of orders and lines, and the frozen terms of each order. Existing orders have neither tax nor terms."""

from __future__ import annotations

import re
from typing import Any

COLUMNS = (
    'ALTER TABLE "orders" ADD COLUMN "tax_minor" INTEGER NOT NULL DEFAULT 0 CHECK (tax_minor >= 0)',
    'ALTER TABLE "orders" ADD COLUMN "shipping_tax_minor" INTEGER NOT NULL DEFAULT 0 CHECK (shipping_tax_minor >= 0)',
    'ALTER TABLE "orders" ADD COLUMN "prices_include_tax" BOOL NOT NULL DEFAULT FALSE',
    'ALTER TABLE "orders" ADD COLUMN "pricing" TEXT',
    'ALTER TABLE "order_lines" ADD COLUMN "tax_minor" INTEGER NOT NULL DEFAULT 0 CHECK (tax_minor >= 0)',
)
TYPES: dict[str, tuple[tuple[str, str], ...]] = {
    "sqlite": ((r"\bBOOL\b", "INTEGER"),),
    "postgresql": ((r"\bINTEGER\b", "BIGINT"), (r"\bTEXT\b", 'TEXT COLLATE "C"'), (r"\bBOOL\b", "BOOLEAN")),
}


def up(_migrator: Any, database: Any) -> None:
    """Add the columns."""
    types = TYPES["sqlite" if database.param == "?" else "postgresql"]
    for statement in COLUMNS:
        for pattern, replacement in types:
            statement = re.sub(pattern, replacement, statement)
        database.execute_sql(statement)
