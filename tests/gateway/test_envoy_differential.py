"""The gateway beside Envoy's gRPC-JSON transcoder: the same requests reach the server, and the same replies the caller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.message import Message

from benchmarks.envoy import run_envoy
from benchmarks.machine import Placement, find_free_address, run_server
from storekeep.server.transport.contract import SERVICES
from tests.support.http_requests import HttpRequest, HttpRequests
from tests.support.json_messages import RandomMessages
from tests.support.scripted_server import ScriptedServer, replies, run_scripted_server

SEED = 20_261_129
EACH = 8
"""Requests for each route: a thousand in all."""
TIMEOUT_S = 60.0
HEADERS = {"authorization": "Bearer access", "content-type": "application/json"}


class Front:
    """One of the two gateways, in front of the same server."""

    def __init__(self, address: str, server: ScriptedServer) -> None:
        self._client = httpx.Client(base_url=f"http://{address}", headers=HEADERS, timeout=TIMEOUT_S, trust_env=False)
        self._server = server

    def send(self, request: HttpRequest, reply: Message) -> tuple[int, Message | None, Any]:
        """Return the status, the request that reached the server, and the reply."""
        self._server.seen.clear()
        self._server.scripts.clear()
        self._server.scripts[request.rpc.name].append(replies(reply))
        answer = self._client.request(request.method, request.target, content=request.body)
        seen = self._server.calls_of(request.rpc.name)
        body = answer.json() if answer.status_code == 200 else answer.text
        return answer.status_code, seen[0].request if seen else None, body


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Front]]:
    """The gateway and Envoy."""
    folder: Path = tmp_path_factory.mktemp("fronts")
    placement = Placement(server=tuple(os.sched_getaffinity(0)), load=())
    with run_scripted_server() as server:
        address = find_free_address()
        env = {"STOREKEEP_HTTP_LISTEN": address, "STOREKEEP_GATEWAY_SERVER_ADDRESS": server.address}
        with (
            run_envoy(list(SERVICES), upstream=server.address, folder=folder / "envoy", placement=placement) as envoy,
            run_server(
                "gateway", GATEWAY, address=address, log=folder / "gateway.log", env=env, placement=placement
            ) as gateway,
        ):
            yield Front(gateway.address, server), Front(envoy.address, server)
