"""Seed data: a large number of orders, copied from one real order directly in the database.

Copies get new ids, customers and times. They fill the tables that lists read and, if requested, the audit log and the
stored replies. The hash chain is not valid, so `verify` would fail; the measured calls read only its last entry.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import apsw

from benchmarks import catalogue
from benchmarks.databases import Database, PostgresDatabase, SqliteFile

CUSTOMER = catalogue.list_customer_ids()[3]
"""A customer with orders in every seeded database."""
FIRST_MS = 1_700_000_000_000
STEP_MS = 1_000
PER_CUSTOMER_MIN = 100
CHUNK = 100_000
SCATTER = 2_654_435_761
"""Knuth's multiplicative hash: products with this factor, modulo 2^32, are distinct and evenly scattered."""
KEYS = {
    "orders": "id",
    "order_lines": "order_id",
    "stock_movements": "source",
    "audit_entries": "sequence",
    "replies": "id",
}
"""The column that identifies an order's rows in each table. Referenced tables come first."""
LISTED = ("orders", "order_lines")


@dataclass(frozen=True)
class Dialect:
    """The SQL expressions of one database engine.

    Attributes:
        hex: formats a number with `width` hexadecimal digits.
        pad: formats a number with `width` decimal digits.
        replace: replaces one text with another in bytes.
        numbers: a table `numbers (n)` with the numbers from `first` to `last`.
        columns: selects the names of a table's columns.
    """

    hex: str
    pad: str
    replace: str
    numbers: str
    columns: str


SQLITE = Dialect(
    hex="printf('%0{width}x', {number})",
    pad="printf('%0{width}d', {number})",
    replace="CAST(replace(CAST({bytes} AS TEXT), {old}, {new}) AS BLOB)",
    numbers=(
        "(WITH RECURSIVE counted (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM counted WHERE n < {last}) "
        "SELECT n FROM counted) AS numbers"
    ),
    columns="SELECT name FROM pragma_table_info('{table}') ORDER BY cid",
)
POSTGRESQL = Dialect(
    hex="lpad(to_hex({number}), {width}, '0')",
    pad="lpad(CAST({number} AS TEXT), {width}, '0')",
    replace="convert_to(replace(convert_from({bytes}, 'UTF8'), {old}, {new}), 'UTF8')",
    numbers="generate_series(CAST({first} AS BIGINT), {last}) AS numbers (n)",
    columns="SELECT attname FROM pg_attribute WHERE attrelid = CAST('{table}' AS regclass) AND attnum > 0",
)


class Cursor(Protocol):
    """The part of a database connection that seeding needs."""

    def execute(self, sql: str) -> Any:
        """Run a statement."""


@dataclass(frozen=True)
class Template:
    """The order that is copied.

    Attributes:
        order_id: id of the order.
        sequence: sequence of its audit entry.
        reply: key of its stored reply.
        last: greatest sequence of any entry and key of any reply.
    """

    order_id: str
    sequence: int
    reply: int
    last: int

    def get_key(self, table: str) -> str:
        """Return the order's value of the column in `KEYS`, as SQL."""
        keys = {
            "audit_entries": str(self.sequence),
            "replies": str(self.reply),
            # The condition lets SQLite use its partial index of rows with a source.
            "stock_movements": f"'orders/{self.order_id}' AND source <> ''",
        }
        return keys.get(table, f"'{self.order_id}'")


def format_order_id(number: int) -> str:
    """Return the id of the n-th seeded order: a UUIDv7 of its time, so that ids rise as in a real shop."""
    ms = FIRST_MS + number * STEP_MS
    return f"{ms >> 16:08x}-{ms & 65535:04x}-7{number & 4095:03x}-8{number & 4095:03x}-{number:012x}"


def _format_order_id_sql(sql: Dialect) -> str:
    ms = f"({FIRST_MS} + n * {STEP_MS})"
    parts = [(f"{ms} >> 16", 8), (f"{ms} & 65535", 4), ("n & 4095", 3), ("n & 4095", 3), ("n", 12)]
    return " || ".join(
        f"'{before}' || {sql.hex.format(number=number, width=width)}"
        for before, (number, width) in zip(("", "-", "-7", "-8", "-"), parts, strict=True)
    )


def _format_request_id_sql(sql: Dialect) -> str:
    """Return SQL for a request id, scattered like the random ids of clients."""
    scattered = sql.hex.format(number=f"(n * {SCATTER}) & 4294967295", width=8)
    return f"{scattered} || '-0000-4000-8000-' || {sql.hex.format(number='n', width=12)}"


