"""Events over HTTP: lines of JSON or server-sent events, which continue after the last one that was received."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.gateways import GatewayProcess
from tests.support.shops import Shop

READ_BYTES = 65_536


class HttpStream:
    """A stream over one connection.

    Attributes:
        head: status line and headers.
    """

    def __init__(self, gateway: GatewayProcess, target: str, **headers: str) -> None:
        lines = {"host": "gateway", "authorization": f"Bearer {gateway.api_key}"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._connection = gateway.connect()
        self._connection.sendall(f"GET {target} HTTP/1.1\r\n{text}\r\n".encode())
        self._received = b""
        self.head = self.read_until(rb"\r\n\r\n").decode()

    def read_until(self, pattern: bytes) -> bytes:
        """Return everything up to the first match of a pattern."""
        while (match := re.search(pattern, self._received)) is None:
            data = self._connection.recv(READ_BYTES)
            assert data, self._received
            self._received += data
        text, self._received = self._received[: match.end()], self._received[match.end() :]
        return text

    def read_line(self) -> Any:
        """Return the next line of JSON."""
        return json.loads(re.search(rb"\{.*\}\n", self.read_until(rb"\{.*\}\n"))[0])  # type: ignore[index]

    def read_event(self) -> tuple[str, Any]:
        """Return the id and the data of the next server-sent event that has data."""
        found: Any = re.search(rb"id: (\S+)\ndata: (\{.*\})\n\n", self.read_until(rb"\ndata: .*\n\n"))
        return found[1].decode(), json.loads(found[2])

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def open_stream(gateway: GatewayProcess) -> Any:
    """Open streams, which end with the test."""
    opened: list[HttpStream] = []

    def make(target: str, **headers: str) -> HttpStream:
        opened.append(HttpStream(gateway, target, **headers))
        return opened[-1]

    yield make
    for stream in opened:
        stream.close()


def test_events_are_lines_and_heartbeats_have_the_cursor(shop: Shop, open_stream: Any):
    stream = open_stream("/v1/events:watch?eventTypes=customer.*&heartbeatInterval=1s")
    assert "200 OK" in stream.head
    assert "application/x-ndjson" in stream.head
    assert stream.read_line().keys() == {"cursor"}
    names = [shop.customer().name for _ in range(2)]
    events: list[Any] = []
    while len(events) < 2:
        line = stream.read_line()
        events += [line] if "name" in line else []
    assert [event["resource"] for event in events] == names
    assert events[0]["content"]["@type"] == "type.googleapis.com/storekeep.v1.Customer"
    assert events[0]["content"]["name"] == names[0]
    assert stream.read_line().keys() == {"cursor"}


def test_event_stream_continues_after_the_last_event(shop: Shop, open_stream: Any):
    stream = open_stream("/v1/events:watch", accept="text/event-stream")
    assert "text/event-stream" in stream.head
    start = stream.read_until(rb": heartbeat\nid: \S+\n\n")
    names = [shop.customer().name for _ in range(3)]
    event_id, event = stream.read_event()
    assert (event["resource"], event["cursor"]) == (names[0], event_id)
    stream.close()
    again = open_stream("/v1/events:watch", accept="text/event-stream", last_event_id=event_id)
    assert [again.read_event()[1]["resource"] for _ in range(2)] == names[1:]
    heartbeat_id = start.decode().partition("id: ")[2].strip()
    from_start = open_stream("/v1/events:watch", accept="text/event-stream", last_event_id=heartbeat_id)
    assert from_start.read_event()[1]["resource"] == names[0]


def test_stream_from_a_time_continues_after_the_last_event(shop: Shop, open_stream: Any):
    names = [shop.customer().name for _ in range(2)]
    target = "/v1/events:watch?eventTypes=customer.created&startTime=1970-01-01T00:00:00Z"
    stream = open_stream(target, accept="text/event-stream")
    while (found := stream.read_event())[1]["resource"] != names[0]:
        pass
    again = open_stream(target, accept="text/event-stream", last_event_id=found[0])
    assert "200 OK" in again.head
    assert again.read_event()[1]["resource"] == names[1]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/v1/events:watch?cursor=forged", "INVALID_FIELD"),
        ("/v1/events:watch?eventTypes=role.created", "INVALID_FIELD"),
        ("/v1/events:watch?heartbeatInterval=1000s", "INVALID_FIELD"),
    ],
)
def test_invalid_stream_is_refused_like_any_call(gateway: GatewayProcess, target: str, reason: str):
    reply = gateway.send("GET", target)
    assert (reply.status, reply.reason) == (400, reason)


def test_stream_with_a_wrong_key_is_refused(gateway: GatewayProcess):
    assert gateway.send("GET", "/v1/events:watch", authorization="Bearer sk_wrong").status == 401


def test_stream_outlives_the_token_of_its_api_key(make_server: Any, tmp_path: Any):
    server = make_server(access_token_lifetime_s="10")
    with_key = {"server_address": server.address, "api_key": server.admin_key}
    gateway = GatewayProcess(tmp_path, **with_key)
    try:
        stream = HttpStream(gateway, "/v1/events:watch?heartbeatInterval=1s")
        cursors = {stream.read_line()["cursor"] for _ in range(13)}
        assert cursors
        reply = gateway.send("POST", "/v1/customers", {"displayName": "Late"})
        assert reply.status == 200
        while "name" not in (line := stream.read_line()):
            pass
        assert line["content"]["displayName"] == "Late"
        stream.close()
    finally:
        gateway.process.kill()
