"""Repeated failovers: the primary database is killed at random moments, and its synchronous replica takes over."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.budgets import ROUNDS, SEED
from tests.support.failovers import OrderCallers, serve
from tests.support.replication import Replication, run_replication

FAILOVERS = max(3, ROUNDS // 10)
"""Each takes some seconds, because the old primary must be rebuilt."""
CHECK_EVERY = 10
LOAD_MAX_S = 1.0
pytestmark = pytest.mark.engine("postgresql", reason="SQLite has no replica that could take over")


@pytest.fixture
def replication(engine: str) -> Iterator[Replication]:
    with run_replication(synchronous_standby_names="*") as replication:
        yield replication


def test_failovers_lose_no_acknowledged_order_and_double_none(replication: Replication, tmp_path: Path):
    chance = random.Random(SEED)
    server = serve(replication, tmp_path)
    orderers = OrderCallers(server)
    for number in range(1, FAILOVERS + 1):
        with orderers.ordering():
            orderers.await_orders()
            time.sleep(chance.uniform(0, LOAD_MAX_S))
            replication.fail_over()
            orderers.await_orders()
        replication.rebuild()
        if number % CHECK_EVERY == 0:
            orderers.check()
    orderers.check()
    server.kill()
    print(  # noqa: T201 - what a campaign found
        f"\n{FAILOVERS} failovers: {len(orderers.acknowledged)} orders acknowledged and all present, none twice; "
        f"{orderers.tries - len(orderers.acknowledged)} retries"
    )
