"""The gateway under attack over raw sockets, while honest clients use it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.gateways import GatewayProcess, HttpReply
from tests.support.hostile import http
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.engine("sqlite", reason="the gateway reaches either database through the same server")
REQUESTS = 1_200
CONNECTIONS = 16
GROWTH_MIB_MAX = 48
PAUSE_S = 0.01
GIVE_UP_S = 60.0


@pytest.fixture(scope="module")
def gateway(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve HTTP with times that tests can wait for, and with a trusted proxy on this host."""
    process = GatewayProcess(
        tmp_path_factory.mktemp("gateway"),
        server_address=server.address,
        api_key=server.admin_key,
        header_timeout_s="2",
        body_timeout_s="1",
        reply_timeout_s="1",
        trusted_proxies="127.0.0.1",
        failed_credentials_burst="10",
        failed_credentials_per_s="0.01",
        anonymous_requests_burst="10",
        anonymous_requests_per_s="0.01",
    )
    yield process
    process.process.kill()


@contextmanager
def honest_client(gateway: GatewayProcess) -> Iterator[list[HttpReply]]:
    """Read with a valid key during an attack; yield the replies, and check at the end that all are 200."""
    replies: list[HttpReply] = []
    ends = threading.Event()

    def run() -> None:
        while not ends.wait(PAUSE_S):
            replies.append(gateway.send("GET", "/v1/products?page_size=1"))

    assert gateway.send("GET", "/v1/products?page_size=1").status == 200
    client = threading.Thread(target=run)
    client.start()
    try:
        yield replies
    finally:
        ends.set()
        client.join()
    assert replies
    assert {reply.status for reply in replies} == {200}


