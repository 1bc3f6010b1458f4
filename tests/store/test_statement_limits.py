"""Tests of statements that end: at the caller's deadline, and at the server's own timeout, on each engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from storekeep.server.store.engine import Store
from storekeep.server.store.errors import DeadlinePassed, ReadTooExpensive
from storekeep.server.store.limits import Limits
from storekeep.server.store.opening import open_store
from storekeep.server.store.reads import ReadBounds
from storekeep.server.store.sql.transactions import Transaction
from tests.support.databases import Database

SHORT_S = 0.3
LIMITS = Limits(pool_size=2, statement_timeout_s=SHORT_S)
COUNT = (
    "WITH RECURSIVE n(v) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT v + 1 FROM n WHERE v < {}) SELECT SUM(v) FROM n"
)
ENDLESS = COUNT.format(10**15)
"""A statement that takes years."""


class Bounds(threading.local):
    """The deadline of each thread's reads."""

    deadline: float | None = None


@pytest.fixture
def bounds() -> Bounds:
    return Bounds()


@pytest.fixture
def store(database: Database, bounds: Bounds) -> Iterator[Store]:
    with closing(
        open_store(database.url, limits=LIMITS, get_read_bounds=lambda: ReadBounds(bounds.deadline))
    ) as opened:
        yield opened


def run_endless(tx: Transaction) -> None:
    tx.connection.execute(ENDLESS).fetchall()


def count(store: Store) -> int:
    return int(store.snapshot(lambda tx: tx.connection.execute(COUNT.format(10)).fetchone())[0])


@pytest.mark.parametrize("name", ["read", "snapshot"])
def test_read_that_takes_too_long_ends_at_the_timeout_and_is_not_retryable(store: Store, name: str):
    for _ in range(2):
        with pytest.raises(ReadTooExpensive, match=r"longer than 0\.3 s .* filter"):
            getattr(store, name)(run_endless)
        assert count(store) == 55


@pytest.mark.parametrize("name", ["read", "snapshot"])
def test_read_ends_at_the_deadline_of_its_call(database: Database, bounds: Bounds, name: str):
    with closing(open_store(database.url, get_read_bounds=lambda: ReadBounds(bounds.deadline))) as store:
        for _ in range(2):
            bounds.deadline = time.monotonic() + SHORT_S
            with pytest.raises(DeadlinePassed):
                getattr(store, name)(run_endless)
        bounds.deadline = None
        assert count(store) == 55


def test_read_after_the_deadline_does_not_start(store: Store, bounds: Bounds):
    bounds.deadline = time.monotonic() - 1
    with pytest.raises(DeadlinePassed):
        count(store)


def test_timeout_applies_to_each_statement_of_a_read(store: Store):
    def work(tx: Transaction) -> int:
        total = 0
        for _ in range(3):
            total += int(tx.connection.execute(COUNT.format(10)).fetchone()[0])
            time.sleep(SHORT_S / 2)
        return total

    assert store.snapshot(work) == 165


def test_statement_of_which_rows_are_read_late_ends_at_the_timeout(store: Store):
    """SQLite computes rows when they are read."""

    def work(tx: Transaction) -> None:
        rows = tx.connection.execute(f"SELECT 1 UNION ALL SELECT * FROM ({ENDLESS}) AS endless")
        assert rows.fetchone() is not None
        rows.fetchall()

    with pytest.raises(ReadTooExpensive):
        store.snapshot(work)
    assert count(store) == 55


@pytest.mark.engine("sqlite", reason="SQLite would roll back the whole batch; on PostgreSQL the statement ends")
def test_write_is_not_ended_by_the_timeout_of_reads(database: Database):
    limits = Limits(statement_timeout_s=0.001)

    def work(tx: Transaction) -> int:
        tx.connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY)")
        return int(tx.connection.execute(COUNT.format(1_000_000)).fetchone()[0])

    with closing(open_store(database.url, limits=limits)) as store:
        assert store.write(work, deadline=time.monotonic() + 60) == 500_000_500_000
        assert store.read(lambda tx: tx.connection.execute("SELECT COUNT(*) FROM notes").fetchone()) == (0,)
        with pytest.raises(ReadTooExpensive):
            store.read(lambda tx: tx.connection.execute(COUNT.format(1_000_000)).fetchone())
