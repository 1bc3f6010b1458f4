"""Outbound requests to receivers and name servers that attack the sender: bounded time, memory, threads and traffic."""

from __future__ import annotations

import gzip
import ipaddress
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storekeep.server.integrations import lookups
from storekeep.server.integrations.addresses import AddressRules
from storekeep.server.integrations.requests import Reply, Sender
from tests.support import receivers
from tests.support.http2_receivers import Http2Receiver, receive_http2
from tests.support.receivers import Receiver, answer_with, receive

LOOPBACK = AddressRules(ports=frozenset(), networks=(ipaddress.ip_network("127.0.0.0/8"),))
TAKEN_MAX = 16 * 2**20
"""Bytes that a flood may send, most of them into the buffers of the system."""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receive(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture
def http2(tmp_path: Path) -> Iterator[Http2Receiver]:
    with receive_http2(tmp_path) as running:
        yield running


def post(receiver: Receiver | Http2Receiver, url: str, *, timeout_s: float = 30) -> Reply:
    sender = Sender(LOOPBACK, timeout_s=timeout_s, body_max_bytes=1_000, ca_file=receiver.ca_file)
    return sender.post(url, headers={"webhook-id": "msg_1"}, body=b'{"a": 1}')


def test_http2_receiver_gets_the_message(http2: Http2Receiver) -> None:
    reply = post(http2, http2.url("/hooks"))
    assert (reply.status, reply.body, reply.problem) == (200, b"thank you", "")
    ((headers, body),) = http2.received
    assert (headers["webhook-id"], headers[":method"], body) == ("msg_1", "POST", b'{"a": 1}')


@pytest.mark.parametrize(
    "status", ["9" * 4_000, "9" * 5_000, "99999999999", "abc", "", "-200", "0", "99", "600", "2 0"]
)
def test_status_that_is_none_is_a_failure(http2: Http2Receiver, status: str) -> None:
    http2.status = status
    reply = post(http2, http2.url("/hooks"))
    assert reply.status == 0
    assert reply.problem


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    """Return a frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


@pytest.mark.parametrize(
    "flood",
    [frame(6, bytes(8)), frame(4, b""), frame(8, struct.pack(">I", 1)), frame(0xEE, bytes(16)), frame(9, bytes(16))],
    ids=["pings", "settings", "windows", "unknown frames", "continuations"],
)
def test_http2_flood_ends_soon(http2: Http2Receiver, flood: bytes) -> None:
    http2.flood = flood * 1_000
    reply = post(http2, http2.url("/hooks"), timeout_s=60)
    assert "connection broke" in reply.problem
    assert http2.bytes_sent < TAKEN_MAX


@pytest.mark.parametrize("answer", [receivers.flood_interim_replies, receivers.flood_headers])
def test_endless_head_ends_soon(receiver: Receiver, answer: receivers.Answer) -> None:
    receiver.answers["/flood"] = [answer]
    receiver.body_bytes_sent = 0
    reply = post(receiver, receiver.url("/flood"), timeout_s=60)
    assert "connection broke" in reply.problem
    assert receiver.body_bytes_sent < TAKEN_MAX


def test_compressed_body_stays_compressed(receiver: Receiver) -> None:
    packed = gzip.compress(bytes(10_000_000))
    receiver.answers["/bomb"] = [answer_with("200 OK", "content-encoding: gzip", body=packed)]
    assert post(receiver, receiver.url("/bomb")).body == packed[:1_000]


def test_switch_of_protocols_is_no_success(receiver: Receiver) -> None:
    receiver.answers["/switch"] = [answer_with("101 Switching Protocols", "upgrade: x", "connection: upgrade")]
    assert post(receiver, receiver.url("/switch")).status in (0, 101)


class SilentNameServer:
    """A resolver that answers when it is told to."""

    def __init__(self) -> None:
        self.silent = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        self.silent.wait(60)
        return ["127.0.0.1"]


def test_silent_name_server_ends_the_attempt_in_time_and_holds_one_thread(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LOOKUPS_MAX", 3)
    resolve = SilentNameServer()
    sender = Sender(LOOPBACK, timeout_s=0.5, body_max_bytes=100, ca_file=receiver.ca_file, resolve=resolve)

    def attempt(host: str) -> str:
        return sender.post(f"https://{host}:{receiver.port}/", headers={}, body=b"").problem

    start_s = time.monotonic()
    for host in ("a.example", "a.example", "b.example", "c.example", "d.example"):
        assert attempt(host) == "the host name was not resolved in time"
    assert time.monotonic() - start_s < 30
    assert resolve.asked == ["a.example", "b.example", "c.example"]
    assert post(receiver, receiver.url("/address")).status == 200, "an address needs no look-up"
    resolve.silent.set()
    give_up = time.monotonic() + 60
    while attempt("d.example") == "the host name was not resolved in time":
        assert time.monotonic() < give_up
    assert "TLS" in attempt("d.example"), "it is resolved and connected to; the certificate is of another host"
