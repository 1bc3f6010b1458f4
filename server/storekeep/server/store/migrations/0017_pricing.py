"""Pricing: prices and their history, taxes, promotions, coupons and shipping methods."""

from __future__ import annotations

import re
from typing import Any

RESOURCE = """
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
"""
STATEMENTS = (
    f"""
    CREATE TABLE "tax_zones" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "areas" TEXT NOT NULL,
        {RESOURCE}
    )
    """,
    f"""
    CREATE TABLE "tax_rates" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "zone_id" TEXT NOT NULL,
        "tax_class" TEXT NOT NULL,
        "components" TEXT NOT NULL,
        "start_time_us" INTEGER,
        "end_time_us" INTEGER,
        {RESOURCE},
        FOREIGN KEY ("zone_id") REFERENCES "tax_zones" ("id")
    )
    """,
    f"""
    CREATE TABLE "price_entries" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "sku" TEXT NOT NULL,
        "currency_code" TEXT NOT NULL,
        "amount_minor" INTEGER NOT NULL,
        "customer_group" TEXT NOT NULL,
        "minimum_quantity" INTEGER NOT NULL,
        "start_time_us" INTEGER,
        "end_time_us" INTEGER,
        "compare_at_minor" INTEGER,
        "floor_minor" INTEGER,
        {RESOURCE}
    )
    """,
    f"""
    CREATE TABLE "promotions" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "priority" INTEGER NOT NULL,
        "exclusive" BOOL NOT NULL,
        "requires_coupon" BOOL NOT NULL,
        "currency_code" TEXT NOT NULL,
        "conditions" TEXT NOT NULL,
        "action" TEXT NOT NULL,
        "start_time_us" INTEGER,
        "end_time_us" INTEGER,
        "uses_max" INTEGER NOT NULL,
        "budget" TEXT NOT NULL,
        {RESOURCE}
    )
    """,
    f"""
    CREATE TABLE "coupons" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "promotion_id" TEXT NOT NULL,
        "code" TEXT NOT NULL,
        "uses_max" INTEGER NOT NULL,
        "customer_uses_max" INTEGER NOT NULL,
        "start_time_us" INTEGER,
        "end_time_us" INTEGER,
        {RESOURCE},
        FOREIGN KEY ("promotion_id") REFERENCES "promotions" ("id")
    )
    """,
    f"""
    CREATE TABLE "shipping_methods" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "zone_ids" TEXT NOT NULL,
        "basis" TEXT NOT NULL,
        "prices" TEXT NOT NULL,
        "free_from" TEXT NOT NULL,
        "tax_class" TEXT NOT NULL,
        {RESOURCE}
    )
    """,
    """
    CREATE TABLE "promotion_uses" (
        "order_id" TEXT NOT NULL,
        "promotion_id" TEXT NOT NULL,
        "coupon_id" TEXT NOT NULL,
        "customer_id" TEXT NOT NULL,
        "discount_minor" INTEGER NOT NULL,
        PRIMARY KEY ("order_id", "promotion_id")
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE "use_counts" (
        "subject" TEXT NOT NULL PRIMARY KEY,
        "uses" INTEGER NOT NULL,
        "discount_minor" INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE "price_history" (
        "sku" TEXT NOT NULL,
        "currency_code" TEXT NOT NULL,
        "price_id" TEXT NOT NULL,
        "start_time_us" INTEGER NOT NULL,
        "end_time_us" INTEGER,
        "amount_minor" INTEGER NOT NULL,
        "customer_group" TEXT NOT NULL,
        "minimum_quantity" INTEGER NOT NULL,
        "has_window" BOOL NOT NULL,
        PRIMARY KEY ("sku", "currency_code", "price_id", "start_time_us")
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO "price_history"
    SELECT "prices"."sku", "currency_code", '', "update_time_us", NULL, "amount_minor", '', 1, FALSE
    FROM "prices" JOIN "variants" ON "variants"."sku" = "prices"."sku"
    """,
    """
    CREATE TABLE "pricing_versions" ("id" INT NOT NULL PRIMARY KEY, "version" INTEGER NOT NULL)
    """,
    *(
        'CREATE INDEX "{0}_{1}" ON "{0}" ("{2}")'.format(table, "_".join(columns), '", "'.join(columns))
        for table, columns in (
            ("tax_zones", ("create_time_us", "id")),
            ("tax_zones", ("update_time_us", "id")),
            ("tax_zones", ("display_name", "id")),
            ("tax_rates", ("zone_id",)),
            ("tax_rates", ("create_time_us", "id")),
            ("tax_rates", ("update_time_us", "id")),
            ("tax_rates", ("display_name", "id")),
            ("price_entries", ("sku", "currency_code")),
            ("price_entries", ("minimum_quantity", "id")),
            ("price_entries", ("create_time_us", "id")),
            ("price_entries", ("update_time_us", "id")),
            ("promotions", ("display_name", "id")),
            ("promotions", ("priority", "id")),
            ("promotions", ("create_time_us", "id")),
            ("promotions", ("update_time_us", "id")),
            ("coupons", ("promotion_id",)),
            ("coupons", ("code", "id")),
            ("coupons", ("create_time_us", "id")),
            ("coupons", ("update_time_us", "id")),
            ("shipping_methods", ("display_name", "id")),
            ("shipping_methods", ("create_time_us", "id")),
            ("shipping_methods", ("update_time_us", "id")),
            ("promotion_uses", ("coupon_id", "customer_id")),
        )
    ),
)
TYPES = {
    "sqlite": ((r"\bBOOL\b", "INTEGER"), (r"\bINT\b", "INTEGER")),
    "postgresql": (
        (r"\bINTEGER\b", "BIGINT"),
        (r"\bINT\b", "INTEGER"),
        (r"\bTEXT\b", 'TEXT COLLATE "C"'),
        (r"\bBOOL\b", "BOOLEAN"),
        (r" WITHOUT ROWID\b", ""),
    ),
}


def up(_migrator: Any, database: Any) -> None:
    """Add the tables."""
    types = TYPES["sqlite" if database.param == "?" else "postgresql"]
    for statement in STATEMENTS:
        for pattern, replacement in types:
            statement = re.sub(pattern, replacement, statement)
        database.execute_sql(statement)
