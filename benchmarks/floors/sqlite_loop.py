"""The floor of PlaceOrder: a bare loop that writes the rows of one order, commits, and writes the next.

It reads nothing, checks nothing and answers nobody. The rows are those of real orders with new ids and times, prepared
outside of the measured time; the statements are prepared once, several rows of a table are one `executemany`. Same
schema, indexes and constraints, same pragmas as the server: WAL, `synchronous=FULL`, foreign keys on.
Prints one line of JSON.
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

from benchmarks.floors.order_rows import ORDERS, UUID, Row, Table, Written, read_orders, read_tables

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
"""Orders that are prepared, then written and measured, at a time."""
TIME_SUFFIX = "_us"
NUMBER_COLUMN = "number"
"""What people call an order by: unique, and rising."""
FIRST_NUMBER = 10_000_000

DRIVERS: dict[str, Callable[[Path], Any]] = {
    "sqlite3": lambda path: sqlite3.connect(path, isolation_level=None, cached_statements=STATEMENTS_MAX),
    "apsw": lambda path: apsw.Connection(str(path), statementcachesize=STATEMENTS_MAX),
}
"""The module of Python's library, with a SQLite as new as the server's; and the server's own driver."""

Job = list[tuple[str, list[Sequence[Any]]]]
"""The statements of one order, each with the values of all its rows."""


class Jobs:
    """Makes new orders out of recorded ones.

    Args:
        tables: of the database.
        recorded: what real orders wrote.
        there: how many orders the database has already.
    """

    def __init__(self, tables: dict[str, Table], recorded: Sequence[Written], *, there: int = 0) -> None:
        self._numbers = itertools.count(FIRST_NUMBER + there)
        self._tables = tables
        self._recorded = recorded
        self._own = [_own_uuids(written, recorded) for written in recorded]
        self._next = 0

    def make(self) -> Job:
        """The next order's statements: its row first, as the others refer to it."""
        written, own = self._recorded[self._next], self._own[self._next]
        self._next = (self._next + 1) % len(self._recorded)
        fresh = {old: _like(old) for old in own}
        now_us = time.time_ns() // 1000
        names = sorted(written.added, key=lambda name: name != ORDERS)
        number = f"SK-{next(self._numbers)}"
        job: Job = [
            (self._insert(name), self._rows(name, written.added[name], fresh, now_us, number)) for name in names
        ]
        for name, changes in written.changed.items():
            job += self._updates(name, changes)
        return job

    def _insert(self, name: str) -> str:
        places = ", ".join("?" * len(self._tables[name].columns))
        return f"INSERT INTO {name} VALUES ({places})"

    def _rows(
        self, name: str, rows: Sequence[Row], fresh: dict[bytes, bytes], now_us: int, number: str
    ) -> list[Sequence[Any]]:
        table = self._tables[name]
        return [
            [_renewed(table, place, row[place], fresh, now_us, number) for place in range(len(row))] for row in rows
        ]

    def _updates(self, name: str, changes: Sequence[tuple[Row, Row]]) -> Job:
        """As many units are taken as were; other numbers go up by one."""
        table = self._tables[name]
        places = [place for place in range(len(table.columns)) if changes[0][0][place] != changes[0][1][place]]
        changed = ", ".join(f"{table.columns[place]} = {table.columns[place]} + 1" for place in places)
        match = " AND ".join(f"{table.columns[place]} = ?" for place in table.key)
        return [(f"UPDATE {name} SET {changed} WHERE {match}", [table.key_of(new) for _, new in changes])]


def _own_uuids(written: Written, recorded: Sequence[Written]) -> frozenset[bytes]:
    """The UUIDs that stand in this order's rows alone: its id and its `request_id`."""
    others = recorded[0] if recorded[0] is not written else recorded[-1]
    return frozenset(_uuids(written) - _uuids(others))


def _uuids(written: Written) -> set[bytes]:
    values = [value for rows in written.added.values() for row in rows for value in row]
    texts = [value.encode() if isinstance(value, str) else value for value in values]
    return {found for text in texts if isinstance(text, bytes) for found in UUID.findall(text)}


def _like(old: bytes) -> bytes:
    """A new UUID of the same version, as that decides where it goes in an index."""
    if uuid.UUID(old.decode()).version == 7:
        return str(uuid_utils.uuid7()).encode()
    return str(uuid.uuid4()).encode()


def _renewed(table: Table, place: int, value: Any, fresh: dict[bytes, bytes], now_us: int, number: str) -> Any:
    if table.counts_itself and place in table.key:
        return None
    if isinstance(value, int) and table.columns[place].endswith(TIME_SUFFIX):
        return now_us
    if table.columns[place] == NUMBER_COLUMN:
        return number
    if isinstance(value, str):
        return UUID.sub(lambda found: fresh.get(found[0], found[0]), value.encode()).decode()
    if isinstance(value, bytes):
        return UUID.sub(lambda found: fresh.get(found[0], found[0]), value)
    return value


def write(connection: Any, jobs: Sequence[Job]) -> tuple[float, float]:
    """Write each order and commit it.

    Returns: seconds in all, and of these the seconds that the commits took.
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


def chunks(jobs: Jobs) -> Iterator[list[Job]]:
    """Orders without end, some at a time."""
    while True:
        yield [jobs.make() for _ in range(PREPARED)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the database before some orders")
    parser.add_argument("--after", type=Path, required=True, help="the database after them")
    parser.add_argument("--database", type=Path, required=True, help="a copy of the one after, to write to")
    parser.add_argument("--driver", choices=DRIVERS, required=True, help="of SQLite")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    recorded = read_orders(options.before, options.after)
    connection = DRIVERS[options.driver](options.database)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    there = connection.execute(f"SELECT COUNT(*) FROM {ORDERS}").fetchone()[0]
    jobs = Jobs(read_tables(connection), recorded, there=there)
    answered, seconds, cpu_s, commit_s = 0, 0.0, 0.0, 0.0
    for chunk in chunks(jobs):
        cpu_before = time.process_time()
        chunk_s, chunk_commit_s = write(connection, chunk)
        seconds += chunk_s
        commit_s += chunk_commit_s
        cpu_s += time.process_time() - cpu_before
        answered += len(chunk)
        if seconds >= options.seconds:
            break
    connection.close()
    rows = dict(recorded[0].shape())
    print(json.dumps({"answered": answered, "seconds": seconds, "cpu_s": cpu_s, "commit_s": commit_s, "rows": rows}))


if __name__ == "__main__":
    main()
