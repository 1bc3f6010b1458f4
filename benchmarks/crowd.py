"""Very many orders, written straight into a database: copies of one real order with other ids, customers and times.

It fills the tables that lists read, not the ledger of events and audit entries, so `verify` would object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite

from benchmarks import catalogue

CUSTOMER = catalogue.customer_ids()[3]
"""A customer with orders in every crowd."""
FIRST_US = 1_700_000_000_000_000
PER_CUSTOMER_MIN = 100
CHUNK = 100_000

# A UUIDv7 whose time is that of the order, so that ids rise as they do in a real shop.
ORDER_ID = (
    "printf('%08x-%04x-7%03x-8%03x-%012x', (1700000000000 + n * 1000) >> 16, (1700000000000 + n * 1000) & 65535, "
    "n & 4095, n & 4095, n)"
)
TIME = f"{FIRST_US} + n * 1000000"
STATE = "CASE n % 10 WHEN 0 THEN 'CANCELLED' WHEN 1 THEN 'CONFIRMED' WHEN 2 THEN 'CONFIRMED' ELSE 'PLACED' END"
EXPRESSIONS: Mapping[str, Mapping[str, str]] = {
    "orders": {
        "id": ORDER_ID,
        "customer_id": "printf('customer-%03d', n % :customers)",
        "state": STATE,
        "total_minor": "1000 + n * 7919 % 100000",
        "create_time_us": TIME,
        "update_time_us": TIME,
    },
    "order_lines": {"order_id": ORDER_ID, "sku": f"printf('SKU-%04d', 1 + (n * 31 + line_number) % {catalogue.SKUS})"},
}
"""Table -> column -> what a copy has there, by its number `n`; other columns are as in the order that is copied."""


def fill(database: Path, *, orders: int) -> None:
    """Put so many orders into a database that holds at least one, which nobody has open; the others go."""
    connection = sqlite.connect(database, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -262144")
    (template,) = connection.execute("SELECT max(id) FROM orders").fetchone()
    values = {"template": template, "customers": max(1, min(catalogue.CUSTOMERS, orders // PER_CUSTOMER_MIN))}
    connection.execute("BEGIN")
    _leave_only(connection, template)
    for first in range(0, orders, CHUNK):
        for table in EXPRESSIONS:
            numbers = {"first": first, "last": min(orders, first + CHUNK) - 1}
            connection.execute(_copy_sql(connection, table), {**values, **numbers})
    _remove(connection, "= ?", template)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _leave_only(connection: sqlite.Connection, order_id: str) -> None:
    _remove(connection, "<> ?", order_id)


def _remove(connection: sqlite.Connection, match: str, order_id: str) -> None:
    for table in reversed(list(EXPRESSIONS)):
        key = "id" if table == "orders" else "order_id"
        connection.execute(f"DELETE FROM {table} WHERE {key} {match}", [order_id])


def _copy_sql(connection: sqlite.Connection, table: str) -> str:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join(EXPRESSIONS[table].get(column, column) for column in columns)
    key = "id" if table == "orders" else "order_id"
    return (
        "WITH RECURSIVE numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
        f"INSERT INTO {table} SELECT {chosen} FROM numbers CROSS JOIN {table} WHERE {table}.{key} = :template"
    )
