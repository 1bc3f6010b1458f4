"""The floor of PlaceOrder: a bare loop that writes the rows of one order and commits, over and over.

It reads, checks and answers nothing. The rows are those of real orders with new ids and times, built outside the
measured time. Statements are prepared once, and several rows of a table are one `executemany`. Schema, indexes,
constraints and pragmas (WAL, `synchronous=FULL`, foreign keys) are the server's. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import uuid_utils
from pysqlite3 import dbapi2 as sqlite3

from benchmarks.floors.order_rows import ORDERS, UUID, OrderWrites, Row, Table, read_orders, read_tables

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -8192",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA temp_store = MEMORY",
)
STATEMENTS_MAX = 512
PREPARED = 200
"""Orders that are built, then written and measured, at a time."""
TIME_SUFFIX = "_us"
NUMBER_COLUMN = "number"
"""The order number, which is unique and rising."""
FIRST_NUMBER = 10_000_000

DRIVERS: dict[str, Callable[[Path], Any]] = {
    "sqlite3": lambda path: sqlite3.connect(path, isolation_level=None, cached_statements=STATEMENTS_MAX),
    "apsw": lambda path: apsw.Connection(str(path), statementcachesize=STATEMENTS_MAX),
}
"""Python's `sqlite3` module with a SQLite as new as the server's, and the server's own driver."""

Job = list[tuple[str, list[Sequence[Any]]]]
"""The statements of one order, each with the values of its rows."""


class Jobs:
    """Builds new orders from recorded ones.

    Args:
        tables: tables of the database.
        recorded: rows that real orders wrote.
        existing: number of orders in the database.
    """

    def __init__(self, tables: dict[str, Table], recorded: Sequence[OrderWrites], *, existing: int = 0) -> None:
        self._numbers = itertools.count(FIRST_NUMBER + existing)
        self._tables = tables
        self._recorded = recorded
        self._own = [_find_own_uuids(written, recorded) for written in recorded]
        self._next = 0

    def make(self) -> Job:
        """Return the next order's statements, the row of the order first because others refer to it."""
        written, own = self._recorded[self._next], self._own[self._next]
        self._next = (self._next + 1) % len(self._recorded)
        fresh = {old: _make_uuid_like(old) for old in own}
        now_us = time.time_ns() // 1000
        names = sorted(written.added, key=lambda name: name != ORDERS)
        number = f"SK-{next(self._numbers)}"
        job: Job = [
            (self._build_insert(name), self._build_rows(name, written.added[name], fresh, now_us, number))
            for name in names
        ]
        for name, changes in written.changed.items():
            job += self._build_updates(name, changes)
        return job

    def _build_insert(self, name: str) -> str:
        indexes = ", ".join("?" * len(self._tables[name].columns))
        return f"INSERT INTO {name} VALUES ({indexes})"

    def _build_rows(
        self, name: str, rows: Sequence[Row], fresh: dict[bytes, bytes], now_us: int, number: str
    ) -> list[Sequence[Any]]:
        table = self._tables[name]
        return [[_renew(table, index, row[index], fresh, now_us, number) for index in range(len(row))] for row in rows]

    def _build_updates(self, name: str, changes: Sequence[tuple[Row, Row]]) -> Job:
        """Return the updates, which add 1 to every changed number."""
        table = self._tables[name]
        indexes = [index for index in range(len(table.columns)) if changes[0][0][index] != changes[0][1][index]]
        changed = ", ".join(f"{table.columns[index]} = {table.columns[index]} + 1" for index in indexes)
        match = " AND ".join(f"{table.columns[index]} = ?" for index in table.key)
        return [(f"UPDATE {name} SET {changed} WHERE {match}", [table.get_key(new) for _, new in changes])]


def _find_own_uuids(written: OrderWrites, recorded: Sequence[OrderWrites]) -> frozenset[bytes]:
    """Return the UUIDs that occur only in this order's rows: its id and its `request_id`."""
    others = recorded[0] if recorded[0] is not written else recorded[-1]
    return frozenset(_list_uuids(written) - _list_uuids(others))


def _list_uuids(written: OrderWrites) -> set[bytes]:
    values = [value for rows in written.added.values() for row in rows for value in row]
    texts = [value.encode() if isinstance(value, str) else value for value in values]
    return {match for text in texts if isinstance(text, bytes) for match in UUID.findall(text)}


def _make_uuid_like(old: bytes) -> bytes:
    """Return a new UUID of the same version, because the version determines its place in an index."""
    if uuid.UUID(old.decode()).version == 7:
        return str(uuid_utils.uuid7()).encode()
    return str(uuid.uuid4()).encode()


def _renew(table: Table, index: int, value: Any, fresh: dict[bytes, bytes], now_us: int, number: str) -> Any:
    if table.is_rowid and index in table.key:
        return None
    if isinstance(value, int) and table.columns[index].endswith(TIME_SUFFIX):
        return now_us
    if table.columns[index] == NUMBER_COLUMN:
        return number
    if isinstance(value, str):
        return UUID.sub(lambda match: fresh.get(match[0], match[0]), value.encode()).decode()
    if isinstance(value, bytes):
        return UUID.sub(lambda match: fresh.get(match[0], match[0]), value)
    return value


def write(connection: Any, jobs: Sequence[Job]) -> tuple[float, float]:
    """Write and commit each order.

    Returns: total seconds, and the part of them spent in commits.
    """
    began, commit_s = time.perf_counter(), 0.0
    for job in jobs:
        connection.execute("BEGIN IMMEDIATE")
        for statement, rows in job:
            if len(rows) == 1:
                connection.execute(statement, rows[0])
            else:
                connection.executemany(statement, rows)
        written = time.perf_counter()
        connection.execute("COMMIT")
        commit_s += time.perf_counter() - written
    return time.perf_counter() - began, commit_s


def make_chunks(jobs: Jobs) -> Iterator[list[Job]]:
    """Yield orders indefinitely, `PREPARED` at a time."""
    while True:
        yield [jobs.make() for _ in range(PREPARED)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the database before some orders")
    parser.add_argument("--after", type=Path, required=True, help="the database after those orders")
    parser.add_argument("--database", type=Path, required=True, help="a copy of the database after, to write to")
    parser.add_argument("--driver", choices=DRIVERS, required=True, help="SQLite driver")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    recorded = read_orders(options.before, options.after)
    connection = DRIVERS[options.driver](options.database)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    existing = connection.execute(f"SELECT COUNT(*) FROM {ORDERS}").fetchone()[0]
    jobs = Jobs(read_tables(connection), recorded, existing=existing)
    answered, seconds, cpu_s, commit_s = 0, 0.0, 0.0, 0.0
    for chunk in make_chunks(jobs):
        cpu_before = time.process_time()
        chunk_s, chunk_commit_s = write(connection, chunk)
        seconds += chunk_s
        commit_s += chunk_commit_s
        cpu_s += time.process_time() - cpu_before
        answered += len(chunk)
        if seconds >= options.seconds:
            break
    connection.close()
    rows = dict(recorded[0].count_rows())
    print(json.dumps({"answered": answered, "seconds": seconds, "cpu_s": cpu_s, "commit_s": commit_s, "rows": rows}))


if __name__ == "__main__":
    main()
