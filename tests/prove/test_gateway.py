"""Hostile HTTP requests to the gateway for PROVE_SECONDS: never 5xx, flat memory, and an unharmed server behind it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.support.budgets import SECONDS, SEED
from tests.support.gateways import GatewayProcess
from tests.support.hostile import http

REQUESTS = 5_000
"""Requests of each round; its seed is new."""
CONNECTIONS = 16
GROWTH_MIB_MAX = 32


@pytest.mark.engine("sqlite", reason="the gateway reaches either database through the same server")
def test_hostile_requests_for_long_leave_gateway_and_server_as_they_were(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(log_level="ERROR")
    gateway = GatewayProcess(
        tmp_path,
        server_address=server.address,
        api_key=server.admin_key,
        header_timeout_s="2",
        body_timeout_s="1",
        access_log="off",
    )

    def send(case: tuple[bytes, int]) -> None:
        outcome = http.send(gateway.address, case[0])
        assert all(status < 500 for status in outcome.statuses), (case[0], outcome)
        assert len(outcome.statuses) <= case[1], (case[0], outcome)

    try:
        memory_mib, rounds, ends = [], 0, time.monotonic() + SECONDS
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            while rounds < 2 or time.monotonic() < ends:
                list(pool.map(send, http.list_requests(gateway.api_key, number=REQUESTS, seed=SEED + rounds)))
                assert gateway.send("GET", "/v1/products?page_size=1").status == 200
                memory_mib.append(round(gateway.memory_mib(), 1))
                rounds += 1
        print(f"\n{rounds * REQUESTS} requests, memory in MiB per round: {memory_mib}")  # noqa: T201 - the result
        assert memory_mib[-1] - memory_mib[0] < GROWTH_MIB_MAX
        assert "unexpected error" not in gateway.log()
        assert "INTERNAL" not in server.log()
    finally:
        gateway.process.kill()