def test_thousand_hostile_requests_get_4xx_or_a_closed_connection(
    gateway: GatewayProcess, server: ServerProcess
) -> None:
    requests = list(http.list_requests(gateway.api_key, number=REQUESTS, seed=1))
    wrong: list[tuple[bytes, http.Outcome]] = []

    def send(case: tuple[bytes, int]) -> None:
        outcome = http.send(gateway.address, case[0])
        if any(status >= 500 for status in outcome.statuses) or len(outcome.statuses) > case[1]:
            wrong.append((case[0][:300], outcome))

    with honest_client(gateway), ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(send, requests[: REQUESTS // 2]))
        before_mib = gateway.memory_mib()
        list(pool.map(send, requests[REQUESTS // 2 :]))
    assert wrong == []
    assert len(requests) == REQUESTS
    assert gateway.memory_mib() - before_mib < GROWTH_MIB_MAX
    assert "unexpected error" not in gateway.log()
    assert "INTERNAL" not in server.log()
    assert server.process.poll() is None


def send_as(gateway: GatewayProcess, address: str, key: str, *, method: str = "GET") -> HttpReply:
    """Send a read as the client with an address, through the trusted proxy."""
    headers = {"x_forwarded_for": f"1.2.3.4, {address}", "authorization": f"Bearer {key}"}
    return gateway.send(method, "/v1/products?page_size=1", **headers)


def test_flood_of_wrong_keys_leaves_other_clients_unharmed(gateway: GatewayProcess, server: ServerProcess) -> None:
    assert send_as(gateway, "198.51.100.1", gateway.api_key).status == 200
    with honest_client(gateway), ThreadPoolExecutor(CONNECTIONS) as pool:
        keys = [f"sk_{number:016d}_{'b' * 43}" for number in range(300)]
        replies = list(pool.map(lambda key: send_as(gateway, "198.51.100.1", key), keys))
        tokens = list(pool.map(lambda number: send_as(gateway, "198.51.100.1", f"a.{number}.c"), range(50)))
    assert {(reply.status, reply.reason) for reply in replies} == {(401, "API_KEY_INVALID"), (429, "RATE_LIMITED")}
    assert {reply.status for reply in tokens} == {429}
    assert int(tokens[0].headers["retry-after"]) >= 1
    # The server has seen few of them, so it does not hold back the gateway's address: a new key elsewhere is tried.
    assert send_as(gateway, "198.51.100.2", f"sk_{'9' * 16}_{'b' * 43}").status == 401
    assert send_as(gateway, "198.51.100.2", gateway.api_key).status == 200
    assert send_as(gateway, "198.51.100.1", gateway.api_key).status == 200  # proven before: not held back
    assert server.log().count("API_KEY_INVALID") < 50


def test_requests_without_a_credential_are_limited_per_address(gateway: GatewayProcess) -> None:
    def send(address: str) -> HttpReply:
        headers = f"Host: x\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n\r\n"
        return gateway.send_raw(f"GET /v1/products HTTP/1.1\r\n{headers}".encode())

    reasons = [send("2001:db8::1").reason for _ in range(15)]
    assert reasons == ["UNAUTHENTICATED"] * 10 + ["RATE_LIMITED"] * 5
    assert send("2001:db8::2").reason == "RATE_LIMITED"  # the same /64 network
    assert send("2001:db8:0:1::1").reason == "UNAUTHENTICATED"


def test_client_that_reads_no_reply_is_cut_off(gateway: GatewayProcess) -> None:
    for number in range(8):
        fields = {"displayName": "Long", "description": "d" * 9_000}
        assert gateway.send("POST", f"/v1/products?productId=long-{number}", fields).status == 200
    head = f"GET /v1/products?page_size=8 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.api_key}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(gateway.address)
        connection.sendall(head.encode() * 120)  # replies of 9 MB: more than the kernel takes
        assert is_cut_off(connection)


def is_cut_off(connection: socket.socket) -> bool:
    """Return whether the gateway closes a connection; the kernel reports it only to a client that sends."""
    give_up = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up:
        try:
            connection.send(b"x", socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except ConnectionError:
            return True
        time.sleep(0.1)
    return False


BODY_BYTES = 1024 * 1024
BUDGET_BYTES = 16 * BODY_BYTES
UNFINISHED = 1_000


def test_thousand_unfinished_bodies_stay_within_the_budget(server: ServerProcess, tmp_path: Path) -> None:
    gateway = GatewayProcess(
        tmp_path,
        server_address=server.address,
        api_key=server.admin_key,
        bodies_size_max_bytes=str(BUDGET_BYTES),
        requests_max="2000",
        body_timeout_s="120",
        trusted_proxies="127.0.0.1",
    )
    part = bytes(BODY_BYTES - 1)

    def hold(number: int) -> socket.socket:
        head = f"POST /v1/orders:place HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.api_key}\r\n"
        head += f"X-Forwarded-For: 10.0.{number // 250}.{number % 250}\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        connection = gateway.connect()
        with suppress(ConnectionError):
            connection.sendall(head.encode() + part)
        return connection

    try:
        with ExitStack() as stack:
            with honest_client(gateway), ThreadPoolExecutor(CONNECTIONS) as pool:
                before_mib = gateway.memory_mib()
                connections = [stack.enter_context(each) for each in pool.map(hold, range(UNFINISHED))]
                refused = gateway.send("POST", "/v1/orders:place", b" " * 60_000, x_forwarded_for="10.1.0.1")
                growth_mib = gateway.memory_mib() - before_mib
            assert (refused.status, refused.reason) == (503, "OVERLOADED")
            assert int(refused.headers["retry-after"]) >= 1
            assert growth_mib < 3 * BUDGET_BYTES / 2**20 + GROWTH_MIB_MAX
            for connection in connections:
                connection.close()
            give_up = time.monotonic() + GIVE_UP_S
            while (reply := gateway.send("POST", "/v1/orders:place", b"{}" + b" " * 60_000)).reason != "INVALID_FIELD":
                assert time.monotonic() < give_up, reply
                time.sleep(0.02)
    finally:
        gateway.process.kill()
