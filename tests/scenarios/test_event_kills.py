"""A watcher across kills of the server has seen exactly the committed events, in order, each once."""

from __future__ import annotations

import random
import time

from tests.conftest import MakeServer
from tests.support.buyers import Buyers, kill_while_buying
from tests.support.event_watchers import LedgerWatcher

ROUNDS = 5
LOAD_MAX_S = 1.0


def test_watcher_across_kills_sees_each_committed_event_once_in_order(make_server: MakeServer):
    chance = random.Random(7)
    buyers = Buyers(make_server(), seed=7)
    with LedgerWatcher(buyers.server) as watcher:
        for _ in range(ROUNDS):
            kill_while_buying(buyers, after_s=chance.uniform(0, LOAD_MAX_S))
        watcher.check()


def test_watcher_that_comes_back_after_each_kill_misses_nothing(make_server: MakeServer):
    chance = random.Random(8)
    buyers = Buyers(make_server(), seed=8)
    watcher = LedgerWatcher(buyers.server)
    for _ in range(ROUNDS):
        with watcher:
            time.sleep(chance.uniform(0, 0.2))
        kill_while_buying(buyers, after_s=chance.uniform(0, LOAD_MAX_S))
    with watcher:
        watcher.check()
