"""Outbound connections serve several requests: each has its own limits, and none depends on one that has ended."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storekeep.server.integrations import connection_pools, streams
from storekeep.server.integrations.addresses import AddressRules
from storekeep.server.integrations.requests import Reply, Sender
from tests.support.scripted_receivers import ACCEPT, ScriptedReceiver

LOOPBACK = AddressRules(ports=frozenset(), networks=(ipaddress.ip_network("127.0.0.0/8"),))
BODY_MAX_BYTES = 100


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ScriptedReceiver]:
    with ScriptedReceiver(tmp_path) as running:
        yield running


@pytest.fixture
def sender(receiver: ScriptedReceiver) -> Sender:
    return Sender(LOOPBACK, timeout_s=30, body_max_bytes=BODY_MAX_BYTES, ca_file=receiver.ca_file)


@pytest.fixture
def post(receiver: ScriptedReceiver, sender: Sender) -> Callable[[], Reply]:
    return lambda: sender.post(receiver.url(), headers={"webhook-id": "msg_1"}, body=b"{}")


def test_connection_serves_further_requests(receiver: ScriptedReceiver, post: Callable[[], Reply]) -> None:
    replies = [post() for _ in range(4)]
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"thank you")] * 4
    assert receiver.served == [0, 0, 0, 0]


def test_connection_that_the_receiver_has_closed_costs_no_attempt(
    receiver: ScriptedReceiver, post: Callable[[], Reply]
) -> None:
    assert post().status == 200
    receiver.connections[0].shutdown(socket.SHUT_RDWR)
    assert receiver.closed.acquire(timeout=60)
    assert post().status == 200
    assert receiver.served == [0, 1]


def test_request_that_meets_the_end_of_its_connection_is_sent_again(
    receiver: ScriptedReceiver, post: Callable[[], Reply]
) -> None:
    receiver.script = [(ACCEPT,), ()]
    assert [post().status for _ in range(2)] == [200, 200]
    assert receiver.served == [0, 0, 1]


def test_request_on_a_new_connection_is_sent_once(receiver: ScriptedReceiver, post: Callable[[], Reply]) -> None:
    receiver.script = [()]
    assert "connection broke" in post().problem
    assert receiver.served == [0]


def test_reply_that_breaks_off_on_an_idle_connection_is_a_failure(
    receiver: ScriptedReceiver, post: Callable[[], Reply]
) -> None:
    receiver.script = [(ACCEPT,), (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-le",)]
    assert post().status == 200
    assert "connection broke" in post().problem
    assert receiver.served == [0, 0]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + bytes(1_000),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["rest of the body", "last reply"],
)
def test_connection_with_something_left_is_not_used_again(
    receiver: ScriptedReceiver, post: Callable[[], Reply], reply: bytes
) -> None:
    receiver.script = [(reply,)]
    assert [post().status for _ in range(2)] == [200, 200]
    assert receiver.served == [0, 1]


def test_reply_to_no_request_accepts_none(receiver: ScriptedReceiver, post: Callable[[], Reply]) -> None:
    """The second reply was there before the second request."""
    receiver.script = [(ACCEPT + ACCEPT,), (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",)]
    assert [post().status for _ in range(2)] == [200, 500]


@pytest.mark.parametrize(
    "stray", [b"OK", ACCEPT[:-1], b"\r\n", b"\0"], ids=["body of an empty reply", "unfinished reply", "line", "byte"]
)
def test_bytes_after_a_reply_are_no_part_of_the_next(
    receiver: ScriptedReceiver, post: Callable[[], Reply], stray: bytes
) -> None:
    receiver.script = [(b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n" + stray,), (ACCEPT,)]
    replies = [post() for _ in range(2)]
    assert [(reply.status, reply.body) for reply in replies] == [(204, b""), (200, b"thank you")]
    assert receiver.served == [0, 1]


def test_bytes_of_a_reply_count_for_its_request_only(
    receiver: ScriptedReceiver, post: Callable[[], Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RECEIVED_BYTES_MAX", 2 * len(ACCEPT))
    assert [post().status for _ in range(6)] == [200] * 6
    assert receiver.served == [0] * 6


def test_time_limit_holds_for_each_request_of_a_connection(receiver: ScriptedReceiver) -> None:
    sender = Sender(LOOPBACK, timeout_s=3, body_max_bytes=BODY_MAX_BYTES, ca_file=receiver.ca_file)

    def post() -> Reply:
        return sender.post(receiver.url(), headers={}, body=b"{}")

    assert post().status == 200
    receiver.script = [(b"HTTP/1.1 200 OK\r\n",)]
    assert post().problem == "no complete reply within 3 s"
    assert post().status == 200
    assert receiver.served == [0, 0, 1]


@pytest.mark.parametrize("limit", ["AGE_MAX_S", "IDLE_MAX_S"])
def test_connection_beyond_a_limit_is_closed(
    receiver: ScriptedReceiver, post: Callable[[], Reply], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """It looks its host name up again, so that a name that has moved is followed."""
    assert post().status == 200
    monkeypatch.setattr(connection_pools, limit, 0)
    assert post().status == 200
    assert receiver.closed.acquire(timeout=60)
    assert post().status == 200
    assert receiver.served == [0, 1, 2]


def test_stale_connection_is_closed_without_another_request(
    receiver: ScriptedReceiver, sender: Sender, post: Callable[[], Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post().status == 200
    sender.close_stale()
    assert post().status == 200
    assert receiver.served == [0, 0]
    monkeypatch.setattr(connection_pools, "IDLE_MAX_S", 0)
    sender.close_stale()
    assert receiver.closed.acquire(timeout=60)


def test_closed_sender_keeps_no_connection_open(
    receiver: ScriptedReceiver, sender: Sender, post: Callable[[], Reply]
) -> None:
    assert post().status == 200
    sender.close()
    assert receiver.closed.acquire(timeout=60)
    assert post().status == 200
    assert receiver.closed.acquire(timeout=60)
    assert receiver.served == [0, 1]


def test_sender_without_idle_connections_closes_each(receiver: ScriptedReceiver) -> None:
    sender = Sender(LOOPBACK, timeout_s=30, body_max_bytes=BODY_MAX_BYTES, ca_file=receiver.ca_file, idle_max=0)
    for _ in range(2):
        assert sender.post(receiver.url(), headers={}, body=b"{}").status == 200
        assert receiver.closed.acquire(timeout=60)
    assert receiver.served == [0, 1]


def test_oldest_idle_connection_beyond_the_size_is_closed(receiver: ScriptedReceiver) -> None:
    sender = Sender(
        LOOPBACK,
        timeout_s=30,
        body_max_bytes=BODY_MAX_BYTES,
        ca_file=receiver.ca_file,
        resolve=lambda _host: ["127.0.0.1"],
        idle_max=1,
    )
    for host in ("127.0.0.1", "receiver", "receiver", "127.0.0.1"):
        assert sender.post(f"https://{host}:{receiver.port}/", headers={}, body=b"{}").status == 200
    assert receiver.served == [0, 1, 1, 2]
