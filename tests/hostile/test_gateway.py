"""The gateway under attack over raw sockets, while honest clients use it."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from storekeep.client import Product, Storekeep
from storekeep.v1.products_pb2 import CreateProductRequest
from tests.support.authorities import issue, make_authority, tls_settings
from tests.support.gateways import GatewayProcess, HttpReply, read_reply
from tests.support.hostile import http
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.engine("sqlite", reason="the gateway reaches either database through the same server")
REQUESTS = 1_200
CONNECTIONS = 16
GROWTH_MIB_MAX = 48
PAUSE_S = 0.01
SHORTEST_LIMIT_S = 1
GIVE_UP_S = 60.0
PATIENCE_S = "600"
"""Time limits of a gateway that should not end a test, also on a busy host."""


@pytest.fixture(scope="module")
def gateway(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve HTTP with times that tests can wait for, and with a trusted proxy on this host."""
    process = GatewayProcess(
        tmp_path_factory.mktemp("gateway"),
        server_address=server.address,
        api_key=server.admin_key,
        header_timeout_s="2",
        body_timeout_s=str(SHORTEST_LIMIT_S),
        reply_timeout_s=str(SHORTEST_LIMIT_S),
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
    """Read with a valid key during an attack; yield the replies, and check at the end that all are 200.

    A request that this busy host has delayed beyond the gateway's time limits does not count.
    """
    replies: list[HttpReply] = []
    ends = threading.Event()

    def run() -> None:
        while not ends.wait(PAUSE_S):
            begun_s = time.monotonic()
            reply = gateway.send("GET", "/v1/products?page_size=1")
            if reply.status == 200 or time.monotonic() - begun_s < SHORTEST_LIMIT_S:
                replies.append(reply)

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


REPLY_BUDGET_BYTES = 16 * 1024 * 1024
READERS = 12
LARGE_PRODUCTS = 200
REQUESTS = 3
FIRST_BYTES = 1_500_000
"""A page has 3 MB, and a kernel takes 3 to 4 MB for a client that reads none. Once this much is read, the first page is
out of the gateway and the next one is under way."""


@pytest.fixture(scope="module")
def large_page(client: Storekeep) -> str:
    """Return the path of a reply of about 3 MB: JSON has two bytes for each quotation mark."""
    large = Product(display_name="Large", description='"' * 9_900)
    for _ in range(0, LARGE_PRODUCTS, 40):
        client.products.batch_create([CreateProductRequest(product=large) for _ in range(40)])
    return "/v1/products?page_size=1000"


def start_reading(gateway: GatewayProcess, path: str) -> socket.socket:
    """Send requests on a connection whose client stops reading in the second reply."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect(gateway.address)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.api_key}\r\n\r\n"
    connection.sendall(head.encode() * REQUESTS)
    connection.settimeout(GIVE_UP_S)
    unread = FIRST_BYTES
    while unread > 0:
        chunk = connection.recv(unread)
        assert chunk, "the gateway closed the connection too early"
        unread -= len(chunk)
    return connection


def await_unread(gateway: GatewayProcess, number: int) -> None:
    """Wait until the gateway has ended a number of replies that were not read."""
    give_up = time.monotonic() + GIVE_UP_S
    while gateway.log().count('"reason":"DEADLINE_EXCEEDED"') < number:
        assert time.monotonic() < give_up, gateway.log()[-2_000:]
        time.sleep(0.05)


def test_replies_that_nobody_reads_stay_within_the_budget(
    server: ServerProcess, large_page: str, tmp_path: Path
) -> None:
    """A variant: few requests with large replies from one address; before, their sum had no bound."""
    gateway = GatewayProcess(
        tmp_path,
        server_address=server.address,
        api_key=server.admin_key,
        replies_size_max_bytes=str(REPLY_BUDGET_BYTES),
        reply_timeout_s=PATIENCE_S,
        whole_reply_timeout_s=PATIENCE_S,
    )
    with ExitStack() as stack:
        stack.callback(gateway.process.kill)
        size = len(gateway.send("GET", large_page).body)
        assert size > 3_000_000
        readers = []
        for _ in range(READERS):  # one after the other: the server, too, has a limit for large replies at once
            readers.append(stack.enter_context(start_reading(gateway, large_page)))
        await_unread(gateway, READERS - REPLY_BUDGET_BYTES // size)
        assert gateway.send("GET", "/v1/products?page_size=1").status == 200
        complete = [reader for reader in readers if reads_all(reader, REQUESTS * size - FIRST_BYTES)]
        assert 1 <= len(complete) <= REPLY_BUDGET_BYTES // size


def reads_all(connection: socket.socket, size: int) -> bool:
    """Return whether more bytes than this arrive; else the connection ends before."""
    connection.settimeout(GIVE_UP_S)
    received = 0
    with suppress(ConnectionError):
        while received <= size and (chunk := connection.recv(1 << 20)):
            received += len(chunk)
    return received > size


def test_client_that_reads_its_reply_too_slowly_is_cut_off(
    server: ServerProcess, large_page: str, tmp_path: Path
) -> None:
    gateway = GatewayProcess(
        tmp_path, server_address=server.address, api_key=server.admin_key, whole_reply_timeout_s="1"
    )
    with ExitStack() as stack:
        stack.callback(gateway.process.kill)
        reader = stack.enter_context(start_reading(gateway, large_page))
        for _ in range(40):  # a few bytes now and then, so that the kernel's limit is not reached
            assert reader.recv(100)
            time.sleep(0.05)
        await_unread(gateway, 1)


BODY_BYTES = 1024 * 1024
BUDGET_BYTES = 16 * BODY_BYTES
UNFINISHED = 1_000


def read_refusals(connections: list[socket.socket], *, number: int) -> list[HttpReply]:
    """Return what ended connections have received, once a number of them has ended."""
    replies: list[HttpReply] = []
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ, connection)
        give_up = time.monotonic() + GIVE_UP_S
        while len(replies) < number:
            assert time.monotonic() < give_up, f"{len(replies)} of {number} connections have ended"
            for key, _ in selector.select(timeout=1):
                selector.unregister(key.fileobj)
                replies.append(read_reply(key.data))
    return replies


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
                refused = read_refusals(connections, number=UNFINISHED - BUDGET_BYTES // BODY_BYTES)
                growth_mib = gateway.memory_mib() - before_mib
            # A reply is lost if its connection is reset while the client still sends.
            replies = [reply for reply in refused if reply.status]
            assert {(reply.status, reply.reason) for reply in replies} == {(503, "OVERLOADED")}
            assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies)
            assert growth_mib < 3 * BUDGET_BYTES / 2**20 + GROWTH_MIB_MAX
            for connection in connections:
                connection.close()
            give_up = time.monotonic() + GIVE_UP_S
            while (reply := gateway.send("POST", "/v1/orders:place", b"{}" + b" " * 60_000)).reason != "INVALID_FIELD":
                assert time.monotonic() < give_up, reply
                time.sleep(0.02)
    finally:
        gateway.process.kill()


CONNECTIONS_MAX = 60
PER_ADDRESS_MAX = 20
BEGUN = {
    "silent": b"",
    "handshake": bytes.fromhex("16030100f8010000f40303"),
    "idle": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize(
    ("scheme", "begun"), [("http", "silent"), ("http", "idle"), ("https", "silent"), ("https", "handshake")]
)
def test_connections_of_one_address_shut_no_other_out(
    server: ServerProcess, tmp_path: Path, scheme: str, begun: str
) -> None:
    authority = make_authority(tmp_path, "authority")
    identity = issue(tmp_path, "gateway", by=authority)
    gateway = GatewayProcess(
        tmp_path,
        server_address=server.address,
        api_key=server.admin_key,
        connections_max=str(CONNECTIONS_MAX),
        connections_per_address_max=str(PER_ADDRESS_MAX),
        header_timeout_s="60",
        **(tls_settings(identity) if scheme == "https" else {}),
    )

    def connect(address: str) -> socket.socket:
        return socket.create_connection(gateway.address, timeout=GIVE_UP_S, source_address=(address, 0))

    def asks(connection: socket.socket) -> bool:
        context = ssl.create_default_context(cafile=authority.file)
        with context.wrap_socket(connection, server_hostname="gateway") if scheme == "https" else connection as opened:
            opened.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return read_reply(opened).status == 200

    try:
        with ExitStack() as stack:
            patient = stack.enter_context(connect("127.0.0.1"))
            flood = [stack.enter_context(connect("127.0.0.2")) for _ in range(2 * CONNECTIONS_MAX)]
            for connection in flood:
                with suppress(ConnectionError):
                    connection.sendall(BEGUN[begun])
            assert asks(connect("127.0.0.1"))
            assert asks(patient)
            give_up = time.monotonic() + GIVE_UP_S
            while (left := sum(is_open(connection) for connection in flood)) > PER_ADDRESS_MAX:
                assert time.monotonic() < give_up
                time.sleep(0.05)
            assert left == PER_ADDRESS_MAX
    finally:
        gateway.process.kill()


def is_open(connection: socket.socket) -> bool:
    """Return whether the gateway has not closed a connection, whatever it has replied."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        pass
    return False
