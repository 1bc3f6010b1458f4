"""Long runs of stock and orders: new random plays against the model, and 200 concurrent clients."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from hypothesis import seed

from tests.conftest import MakeServer
from tests.support.budgets import SECONDS, SEED
from tests.support.buyers import open_shop, verify
from tests.support.concurrent_clients import check_levels, open_shops, run_clients
from tests.support.databases import Database
from tests.support.order_inputs import prepare
from tests.support.order_machine import OrderLife, play

PLAYS = 50
"""Plays with one seed."""
CLIENTS = 200
SKUS = 100
STOCK = 400
RESERVATIONS = 50_000


@pytest.fixture
def prepared(database: Database) -> Database:
    prepare(database)
    return database


def test_server_agrees_with_the_model_in_random_plays(prepared: Database):
    played: Counter[str] = Counter()
    chance = random.Random(SEED)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        number = chance.getrandbits(32)
        print(f"seed {number}", flush=True)  # noqa: T201 - reproduces the plays
        play(seed(number)(lambda: OrderLife(prepared, played)), plays=PLAYS, steps=80)
    print(f"\n{played.total()} steps: {dict(played.most_common())}")  # noqa: T201 - the result


def test_two_hundred_concurrent_clients_lose_no_unit(make_server: MakeServer):
    server = make_server(log_level="WARNING", access_token_lifetime_s="86400")
    with open_shop(server) as shop, open_shops(server) as shops:
        stock = {shop.variant(stock=STOCK).sku: STOCK for _ in range(SKUS)}
        began = time.monotonic()
        account = run_clients(
            shops, list(stock), customer=shop.customer().name, clients=CLIENTS, reservations=RESERVATIONS
        )
        check_levels(shop, account, stock=stock)
    assert (account.asked, account.refused.keys()) == (RESERVATIONS, {"OUT_OF_STOCK"})
    verify(server)
    print(f"\n{account.asked} reservations, {account.refused.total()} refused, in {time.monotonic() - began:.0f} s")  # noqa: T201
