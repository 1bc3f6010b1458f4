"""Repeated stops and starts of a server under load: no call of the client library fails.

Calls of other clients are answered or end with UNAVAILABLE.
"""

from __future__ import annotations

from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS
from tests.support.clusters import Load
from tests.support.plain_callers import PlainCallers

STOPS = max(10, ROUNDS // 3)
TIMEOUT_S = 300.0


def test_stops_under_load(make_server: MakeServer):
    load = Load(make_server(log_level="WARNING"), timeout_s=TIMEOUT_S)
    load.stop_repeatedly(times=STOPS)
    load.check()
    print(  # noqa: T201 - the result
        f"\n{STOPS} stops, {len(load.acknowledged)} orders acknowledged and present once, "
        f"no call failed, the slowest took {load.slowest_s:.1f} s"
    )


def test_stops_under_load_of_plain_clients(make_server: MakeServer):
    callers = PlainCallers(make_server(log_level="WARNING"))
    callers.stop_repeatedly(times=STOPS)
    callers.check()
    print(f"\n{STOPS} stops, statuses of the calls: {dict(callers.statuses)}")  # noqa: T201 - the result
