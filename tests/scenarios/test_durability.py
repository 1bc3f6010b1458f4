"""Durability: acknowledged writes survive a `kill -9` under load; others happened once or not at all.

`make prove` repeats this three hundred times and kills other commands, too.
"""

from __future__ import annotations

from tests.conftest import MakeServer
from tests.support.buyers import Buyers, kill_while_buying

ROUNDS = 8
LOAD_MAX_S = 0.3
STOPS = 3


def test_kill_under_load_loses_nothing_acknowledged_and_does_nothing_twice(make_server: MakeServer):
    buyers = Buyers(make_server())
    for _ in range(ROUNDS):
        kill_while_buying(buyers, after_s=buyers.random.uniform(0, LOAD_MAX_S))
    buyers.check()
    assert len(buyers.account.acknowledged) > ROUNDS
    assert buyers.account.broken_off > ROUNDS
    assert buyers.account.retried > 0


def test_stop_under_load_is_heard_at_once_and_loses_nothing(make_server: MakeServer):
    buyers = Buyers(make_server())
    for _ in range(STOPS):
        with buyers.buying():
            assert buyers.server.stop(timeout_s=60) == 0
        buyers.server.start()
    buyers.check()
