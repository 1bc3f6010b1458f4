"""Many kills of the server under load: a watcher has seen exactly the committed events, in order, each once."""

from __future__ import annotations

import random
import time

from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS, SEED
from tests.support.buyers import Buyers, kill_while_buying
from tests.support.event_watchers import LedgerWatcher

LOAD_MAX_S = 1.0
KILLS = max(5, ROUNDS // 6)
CHECK_EVERY = 10


def test_watcher_across_many_kills_sees_each_committed_event_once_in_order(make_server: MakeServer):
    chance = random.Random(SEED)
    buyers = Buyers(make_server(), seed=SEED)
    lasting, returning = LedgerWatcher(buyers.server), LedgerWatcher(buyers.server)
    with lasting:
        for number in range(1, KILLS + 1):
            with returning:
                time.sleep(chance.uniform(0, 0.2))
            kill_while_buying(buyers, after_s=chance.uniform(0, LOAD_MAX_S))
            if number % CHECK_EVERY == 0:
                lasting.check()
        lasting.check()
    with returning:
        returning.check()
    print(f"\n{KILLS} kills, {len(lasting.seen)} events seen, none missed or repeated")  # noqa: T201 - the result
