"""The gateway and Envoy's gRPC-JSON transcoder in front of one scripted server, and how their answers differ."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from google.protobuf.message import Message

from benchmarks.envoy import run_envoy
from benchmarks.machine import Placement, find_free_address, run_server
from storekeep.server.transport.contract import SERVICES
from tests.support.http_requests import HttpRequest, HttpRequests
from tests.support.json_messages import RandomMessages
from tests.support.scripted_server import ScriptedServer, replies, run_scripted_server

TIMEOUT_S = 60.0
GATEWAY = [sys.executable, "-m", "storekeep.gateway", "serve"]
HEADERS = {"authorization": "Bearer access", "content-type": "application/json"}

STRICTER = (
    # Envoy ignores fields of a body that do not exist, so a misspelt field would be lost.
    r" has no such field$",
    # Envoy takes the last one of a repeated parameter.
    r" the parameter appears more than once$",
    # Envoy ignores what is in an object that should be a value, flattens lists in lists, and skips null in them.
    r": expected .*, not (an object|a list|null)$",
    # Envoy takes a value for a list of one.
    r": expected a list, not ",
    # Envoy takes "1" for true.
    r": expected true or false, not the string '[01]'$",
)
"""The problems that only the gateway refuses, with the reasons."""
Outcome = tuple[int, Message | None, Any]


class Front:
    """One of the two gateways, in front of the same server."""

    def __init__(self, address: str, server: ScriptedServer) -> None:
        self._client = httpx.Client(base_url=f"http://{address}", headers=HEADERS, timeout=TIMEOUT_S, trust_env=False)
        self._server = server

    def send(self, request: HttpRequest, reply: Message) -> Outcome:
        """Return the status, the request that reached the server, and the reply."""
        self._server.seen.clear()
        self._server.scripts.clear()
        self._server.scripts[request.rpc.name].append(replies(reply))
        answer = self._client.request(request.method, request.target, content=request.body)
        seen = self._server.calls_of(request.rpc.name)
        body = answer.json() if answer.status_code == 200 else answer.text
        return answer.status_code, seen[0].request if seen else None, body


@dataclass(frozen=True)
class Fronts:
    """Both gateways."""

    gateway: Front
    envoy: Front

    def compare(self, seed: int, *, each: int) -> int:
        """Send random requests to both, `each` for every route, and return their number.

        Raises: AssertionError at the first difference that is not in `STRICTER`.
        """
        build = RandomMessages(seed).build
        number = 0
        for request in HttpRequests(seed).build_all(SERVICES, each=each):
            reply: Any = build(request.rpc.output_type)
            if "etag" in request.rpc.output_type.fields_by_name:
                reply.etag = "7"  # it becomes a header
            difference = _compare(request, self.gateway.send(request, reply), self.envoy.send(request, reply))
            assert not difference, (difference, request)
            number += 1
        return number


@contextmanager
def run_fronts(folder: Path) -> Iterator[Fronts]:
    """Run both, with their files in a folder."""
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
            yield Fronts(Front(gateway.address, server), Front(envoy.address, server))


def _compare(request: HttpRequest, ours: Outcome, theirs: Outcome) -> str:
    """Return how two outcomes differ; empty if they do not, or for a reason in `STRICTER`."""
    our_status, our_request, our_reply = ours
    their_status, their_request, their_reply = theirs
    if our_status != 200:
        if our_status != 400 or our_request is not None:
            return f"status {our_status}: {our_reply}"
        problem = json.loads(our_reply)["error"]["message"]
        refused = their_status == 400 or any(re.search(pattern, problem) for pattern in STRICTER)
        return "" if refused else f"only the gateway refuses: {problem}"
    if their_status != 200:
        return f"only Envoy refuses: {their_status} {their_reply}"
    if our_request is not None and request.method == "PATCH" and "pdate" not in request.target:
        # The gateway derives a mask, so that null and zeros in the body clear a field.
        our_request.ClearField("update_mask")
    if our_request != their_request:
        return f"the requests differ: {our_request} {their_request}"
    return "" if our_reply == their_reply else f"the replies differ: {our_reply} {their_reply}"
