"""Repeated replacement of all workers under load: no call of the client library fails."""

from __future__ import annotations

from storekeep.client import DEFAULT_TIMEOUT_S
from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS
from tests.support.clusters import Cluster, Load

ROLLS = max(10, ROUNDS // 3)


def test_rolls_under_load(make_server: MakeServer):
    cluster = Cluster(make_server("--workers", "2", metrics_listen="127.0.0.1:0", log_level="WARNING"))
    load = Load(cluster.server, timeout_s=DEFAULT_TIMEOUT_S)
    with load.running():
        for _ in range(ROLLS):
            cluster.roll()
    load.check()
    print(  # noqa: T201 - the result
        f"\n{ROLLS} rolls, {len(load.acknowledged)} orders acknowledged and present once, "
        f"no call failed, the slowest took {load.slowest_s:.1f} s"
    )


def test_kills_of_workers_under_load(make_server: MakeServer):
    cluster = Cluster(make_server("--workers", "2", metrics_listen="127.0.0.1:0", log_level="WARNING"))
    load = Load(cluster.server, timeout_s=DEFAULT_TIMEOUT_S)
    kills = ROLLS // 5
    with load.running():
        for number in range(kills):
            killed = cluster.kill_worker(number % 2)
            cluster.await_workers(other_than={killed})
    load.check()
    print(  # noqa: T201 - the result
        f"\n{kills} workers killed, {len(load.acknowledged)} orders acknowledged and present once, "
        f"no call failed, the slowest took {load.slowest_s:.1f} s"
    )
