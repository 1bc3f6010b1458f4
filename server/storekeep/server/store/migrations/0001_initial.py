"""The first schema: all tables, the location `main`, and the text index of the products."""

from __future__ import annotations

import re
import time
from typing import Any

TABLES = (
    'CREATE TABLE "access_versions" ("id" INTEGER NOT NULL PRIMARY KEY, "version" INTEGER NOT NULL)',
    """
    CREATE TABLE "service_accounts" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "roles" TEXT NOT NULL,
        "disabled" INTEGER NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
    )
    """,
    'CREATE INDEX "service_accounts_create_time_us_id" ON "service_accounts" ("create_time_us", "id")',
    'CREATE INDEX "service_accounts_display_name_id" ON "service_accounts" ("display_name", "id")',
    """
    CREATE TABLE "api_keys" (
        "lookup_id" TEXT NOT NULL PRIMARY KEY,
        "account_id" TEXT NOT NULL,
        "id" TEXT NOT NULL,
        "display_name" TEXT NOT NULL,
        "scopes" TEXT NOT NULL,
        "expire_time_us" INTEGER,
        "revoke_time_us" INTEGER,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("account_id") REFERENCES "service_accounts" ("id")
    )
    """,
    'CREATE UNIQUE INDEX "api_keys_account_id_id" ON "api_keys" ("account_id", "id")',
    """
    CREATE INDEX "api_keys_account_id_create_time_us_lookup_id" ON "api_keys" (
        "account_id",
        "create_time_us",
        "lookup_id"
    )
    """,
    'CREATE INDEX "api_keys_create_time_us_lookup_id" ON "api_keys" ("create_time_us", "lookup_id")',
    """
    CREATE TABLE "api_key_secrets" (
        "lookup_id" TEXT NOT NULL PRIMARY KEY,
        "key_hash" BLOB NOT NULL,
        FOREIGN KEY ("lookup_id") REFERENCES "api_keys" ("lookup_id")
    )
    """,
    """
    CREATE TABLE "audit_entries" (
        "sequence" INTEGER NOT NULL PRIMARY KEY,
        "create_time_us" INTEGER NOT NULL,
        "type" TEXT NOT NULL,
        "actor" TEXT NOT NULL,
        "method" TEXT NOT NULL,
        "resource" TEXT NOT NULL,
        "request_id" TEXT NOT NULL,
        "previous_hash" BLOB NOT NULL,
        "entry_hash" BLOB NOT NULL,
        "before" BLOB,
        "after" BLOB
    )
    """,
    'CREATE INDEX "audit_entries_resource_sequence" ON "audit_entries" ("resource", "sequence")',
    """
    CREATE TABLE "categories" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "description" TEXT NOT NULL,
        "parent_id" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
    )
    """,
    'CREATE INDEX "categories_parent_id" ON "categories" ("parent_id")',
    'CREATE INDEX "categories_create_time_us_id" ON "categories" ("create_time_us", "id")',
    'CREATE INDEX "categories_display_name_id" ON "categories" ("display_name", "id")',
    """
    CREATE TABLE "customers" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "email" TEXT NOT NULL,
        "phone" TEXT NOT NULL,
        "addresses" TEXT NOT NULL,
        "labels" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
    )
    """,
    'CREATE INDEX "customers_email" ON "customers" ("email")',
    'CREATE INDEX "customers_create_time_us_id" ON "customers" ("create_time_us", "id")',
    'CREATE INDEX "customers_display_name_id" ON "customers" ("display_name", "id")',
    """
    CREATE VIEW "events" AS
    SELECT "sequence", "type", "resource", "after" AS "payload", "create_time_us" FROM "audit_entries"
    """,
    """
    CREATE TABLE "locations" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "address" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
    )
    """,
    'CREATE INDEX "locations_create_time_us_id" ON "locations" ("create_time_us", "id")',
    'CREATE INDEX "locations_display_name_id" ON "locations" ("display_name", "id")',
    """
    CREATE TABLE "orders" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "customer_id" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "currency_code" TEXT NOT NULL,
        "total_minor" INTEGER NOT NULL CHECK (total_minor >= 0),
        "location_id" TEXT NOT NULL,
        "shipping_address" TEXT NOT NULL,
        "external_reference" TEXT NOT NULL,
        "note" TEXT NOT NULL,
        "cancel_reason" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("customer_id") REFERENCES "customers" ("id"),
        FOREIGN KEY ("location_id") REFERENCES "locations" ("id")
    )
    """,
    'CREATE INDEX "orders_external_reference" ON "orders" ("external_reference")',
    'CREATE INDEX "orders_create_time_us_id" ON "orders" ("create_time_us", "id")',
    'CREATE INDEX "orders_customer_id_create_time_us_id" ON "orders" ("customer_id", "create_time_us", "id")',
    'CREATE INDEX "orders_state_create_time_us_id" ON "orders" ("state", "create_time_us", "id")',
    'CREATE INDEX "orders_total_minor_id" ON "orders" ("total_minor", "id")',
    """
    CREATE TABLE "products" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "description" TEXT NOT NULL,
        "category_id" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "labels" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER
    )
    """,
    'CREATE INDEX "products_category_id" ON "products" ("category_id")',
    'CREATE INDEX "products_create_time_us_id" ON "products" ("create_time_us", "id")',
    'CREATE INDEX "products_update_time_us_id" ON "products" ("update_time_us", "id")',
    'CREATE INDEX "products_display_name_id" ON "products" ("display_name", "id")',
    """
    CREATE TABLE "variants" (
        "sku" TEXT NOT NULL PRIMARY KEY,
        "product_id" TEXT NOT NULL,
        "id" TEXT NOT NULL,
        "display_name" TEXT NOT NULL,
        "options" TEXT NOT NULL,
        "tax_class" TEXT NOT NULL,
        "weight_g" INTEGER,
        "barcode" TEXT NOT NULL,
        "state" TEXT NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        "delete_time_us" INTEGER,
        FOREIGN KEY ("product_id") REFERENCES "products" ("id")
    )
    """,
    'CREATE INDEX "variants_barcode" ON "variants" ("barcode")',
    'CREATE UNIQUE INDEX "variants_product_id_id" ON "variants" ("product_id", "id")',
    'CREATE INDEX "variants_create_time_us_sku" ON "variants" ("create_time_us", "sku")',
    """
    CREATE TABLE "order_lines" (
        "order_id" TEXT NOT NULL,
        "line_number" INTEGER NOT NULL,
        "sku" TEXT NOT NULL,
        "display_name" TEXT NOT NULL,
        "quantity" INTEGER NOT NULL CHECK (quantity > 0),
        "unit_price_minor" INTEGER NOT NULL,
        "subtotal_minor" INTEGER NOT NULL,
        PRIMARY KEY ("order_id", "line_number"),
        FOREIGN KEY ("order_id") REFERENCES "orders" ("id"),
        FOREIGN KEY ("sku") REFERENCES "variants" ("sku"),
        CHECK (subtotal_minor = quantity * unit_price_minor)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE "prices" (
        "sku" TEXT NOT NULL,
        "currency_code" TEXT NOT NULL,
        "amount_minor" INTEGER NOT NULL CHECK (amount_minor >= 0),
        PRIMARY KEY ("sku", "currency_code"),
        FOREIGN KEY ("sku") REFERENCES "variants" ("sku")
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE "product_documents" (
        "id" INTEGER NOT NULL PRIMARY KEY,
        "product_id" TEXT NOT NULL,
        "content" TEXT NOT NULL,
        FOREIGN KEY ("product_id") REFERENCES "products" ("id")
    )
    """,
    'CREATE UNIQUE INDEX "product_documents_product_id" ON "product_documents" ("product_id")',
    """
    CREATE TABLE "sessions" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "lookup_id" TEXT NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "expire_time_us" INTEGER NOT NULL,
        "revoke_time_us" INTEGER,
        FOREIGN KEY ("lookup_id") REFERENCES "api_keys" ("lookup_id")
    )
    """,
    'CREATE INDEX "sessions_lookup_id" ON "sessions" ("lookup_id")',
    'CREATE INDEX "sessions_expire_time_us" ON "sessions" ("expire_time_us")',
    """
    CREATE TABLE "refresh_tokens" (
        "token_hash" BLOB NOT NULL PRIMARY KEY,
        "session_id" TEXT NOT NULL,
        "expire_time_us" INTEGER NOT NULL,
        "use_time_us" INTEGER,
        FOREIGN KEY ("session_id") REFERENCES "sessions" ("id")
    )
    """,
    'CREATE INDEX "refresh_tokens_session_id" ON "refresh_tokens" ("session_id")',
    'CREATE INDEX "refresh_tokens_expire_time_us" ON "refresh_tokens" ("expire_time_us")',
    """
    CREATE TABLE "replies" (
        "id" INTEGER NOT NULL PRIMARY KEY,
        "caller" TEXT NOT NULL,
        "method" TEXT NOT NULL,
        "request_id" TEXT NOT NULL,
        "fingerprint" BLOB NOT NULL,
        "entry" INTEGER,
        "reply" BLOB,
        "create_time_us" INTEGER NOT NULL
    )
    """,
    'CREATE UNIQUE INDEX "replies_caller_method_request_id" ON "replies" ("caller", "method", "request_id")',
    'CREATE TABLE "revoked_tokens" ("token_id" TEXT NOT NULL PRIMARY KEY, "expire_time_us" INTEGER NOT NULL)',
    'CREATE INDEX "revoked_tokens_expire_time_us" ON "revoked_tokens" ("expire_time_us")',
    """
    CREATE TABLE "roles" (
        "id" TEXT NOT NULL PRIMARY KEY,
        "display_name" TEXT NOT NULL,
        "permissions" TEXT NOT NULL,
        "built_in" INTEGER NOT NULL,
        "version" INTEGER NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL
    )
    """,
    'CREATE INDEX "roles_create_time_us_id" ON "roles" ("create_time_us", "id")',
    'CREATE INDEX "roles_display_name_id" ON "roles" ("display_name", "id")',
    """
    CREATE TABLE "signing_keys" (
        "kid" TEXT NOT NULL PRIMARY KEY,
        "public_key" BLOB NOT NULL,
        "sealed_private_key" BLOB NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        "expire_time_us" INTEGER
    )
    """,
    """
    CREATE TABLE "stock_levels" (
        "location_id" TEXT NOT NULL,
        "sku" TEXT NOT NULL,
        "on_hand" INTEGER NOT NULL,
        "reserved" INTEGER NOT NULL,
        "allocated" INTEGER NOT NULL,
        "backorder_limit" INTEGER NOT NULL,
        "version" INTEGER NOT NULL,
        "update_time_us" INTEGER NOT NULL,
        PRIMARY KEY ("location_id", "sku"),
        FOREIGN KEY ("location_id") REFERENCES "locations" ("id"),
        FOREIGN KEY ("sku") REFERENCES "variants" ("sku"),
        CHECK (reserved >= 0 AND allocated >= 0 AND backorder_limit >= 0),
        CHECK (reserved + allocated <= on_hand + backorder_limit)
    ) WITHOUT ROWID
    """,
    'CREATE INDEX "stock_levels_sku" ON "stock_levels" ("sku")',
    """
    CREATE TABLE "stock_movements" (
        "id" INTEGER NOT NULL PRIMARY KEY,
        "location_id" TEXT NOT NULL,
        "sku" TEXT NOT NULL,
        "quantity_delta" INTEGER NOT NULL,
        "on_hand" INTEGER NOT NULL,
        "cause" TEXT NOT NULL,
        "reason" TEXT NOT NULL,
        "actor" TEXT NOT NULL,
        "create_time_us" INTEGER NOT NULL,
        FOREIGN KEY ("location_id") REFERENCES "locations" ("id"),
        FOREIGN KEY ("sku") REFERENCES "variants" ("sku")
    )
    """,
    'CREATE INDEX "stock_movements_sku_id" ON "stock_movements" ("sku", "id")',
    'CREATE INDEX "stock_movements_create_time_us_id" ON "stock_movements" ("create_time_us", "id")',
    'CREATE INDEX "stock_movements_location_id_id" ON "stock_movements" ("location_id", "id")',
)
NUMBERED = frozenset({"audit_entries", "product_documents", "replies", "stock_movements"})
"""Tables whose first column counts the rows: SQLite does it by itself."""
POSTGRESQL_TYPES = (
    (r"\) WITHOUT ROWID", ")"),
    (r'"(disabled|built_in)" INTEGER', r'"\1" BOOLEAN'),
    (r'(?<!"line_number" )(?<!"weight_g" )\bINTEGER\b', "BIGINT"),
    (r"\bBLOB\b", "BYTEA"),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
)
"""What the columns are on PostgreSQL. Text is compared byte by byte there too, whatever the database's collation: so
pages, filters and unique keys are the same on both engines."""
SEARCH_INDEX = (
    """
    CREATE VIRTUAL TABLE product_search USING fts5 (
        content, content = 'product_documents', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE TRIGGER product_documents_inserted AFTER INSERT ON product_documents BEGIN
        INSERT INTO product_search (rowid, content) VALUES (new.id, new.content);
    END
    """,
    """
    CREATE TRIGGER product_documents_deleted AFTER DELETE ON product_documents BEGIN
        INSERT INTO product_search (product_search, rowid, content) VALUES ('delete', old.id, old.content);
    END
    """,
    """
    CREATE TRIGGER product_documents_updated AFTER UPDATE ON product_documents BEGIN
        INSERT INTO product_search (product_search, rowid, content) VALUES ('delete', old.id, old.content);
        INSERT INTO product_search (rowid, content) VALUES (new.id, new.content);
    END
    """,
)
"""Finds products by their documents; the triggers keep it in step (sqlite.org/fts5.html, external content)."""
POSTGRESQL_SEARCH_INDEX = (
    r"""
    ALTER TABLE product_documents ADD COLUMN words tsvector GENERATED ALWAYS AS (
        to_tsvector('simple', regexp_replace(
            regexp_replace(normalize(left(content, 200000), NFD), '[\u0300-\u036f]+', '', 'g'),
            '[\u0001-/:-@\[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u2000-\u206f]+', ' ', 'g'
        ))
    ) STORED
    """,
    "CREATE INDEX product_documents_words ON product_documents USING gin (words)",
)
"""The same on PostgreSQL: words without accents, and no signs, as its parser would make URLs and paths of them."""
MAIN_LOCATION = """
    INSERT INTO locations (id, display_name, address, version, create_time_us, update_time_us)
    VALUES ('main', 'Main', 'null', 1, ?, ?)
    """


def up(_migrator: Any, database: Any) -> None:
    """Make the tables; the location `main` is there from the first moment, so that orders need not name one."""
    statements = [*TABLES, *SEARCH_INDEX]
    if database.param != "?":
        statements = [*(for_postgresql(table) for table in TABLES), *POSTGRESQL_SEARCH_INDEX]
    for statement in statements:
        database.execute_sql(statement)
    now_us = time.time_ns() // 1000
    database.execute_sql(MAIN_LOCATION.replace("?", database.param), (now_us, now_us))


def for_postgresql(statement: str) -> str:
    """What makes the same table, index or view on PostgreSQL."""
    made = re.search(r'CREATE TABLE "(\w+)"', statement)
    if made and made[1] in NUMBERED:
        statement = statement.replace(
            "INTEGER NOT NULL PRIMARY KEY", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
        )
    if made and made[1] == "access_versions":
        return statement.replace('"version" INTEGER', '"version" BIGINT')
    for pattern, replacement in POSTGRESQL_TYPES:
        statement = re.sub(pattern, replacement, statement)
    return statement
