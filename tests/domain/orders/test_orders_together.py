"""Orders of one commit read together, and get what they would get one after another."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from storekeep.server.domain.orders.orders import Order
from storekeep.server.store.engine import Store
from tests.support.databases import Database
from tests.support.order_inputs import LEFT
from tests.support.orders_together import (
    HOT,
    SKUS,
    make_random_call,
    open_shop,
    order,
    place_alone,
    place_together,
    read_effects,
    summarize,
)
from tests.support.outcomes import convert_error
from tests.support.statements import record_statements

PLAYS = {"sqlite": 30, "postgresql": 5}
ORDERS = 24


def test_orders_together_get_what_they_would_get_one_after_another(prepared: Database, tmp_path: Path):
    for play in range(PLAYS[prepared.engine]):
        rng = random.Random(play)
        calls = [make_random_call(rng) for _ in range(ORDERS)]
        outcomes, effects = [], []
        for number, run in enumerate((place_together, lambda store, calls: [place_alone(store, one) for one in calls])):
            folder = tmp_path / f"{play}-{number}"
            folder.mkdir()
            database = prepared.copy(folder)
            store = open_shop(database)
            outcomes.append([summarize(outcome) for outcome in run(store, calls)])
            store.close()
            effects.append(read_effects(database))
            database.remove()
        assert outcomes[0] == outcomes[1]
        assert effects[0] == effects[1]


def test_units_of_a_hot_sku_are_sold_once_and_from_the_fullest_location(stocked: Store, prepared: Database):
    results = place_together(stocked, [order((HOT, 1)) for _ in range(30)])
    placed = [result for result in results if isinstance(result, Order)]
    with prepared.opened() as session:
        available = session.rows("SELECT SUM(on_hand - allocated) FROM stock_levels WHERE sku = ?", HOT)
        sources = session.rows("SELECT location_id FROM stock_movements WHERE source LIKE 'orders/%' ORDER BY id")
    assert int(available[0][0]) == 0
    assert [convert_error(result)[0] for result in results[len(placed) :]] == ["OutOfStock"] * (30 - len(placed))
    assert {source for (source,) in sources} == {"main", "north", "depot"}
    assert sources[-1] == ("depot",)


def test_repeated_request_in_one_commit_takes_effect_once(stocked: Store):
    twice = order(("TIN-RED", 1), request_id="5f0c0a6e-2a0e-4b0e-9b53-0a8d8b8f2f10")
    first, other, second = place_together(stocked, [twice, order(("TIN-RED", 1)), twice])
    assert first == second
    assert other.id != first.id
    assert place_alone(stocked, twice) == first


def test_refused_order_leaves_the_others_as_they_are(stocked: Store):
    too_many = order(("TIN-RED", 1), ("STRAINER", 500))
    outcomes = place_together(stocked, [order(("TIN-RED", 1)), too_many, order(("TIN-RED", 1))])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Order", "OutOfStock", "Order"]


def test_orders_with_a_small_and_a_large_quantity_get_the_same_level_only_if_it_has_both(stocked: Store):
    first, second = place_together(stocked, [order((HOT, 1)), order((HOT, LEFT + 50))])
    assert isinstance(first, Order)
    assert convert_error(second)[0] == "OutOfStock"


def test_reads_of_a_commit_do_not_grow_with_its_orders(stocked: Store):
    calls = [order((sku, 1)) for sku in SKUS]
    statements = record_statements(lambda: place_together(stocked, calls))
    assert sum(sql.lstrip().startswith("SELECT") for sql in statements) == 6


@pytest.mark.parametrize("together", [1, 3])
def test_order_of_a_customer_without_contact_decrypts_nothing(stocked: Store, prepared: Database, together: int):
    """Its encrypted data is damaged, which an order that decrypts it finds out."""
    with prepared.opened() as session:
        session.run("UPDATE customers SET email = '', phone = '', encrypted = 'AAAA' WHERE id = 'ada-marsh'")
    outcomes = place_together(stocked, [order(("TIN-RED", 1)) for _ in range(together)])
    assert [type(outcome) for outcome in outcomes] == [Order] * together