def _build_expressions(sql: Dialect, template: Template, customers: int) -> Mapping[str, Mapping[str, str]]:
    """Return the SQL of each column that differs in the n-th copy, by table and column."""
    new_id = _format_order_id_sql(sql)
    time_us = f"({FIRST_MS} + n * {STEP_MS}) * 1000"
    sequence = f"{template.last + 1} + n"
    sku = sql.pad.format(number=f"1 + (n * 31 + line_number) % {catalogue.SKUS}", width=4)
    return {
        "orders": {
            "id": new_id,
            "customer_id": f"'customer-' || {sql.pad.format(number=f'n % {customers}', width=3)}",
            "state": "CASE n % 10 WHEN 0 THEN 'CANCELLED' WHEN 1 THEN 'CONFIRMED' WHEN 2 THEN 'CONFIRMED' "
            "ELSE 'PLACED' END",
            "total_minor": "1000 + n * 7919 % 100000",
            "number": f"'COPY-' || {sql.pad.format(number='n', width=8)}",
            "create_time_us": time_us,
            "update_time_us": time_us,
        },
        "order_lines": {"order_id": new_id, "sku": f"'SKU-' || {sku}"},
        "stock_movements": {
            "sku": f"'SKU-' || {sku}",
            "source": f"'orders/' || {new_id}",
            "create_time_us": time_us,
        },
        "audit_entries": {
            "sequence": sequence,
            "create_time_us": time_us,
            "resource": f"'orders/' || {new_id}",
            "request_id": _format_request_id_sql(sql),
            "after": sql.replace.format(bytes="after", old=f"'{template.order_id}'", new=new_id),
        },
        "replies": {
            "id": sequence,
            "request_id": _format_request_id_sql(sql),
            "entry": sequence,
            # Older replies would be deleted during the measurement.
            "create_time_us": str(time.time_ns() // 1000),
        },
    }


def fill(database: Database, *, orders: int, ledger: bool = False) -> None:
    """Replace the orders of a database with copies of the latest one. No other process may use the database.

    Args:
        orders: number of copies.
        ledger: whether to write their audit entries and stored replies too.
    """
    with _open_for_fill(database) as (connection, sql):
        template = _find_template(connection)
        customers = max(1, min(catalogue.CUSTOMERS, orders // PER_CUSTOMER_MIN))
        expressions = _build_expressions(sql, template, customers)
        _remove(connection, "<>", template)
        for first in range(0, orders, CHUNK):
            numbers = sql.numbers.format(first=first, last=min(orders, first + CHUNK) - 1)
            for table in KEYS if ledger else LISTED:
                columns = _list_columns(connection, sql, table)
                chosen = ", ".join(expressions[table].get(column, f'"{column}"') for column in columns)
                listed = ", ".join(f'"{column}"' for column in columns)
                connection.execute(
                    f"INSERT INTO {table} ({listed}) SELECT {chosen} FROM {numbers} CROSS JOIN {table} "
                    f"WHERE {table}.{KEYS[table]} = {template.get_key(table)}"
                )
        _remove(connection, "=", template)


def _find_template(connection: Cursor) -> Template:
    (order_id,) = connection.execute("SELECT max(id) FROM orders").fetchone()
    find_entry = f"SELECT max(sequence) FROM audit_entries WHERE resource = 'orders/{order_id}'"
    (sequence,) = connection.execute(find_entry).fetchone()
    (reply,) = connection.execute(f"SELECT id FROM replies WHERE entry = {sequence}").fetchone()
    (last,) = connection.execute("SELECT max(sequence) FROM audit_entries").fetchone()
    (last_reply,) = connection.execute("SELECT max(id) FROM replies").fetchone()
    return Template(order_id, sequence, reply, max(last, last_reply))


def _remove(connection: Cursor, match: str, template: Template) -> None:
    for table in reversed(LISTED):
        connection.execute(f"DELETE FROM {table} WHERE {KEYS[table]} {match} {template.get_key(table)}")


def _list_columns(connection: Cursor, sql: Dialect, table: str) -> Sequence[str]:
    columns = [column for (column,) in connection.execute(sql.columns.format(table=table)).fetchall()]
    return [column for column in columns if (table, column) != ("stock_movements", "id")]  # assigned by the database


@contextlib.contextmanager
def _open_for_fill(database: Database) -> Iterator[tuple[Cursor, Dialect]]:
    """Open a transaction that does not wait for the disk, and checkpoint the database after its commit."""
    if isinstance(database, SqliteFile):
        with _open_sqlite(database) as connection:
            yield connection, SQLITE
    elif isinstance(database, PostgresDatabase):
        with _open_postgresql(database) as connection:
            yield connection, POSTGRESQL
    else:
        raise TypeError(f"unknown kind of database: {database}")


@contextlib.contextmanager
def _open_sqlite(database: SqliteFile) -> Iterator[Cursor]:
    connection = apsw.Connection(str(database.path))
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -262144")
    connection.execute("BEGIN")
    yield connection
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@contextlib.contextmanager
def _open_postgresql(database: PostgresDatabase) -> Iterator[Cursor]:
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # skips foreign keys, which the copies satisfy
        with connection.transaction():
            yield connection
        connection.execute("SELECT setval(pg_get_serial_sequence('replies', 'id'), (SELECT max(id) FROM replies))")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
