"""The database's primary is killed at any moment, again and again, and its synchronous replica takes over."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.budgets import ROUNDS, SEED
from tests.support.failovers import Orderers, serve
from tests.support.replication import Replication, running_replication

FAILOVERS = max(3, ROUNDS // 10)
"""Each takes some seconds: the old primary has to be made anew."""
CHECK_EVERY = 10
LOAD_MAX_S = 1.0
pytestmark = pytest.mark.engine("postgresql", reason="SQLite has no replica that could take over")


@pytest.fixture
def replication(engine: str) -> Iterator[Replication]:
    with running_replication(synchronous_standby_names="*") as made:
        yield made


def test_failovers_lose_no_acknowledged_order_and_double_none(replication: Replication, tmp_path: Path):
    chance = random.Random(SEED)
    server = serve(replication, tmp_path)
    orderers = Orderers(server)
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
        f"\n{FAILOVERS} failovers: {len(orderers.acknowledged)} orders acknowledged and all there, none twice; "
        f"{orderers.tries - len(orderers.acknowledged)} had to be asked for again"
    )
