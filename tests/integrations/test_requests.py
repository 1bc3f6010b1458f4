"""Outbound requests to a real receiver that misbehaves: each ends in bounded time and memory, with its reason."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator

import pytest

from storekeep.server.integrations.addresses import AddressRules
from storekeep.server.integrations.requests import Reply, Sender
from tests.support import receivers
from tests.support.receivers import Receiver, answer_with, receive

LOOPBACK = AddressRules(ports=frozenset(), networks=(ipaddress.ip_network("127.0.0.0/8"),))
TIMEOUT_S = 1.5


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receive(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture(scope="module")
def sender(receiver: Receiver) -> Sender:
    return Sender(LOOPBACK, timeout_s=30, body_max_bytes=1_000, ca_file=receiver.ca_file)


def post(sender: Sender, url: str) -> Reply:
    return sender.post(url, headers={"webhook-id": "msg_1"}, body=b'{"a": 1}')


def test_post_sends_the_body_and_returns_the_reply(receiver: Receiver, sender: Sender) -> None:
    reply = post(sender, receiver.url("/ok?x=1"))
    assert (reply.status, reply.body, reply.problem) == (200, b"thank you", "")
    headers, body = receiver.received["/ok?x=1"][0]
    assert body == b'{"a": 1}'
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["webhook-id"] == "msg_1"


def test_post_ignores_proxies_of_the_environment(
    receiver: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(sender, receiver.url("/proxy")).status == 200


def test_post_follows_no_redirect(receiver: Receiver, sender: Sender) -> None:
    receiver.answers["/moved"] = [answer_with("301 Moved Permanently", f"location: {receiver.url('/elsewhere')}")]
    assert post(sender, receiver.url("/moved")).status == 301
    assert "/elsewhere" not in receiver.received


def test_post_returns_retry_after(receiver: Receiver, sender: Sender) -> None:
    receiver.answers["/busy"] = [answer_with("429 Too Many Requests", "retry-after: 7")]
    reply = post(sender, receiver.url("/busy"))
    assert (reply.status, reply.retry_after) == (429, "7")


@pytest.mark.parametrize("answer", [receivers.hang, receivers.drip], ids=["hang", "drip"])
def test_post_ends_at_its_time_limit(receiver: Receiver, answer: receivers.Answer) -> None:
    receiver.answers["/slow"] = [answer]
    sender = Sender(LOOPBACK, timeout_s=TIMEOUT_S, body_max_bytes=1_000, ca_file=receiver.ca_file)
    start_s = time.monotonic()
    reply = post(sender, receiver.url("/slow"))
    assert reply.problem == "no complete reply within 1.5 s"
    assert TIMEOUT_S <= time.monotonic() - start_s < 20


def test_post_to_a_receiver_that_closes_early_names_it(receiver: Receiver, sender: Sender) -> None:
    receiver.answers["/early"] = [receivers.close_early]
    assert "connection broke" in post(sender, receiver.url("/early")).problem


def test_post_receives_a_bounded_part_of_a_huge_reply(receiver: Receiver, sender: Sender) -> None:
    receiver.answers["/huge"] = [receivers.send_gigabyte]
    reply = post(sender, receiver.url("/huge"))
    assert (reply.status, len(reply.body)) == (200, 1_000)
    assert receiver.body_bytes_sent < 64 * 2**20


def test_post_to_a_closed_port_names_it(receiver: Receiver, sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "cannot connect" in post(sender, f"https://127.0.0.1:{port}/").problem


def test_post_verifies_the_certificate(receiver: Receiver) -> None:
    unknown = Sender(LOOPBACK, timeout_s=30, body_max_bytes=100)
    assert "TLS" in post(unknown, receiver.url("/")).problem
    resolved = Sender(
        LOOPBACK, timeout_s=30, body_max_bytes=100, ca_file=receiver.ca_file, resolve=lambda _: ["127.0.0.1"]
    )
    other_host = post(resolved, f"https://hooks.example.com:{receiver.port}/")
    assert "TLS" in other_host.problem
    assert "hooks.example.com" in other_host.problem


def test_post_resolves_once_and_connects_to_the_checked_address(receiver: Receiver) -> None:
    answers = iter([["8.8.8.8", "127.0.0.1"], ["127.0.0.1"]])
    rules = AddressRules(ports=frozenset())
    sender = Sender(rules, timeout_s=5, body_max_bytes=100, ca_file=receiver.ca_file, resolve=lambda _: next(answers))
    accepted = len(receiver.received["/"])
    assert post(sender, f"https://rebinding.example.com:{receiver.port}/").problem == (
        "the address is private or reserved"
    )
    assert len(list(answers)) == 1, "one look-up per request"
    assert len(receiver.received["/"]) == accepted
