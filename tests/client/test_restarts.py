"""The calls of a busy client survive a kill and restart of the server without a failure."""

from __future__ import annotations

import threading
from pathlib import Path

from storekeep.client import Storekeep, StorekeepError
from tests.support.processes import ServerProcess

CALLERS = 16
CALLS_AT_LEAST = 4
AWAY_S = 5.0
TIMEOUT_S = 30.0


def test_calls_of_a_busy_client_outlast_a_restart(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    failures: list[StorekeepError] = []
    done = [0] * CALLERS
    is_back = threading.Event()

    def call_on(number: int, client: Storekeep) -> None:
        while not (is_back.is_set() and done[number] >= CALLS_AT_LEAST):
            try:
                client.auth.who_am_i()
                done[number] += 1
            except StorekeepError as error:
                failures.append(error)
                return

    try:
        with Storekeep(server.address, api_key=server.admin_key, timeout_s=TIMEOUT_S) as client:
            client.auth.who_am_i()
            callers = [threading.Thread(target=call_on, args=(number, client)) for number in range(CALLERS)]
            for caller in callers:
                caller.start()
            server.kill()
            threading.Event().wait(AWAY_S)
            server.start()
            before = sum(done)
            is_back.set()
            for caller in callers:
                caller.join(timeout=3 * TIMEOUT_S)
            assert failures == []
            assert not any(caller.is_alive() for caller in callers)
            assert sum(done) > before
    finally:
        server.kill()
