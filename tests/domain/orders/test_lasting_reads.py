"""Orders of later commits use what earlier ones have read, and get what they would get without it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from storekeep.server.domain.catalog.products import PRODUCTS
from storekeep.server.domain.customers import CUSTOMERS
from storekeep.server.domain.orders import changes, order_reads
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.stock import levels
from storekeep.server.store.engine import Store
from storekeep.server.store.lasting_reads import may_change
from storekeep.server.store.tables import customers as customer_store
from storekeep.server.store.tables import orders as order_store
from storekeep.server.store.tables import stock as stock_store
from tests.support.databases import Database
from tests.support.orders_together import (
    SKUS,
    Placing,
    make_random_call,
    open_shop,
    order,
    place_alone,
    place_together,
    read_effects,
    summarize,
)
from tests.support.placing import CALL
from tests.support.statements import record_statements

PLAYS = {"sqlite": 12, "postgresql": 2}
COMMITS, ORDERS = 5, 6
COMMIT_READS = 2
"""Each commit reads the end of the ledger and whether data keys were destroyed."""


def list_orders(count: int, sku: str = "TIN-RED") -> list[Placing]:
    """Return calls that each order a unit."""
    return [order((sku, 1)) for _ in range(count)]


def count_reads(store: Store, calls: Sequence[Placing]) -> int:
    """Place orders in one commit and return the number of queries."""
    statements = record_statements(lambda: place_together(store, calls))
    return sum(sql.lstrip().startswith(("SELECT", "WITH")) for sql in statements)


def change_stock(location_id: str, sku: str, units: int) -> Callable[[Store], Any]:
    """Return a call that adds units to a level."""
    return lambda store: levels.adjust_stock(store, CALL, (location_id, sku), quantity_delta=units)


def run_sql(database: Database, sql: str) -> Callable[[Store], Any]:
    """Return a call that changes the database by SQL, as another program does."""

    def run(_store: Store) -> None:
        with database.opened() as session:
            session.run(sql)

    return run


def delete_customer(store: Store) -> None:
    """Delete the customer of the orders."""
    CUSTOMERS.delete(store, CALL, ("ada-marsh",), etag="")


def archive_product(store: Store) -> None:
    """Archive the product of the orders."""
    (key,) = store.read(lambda tx: tx.connection.execute("SELECT product_id FROM variants WHERE sku = 'TIN-RED'"))
    PRODUCTS.archive(store, CALL, key, etag="")


CHANGES: dict[str, Callable[[Database], Callable[[Store], Any]]] = {
    "another price, by SQL": lambda database: run_sql(database, "UPDATE prices SET amount_minor = 5"),
    "another name, by SQL": lambda database: run_sql(database, "UPDATE products SET display_name = 'Tin'"),
    "a location that is no more": lambda database: run_sql(database, "UPDATE locations SET delete_time_us = 1"),
    "a draft": lambda database: run_sql(database, "UPDATE products SET state = 'DRAFT'"),
    "a customer that is deleted": lambda _database: delete_customer,
    "a product that is archived": lambda _database: archive_product,
    "less stock": lambda _database: change_stock("main", "TIN-RED", -3),
    "more stock elsewhere": lambda _database: change_stock("north", "TIN-RED", 500),
}


def play_twice(prepared: Database, folder: Path, build: Callable[[Database], list[list[Any]]]) -> None:
    """Check that commits with several calls have the outcomes and effects of the same calls in commits of their own.

    Args:
        build: returns the calls of each commit, for a database.
    """
    seen = []
    for number, place in enumerate((place_together, lambda store, calls: [place_alone(store, one) for one in calls])):
        subfolder = folder / str(number)
        subfolder.mkdir(parents=True)
        database = prepared.copy(subfolder)
        store = open_shop(database)
        outcomes = [summarize_all(place(store, calls)) for calls in build(database)]
        store.close()
        seen.append((outcomes, read_effects(database)))
        database.remove()
    assert seen[0] == seen[1]


def summarize_all(outcomes: Sequence[Any]) -> list[Any]:
    """Return the outcomes of orders and errors without ids; nothing of the other calls."""
    return [summarize(one) for one in outcomes if isinstance(one, Order | Exception)]


def test_orders_of_many_commits_with_other_changes_get_what_they_would_get_alone(prepared: Database, tmp_path: Path):
    for play in range(PLAYS[prepared.engine]):
        play_twice(prepared, tmp_path / str(play), lambda _database, seed=play: make_commits(random.Random(seed)))


def make_commits(rng: random.Random) -> list[list[Any]]:
    """Return commits of random orders, of which some are mixed with other changes."""
    commits: list[list[Any]] = [[make_random_call(rng) for _ in range(ORDERS)] for _ in range(COMMITS)]
    for calls in commits:
        for _ in range(rng.choice((0, 0, 1, 2))):
            level = rng.choice(("main", "north", "depot")), rng.choice(SKUS)
            calls.insert(rng.randrange(len(calls)), change_stock(*level, rng.randint(1, 4)))
    return commits


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_order_after_a_change_gets_what_it_would_get_alone(prepared: Database, tmp_path: Path, name: str):
    def build(database: Database) -> list[list[Any]]:
        return [list_orders(2), [CHANGES[name](database)], list_orders(2)]

    play_twice(prepared, tmp_path, build)


def test_orders_of_later_commits_read_only_what_is_new(stocked: Store, prepared: Database):
    count_reads(stocked, list_orders(2))  # reads the data key of the customer too
    again, other = count_reads(stocked, list_orders(2)), count_reads(stocked, list_orders(1, "STRAINER"))
    if prepared.engine == "sqlite":
        assert (again, other) == (COMMIT_READS, COMMIT_READS + 1)
    else:  # another session may have changed anything
        assert (again, other) == (COMMIT_READS + 3, COMMIT_READS + 1)


def test_changes_of_nothing_that_orders_read_leave_what_was_read(stocked: Store, prepared: Database):
    placed, *_ = place_together(stocked, list_orders(2))
    changes.confirm_order(stocked, CALL, placed.id)
    if prepared.engine == "sqlite":
        assert count_reads(stocked, list_orders(2)) == COMMIT_READS


def test_units_of_orders_that_were_rolled_back_are_sold_to_later_ones(stocked: Store):
    """The retry makes its batch run again, in savepoints."""
    retried = order(("TIN-RED", 1), request_id="5f0c0a6e-2a0e-4b0e-9b53-0a8d8b8f2f10")
    place_together(stocked, [retried, *list_orders(1)])
    place_together(stocked, [retried, *list_orders(2)])
    outcomes = place_together(stocked, list_orders(8))
    assert [type(outcome).__name__ for outcome in outcomes] == ["Order"] * 3 + ["OutOfStock"] * 5


def test_tables_of_lasting_reads_are_those_of_the_queries():
    statements = (order_store.OFFER, customer_store.FIND_BUYERS, stock_store.RIVAL_UNITS)
    named = {name for one in statements for name in re.findall(r"\b(?:FROM|JOIN)\s+([a-z_]+)\b(?!\()", one._source)}
    assert named == order_store.READ_BY_ORDERS


@pytest.mark.parametrize(
    ("sql", "changes_it"),
    [
        ('UPDATE "variants" SET "state" = ?', True),
        ("WITH moved AS (SELECT 1) UPDATE stock_levels SET on_hand = 1", True),
        ("DELETE FROM prices WHERE sku = ?", True),
        ("INSERT INTO customers SELECT * FROM orders", True),
        ("SELECT * FROM variants", False),
        ("UPDATE orders SET state = ?", False),
        ("INSERT INTO variants_seen VALUES (?)", False),
    ],
)
def test_statement_may_change_a_table_only_if_it_changes_something_and_names_it(sql: str, changes_it: bool):
    assert may_change(sql, order_store.READ_BY_ORDERS) is changes_it


def test_what_was_read_beyond_its_memory_is_read_anew(
    stocked: Store, prepared: Database, monkeypatch: pytest.MonkeyPatch
):
    place_together(stocked, list_orders(2))
    monkeypatch.setattr(order_reads, "LASTING_BYTES_MAX", 1)
    assert count_reads(stocked, list_orders(2)) == COMMIT_READS + 3
