"""The life of stock and orders: random sequences of calls in which the server and a Python model must agree."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.databases import Database
from tests.support.order_inputs import prepare
from tests.support.order_machine import OrderLife, play

PLAYS = {"sqlite": 120, "postgresql": 15}
STEPS = 50
DONE = {
    *("adjust", "set", "update level", "transfer", "pass time", "sweep", "discount"),
    *("reserve", "reserve uniquely", "reserve again", "update reservation", "extend", "release", "commit"),
    *("place", "place with reservation", "place with reservations"),
    *("confirm", "hold", "resume", "cancel", "cancel lines", "edit", "complete"),
    *("fulfill", "ship", "deliver", "cancel fulfillment", "update", "update fulfillment", "restock"),
}
REFUSED = {
    *("adjust: OutOfStock", "transfer: OutOfStock", "reserve: OutOfStock", "place: OutOfStock", "edit: OutOfStock"),
    *("extend: IllegalState", "commit: IllegalState", "place with reservation: IllegalState"),
    *("update reservation: IllegalState", "update reservation: OutOfStock", "place with reservations: IllegalState"),
    *("reserve uniquely: OutOfStock",),
    *(
        "confirm: IllegalState",
        "edit: IllegalState",
        "ship: IllegalState",
        "fulfill: OrderHeld",
    ),
    *("update: FieldNotChangeable", "restock: IllegalState"),
    *("cancel lines: UnitsNotOpen", "fulfill: UnitsNotOpen", "resume: OrderNotHeld"),
}
"""Calls and errors that must occur in the runs on SQLite, so that the test covers them."""


@pytest.fixture
def prepared(database: Database) -> Database:
    prepare(database)
    return database


def test_server_agrees_with_the_model_after_each_step(prepared: Database):
    played: Counter[str] = Counter()
    play(lambda: OrderLife(prepared, played), plays=PLAYS[prepared.engine], steps=STEPS, derandomize=True)
    assert played.total() > PLAYS[prepared.engine] * STEPS
    if prepared.engine == "sqlite":
        assert (DONE | REFUSED) - played.keys() == set()
