"""What holds for every operation over HTTP: replays, conditions, HEAD, OPTIONS, a trailing slash and wrong parameters.

The walk through all operations is sent once, and each of its steps in several ways.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from docs.walk.record import Walk
from storekeep.gateway.headers import takes_etag
from storekeep.gateway.routes import Match, Router, build_routes
from tests.support.gateways import GatewayProcess, HttpReply
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.engine("sqlite", reason="the gateway reaches either database through the same server")
OF_ONE_REPLY = frozenset({"date", "x-request-id"})
OTHER_VERSION = '"no-such-version"'


class Sender:
    """Sends each step of the walk in several ways.

    Attributes:
        checked: number of checks by kind.
        problems: descriptions of replies that should not be.
    """

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._router = Router(build_routes())
        self.checked: Counter[str] = Counter()
        self.problems: list[str] = []

    def send(self, method: str, target: str, body: Any, token: str) -> tuple[int, Any]:
        """Send a step; return its status and the JSON of the reply."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        path, _, query = target.partition("?")
        match = self._router.match(path.encode())
        assert match is not None
        route = match.routes[method]
        self._check_methods(path, match, headers)
        if method == "GET":
            reply = self._gateway.send(method, target, body, **headers)
            self._check_get(path, query, reply, headers)
            return reply.status, reply.json
        refused = self._gateway.send(method, target, body, if_match=OTHER_VERSION, **headers)
        self._check("condition", refused.status == (412 if takes_etag(route) else 400), target, refused)
        if "request_id" not in route.rpc.input_type.fields_by_name:
            reply = self._gateway.send(method, target, body, **headers)
            return reply.status, reply.json
        if "requestId" not in (body or {}):
            headers |= {"idempotency_key": f"step-{self.checked.total()}"}
        headers |= {"x_request_id": "step"}  # some replies contain it
        reply, replay = (self._gateway.send(method, target, body, **headers) for _ in range(2))
        is_same = replay.body == reply.body and replay.headers.get("idempotency-replayed") == "true"
        self._check("replay", is_same or reply.status != 200, target, replay)
        return reply.status, reply.json

    def _check(self, kind: str, holds: bool, target: str, reply: HttpReply) -> None:
        self.checked[kind] += 1
        if not holds:
            self.problems.append(f"{kind}: {target}: {reply.status} {reply.headers} {reply.body[:300]!r}")

    def _check_methods(self, path: str, match: Match, headers: dict[str, str]) -> None:
        allowed = {*match.routes, "OPTIONS"} | ({"HEAD"} if "GET" in match.routes else set())
        options = self._gateway.send("OPTIONS", path, **headers)
        self._check("OPTIONS", options.status == 204 and _get_allow(options) == allowed, path, options)
        other = self._gateway.send("PUT" if "PUT" not in allowed else "TRACE", path, **headers)
        self._check("405", other.status == 405 and _get_allow(other) == allowed, path, other)

    def _check_get(self, path: str, query: str, reply: HttpReply, headers: dict[str, str]) -> None:
        target = f"{path}?{query}" if query else path
        head = self._gateway.send("HEAD", target, **headers)
        self._check("HEAD", not head.body and _list_headers(head) == _list_headers(reply), target, head)
        slash = self._gateway.send("GET", f"{path}/?{query}&", **headers)
        self._check("slash", slash.status == reply.status, target, slash)
        unknown = self._gateway.send("GET", f"{path}?{query}&noSuch=1", **headers)
        self._check("parameter", unknown.status == 400 and "noSuch" in unknown.body.decode(), target, unknown)
        with_body = self._gateway.send("GET", target, {}, **headers)
        self._check("body", with_body.status == 400, target, with_body)
        if etag := reply.headers.get("etag"):
            unchanged = self._gateway.send("GET", target, if_none_match=etag, **headers)
            is_unchanged = unchanged.status == 304 and not unchanged.body and unchanged.headers["etag"] == etag
            self._check("304", is_unchanged, target, unchanged)


def _get_allow(reply: HttpReply) -> set[str]:
    return set(reply.headers.get("allow", "").split(", "))


def _list_headers(reply: HttpReply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name not in OF_ONE_REPLY}


def test_every_operation_answers_replays_conditions_and_methods(walk_server: ServerProcess, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, server_address=walk_server.address, api_key=walk_server.admin_key)
    sender = Sender(gateway)
    try:
        Walk(sender.send).run()
    finally:
        gateway.process.kill()
    assert not sender.problems, "\n".join(sender.problems)
    assert set(sender.checked) == {"condition", "replay", "OPTIONS", "405", "HEAD", "slash", "parameter", "body", "304"}
