"""Very many orders, written straight into a database: copies of one real order with other ids, customers and times.

It fills the tables that lists read, and on demand the ledger that every order adds to: its entry and its stored reply.
The chain of hashes is not kept, so `verify` would object; nothing that is measured reads more of it than its end.
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

CUSTOMER = catalogue.customer_ids()[3]
"""A customer with orders in every crowd."""
FIRST_MS = 1_700_000_000_000
STEP_MS = 1_000
PER_CUSTOMER_MIN = 100
CHUNK = 100_000
SCATTER = 2_654_435_761
"""Numbers times this, in 32 bits, are scattered evenly and never the same (Knuth's multiplicative hash)."""
KEYS = {
    "orders": "id",
    "order_lines": "order_id",
    "stock_movements": "source",
    "audit_entries": "sequence",
    "replies": "id",
}
"""By what an order's rows are found, the rows that others refer to first."""
LISTED = ("orders", "order_lines")


@dataclass(frozen=True)
class Dialect:
    """How an engine says what a crowd needs.

    Attributes:
        hexed: a number in so many hexadecimal digits.
        padded: a number in so many decimal digits.
        replaced: in bytes, one text for another.
        numbers: a table `numbers (n)`.
        columns: asks for the names of a table's columns.
    """

    hexed: str
    padded: str
    replaced: str
    numbers: str
    columns: str


SQLITE = Dialect(
    hexed="printf('%0{width}x', {number})",
    padded="printf('%0{width}d', {number})",
    replaced="CAST(replace(CAST({bytes} AS TEXT), {old}, {new}) AS BLOB)",
    numbers=(
        "(WITH RECURSIVE counted (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM counted WHERE n < {last}) "
        "SELECT n FROM counted) AS numbers"
    ),
    columns="SELECT name FROM pragma_table_info('{table}') ORDER BY cid",
)
POSTGRESQL = Dialect(
    hexed="lpad(to_hex({number}), {width}, '0')",
    padded="lpad(CAST({number} AS TEXT), {width}, '0')",
    replaced="convert_to(replace(convert_from({bytes}, 'UTF8'), {old}, {new}), 'UTF8')",
    numbers="generate_series(CAST({first} AS BIGINT), {last}) AS numbers (n)",
    columns="SELECT attname FROM pg_attribute WHERE attrelid = CAST('{table}' AS regclass) AND attnum > 0",
)


class Cursor(Protocol):
    """As much of a connection as is needed."""

    def execute(self, sql: str) -> Any:
        """Run a statement."""


@dataclass(frozen=True)
class Template:
    """The order that is copied.

    Attributes:
        order_id: its id.
        sequence: of its entry in the ledger.
        reply: the key of its reply.
        last: the greatest number of any entry or reply.
    """

    order_id: str
    sequence: int
    reply: int
    last: int

    def key(self, table: str) -> str:
        """Its value of `KEYS`, in SQL."""
        keys = {
            "audit_entries": str(self.sequence),
            "replies": str(self.reply),
            # That it is not empty lets SQLite use its index, which has only such rows.
            "stock_movements": f"'orders/{self.order_id}' AND source <> ''",
        }
        return keys.get(table, f"'{self.order_id}'")


def order_id(number: int) -> str:
    """The id of the order with a number in the crowd: a UUIDv7 of its time, so that ids rise as in a real shop."""
    ms = FIRST_MS + number * STEP_MS
    return f"{ms >> 16:08x}-{ms & 65535:04x}-7{number & 4095:03x}-8{number & 4095:03x}-{number:012x}"


def _order_id(sql: Dialect) -> str:
    ms = f"({FIRST_MS} + n * {STEP_MS})"
    parts = [(f"{ms} >> 16", 8), (f"{ms} & 65535", 4), ("n & 4095", 3), ("n & 4095", 3), ("n", 12)]
    return " || ".join(
        f"'{before}' || {sql.hexed.format(number=number, width=width)}"
        for before, (number, width) in zip(("", "-", "-7", "-8", "-"), parts, strict=True)
    )


def _request_id(sql: Dialect) -> str:
    """As scattered as a client's random ones."""
    scattered = sql.hexed.format(number=f"(n * {SCATTER}) & 4294967295", width=8)
    return f"{scattered} || '-0000-4000-8000-' || {sql.hexed.format(number='n', width=12)}"


def _expressions(sql: Dialect, template: Template, customers: int) -> Mapping[str, Mapping[str, str]]:
    """Table -> column -> what a copy has there, by its number `n`; other columns are as in what is copied."""
    new_id = _order_id(sql)
    time_us = f"({FIRST_MS} + n * {STEP_MS}) * 1000"
    sequence = f"{template.last + 1} + n"
    sku = sql.padded.format(number=f"1 + (n * 31 + line_number) % {catalogue.SKUS}", width=4)
    return {
        "orders": {
            "id": new_id,
            "customer_id": f"'customer-' || {sql.padded.format(number=f'n % {customers}', width=3)}",
            "state": "CASE n % 10 WHEN 0 THEN 'CANCELLED' WHEN 1 THEN 'CONFIRMED' WHEN 2 THEN 'CONFIRMED' "
            "ELSE 'PLACED' END",
            "total_minor": "1000 + n * 7919 % 100000",
            "number": f"'COPY-' || {sql.padded.format(number='n', width=8)}",
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
            "request_id": _request_id(sql),
            "after": sql.replaced.format(bytes="after", old=f"'{template.order_id}'", new=new_id),
        },
        "replies": {
            "id": sequence,
            "request_id": _request_id(sql),
            "entry": sequence,
            # Of today, as older ones would be removed while the server is measured.
            "create_time_us": str(time.time_ns() // 1000),
        },
    }


def fill(database: Database, *, orders: int, ledger: bool = False) -> None:
    """Put so many orders into a database that holds at least one, which nobody has open; the others go.

    Args:
        ledger: whether to write their entries and replies too.
    """
    with _filling(database) as (connection, sql):
        template = _find_template(connection)
        customers = max(1, min(catalogue.CUSTOMERS, orders // PER_CUSTOMER_MIN))
        expressions = _expressions(sql, template, customers)
        _remove(connection, "<>", template)
        for first in range(0, orders, CHUNK):
            numbers = sql.numbers.format(first=first, last=min(orders, first + CHUNK) - 1)
            for table in KEYS if ledger else LISTED:
                columns = _columns(connection, sql, table)
                chosen = ", ".join(expressions[table].get(column, f'"{column}"') for column in columns)
                listed = ", ".join(f'"{column}"' for column in columns)
                connection.execute(
                    f"INSERT INTO {table} ({listed}) SELECT {chosen} FROM {numbers} CROSS JOIN {table} "
                    f"WHERE {table}.{KEYS[table]} = {template.key(table)}"
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
        connection.execute(f"DELETE FROM {table} WHERE {KEYS[table]} {match} {template.key(table)}")


def _columns(connection: Cursor, sql: Dialect, table: str) -> Sequence[str]:
    columns = [column for (column,) in connection.execute(sql.columns.format(table=table)).fetchall()]
    return [column for column in columns if (table, column) != ("stock_movements", "id")]  # the database counts them


@contextlib.contextmanager
def _filling(database: Database) -> Iterator[tuple[Cursor, Dialect]]:
    """A transaction that does not wait for the disk; what comes after it leaves the database at rest."""
    if isinstance(database, SqliteFile):
        with _filling_sqlite(database) as connection:
            yield connection, SQLITE
    elif isinstance(database, PostgresDatabase):
        with _filling_postgresql(database) as connection:
            yield connection, POSTGRESQL
    else:
        raise TypeError(f"nobody knows how to fill {database}")


@contextlib.contextmanager
def _filling_sqlite(database: SqliteFile) -> Iterator[Cursor]:
    connection = apsw.Connection(str(database.path))
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -262144")
    connection.execute("BEGIN")
    yield connection
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@contextlib.contextmanager
def _filling_postgresql(database: PostgresDatabase) -> Iterator[Cursor]:
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # what is copied refers to what is there
        with connection.transaction():
            yield connection
        connection.execute("SELECT setval(pg_get_serial_sequence('replies', 'id'), (SELECT max(id) FROM replies))")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
