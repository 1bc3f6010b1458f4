"""The HTTP endpoints under slow and invalid requests."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.clusters import Cluster
from tests.support.hostile.wire import wait_until
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.engine("sqlite", reason="no database is asked")
PATHS = ("/healthz", "/readyz", "/metrics")


@pytest.fixture(scope="module")
def http_address(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Start a server; yield the host and port of its HTTP endpoints."""
    process = ServerProcess(tmp_path_factory.mktemp("pages"), metrics_listen="127.0.0.1:0")
    host, _, port = Cluster(process).http_address.rpartition(":")
    yield host, int(port)
    process.kill()


def send_request(http_address: tuple[str, int], method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*http_address, timeout=60)
    connection.request(method, path)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def test_slow_callers_block_no_probe(http_address: tuple[str, int]):
    """Attack 10: sixteen connections send a byte every two seconds; here three times as many."""
    slow = [socket.create_connection(http_address) for _ in range(48)]
    for attacker in slow:
        attacker.sendall(b"GET /readyz HT")
    for _ in range(20):
        assert send_request(http_address, "GET", "/readyz").status == 200
    for attacker in slow:
        attacker.close()


def test_request_has_one_time_limit_for_all_of_it(http_address: tuple[str, int]):
    with socket.create_connection(http_address) as attacker:
        attacker.settimeout(0.1)
        attacker.sendall(b"GET /readyz HTTP/1.1\r\nx: ")
        wait_until(lambda: _is_cut_off(attacker), what="the slow caller is cut off")


def _is_cut_off(attacker: socket.socket) -> bool:
    """Send one more byte; return whether the connection is closed."""
    try:
        attacker.sendall(b"x")
        return attacker.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("line", [b"GET /" + b"x" * 100_000, b"GET /readyz HTTP/1.1\r\n" + b"x: y\r\n" * 10_000])
def test_request_that_is_too_long_is_cut_off(http_address: tuple[str, int], line: bytes):
    with socket.create_connection(http_address) as attacker:
        attacker.settimeout(60)
        begun_s = time.monotonic()
        try:
            attacker.sendall(line)
            answer = b"".join(iter(lambda: attacker.recv(65_536), b""))
        except OSError:
            answer = b""
        assert b" 200 " not in answer
        assert time.monotonic() - begun_s < 30


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_page(http_address: tuple[str, int], path: str):
    asked, told = send_request(http_address, "HEAD", path), send_request(http_address, "GET", path)
    assert (asked.status, asked.body) == (200, b"")
    assert told.status == 200
    assert asked.headers["Content-Type"] == told.headers["Content-Type"]
    assert int(asked.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_not_allowed(http_address: tuple[str, int], method: str):
    told = send_request(http_address, method, "/readyz")
    assert (told.status, told.headers["Allow"]) == (405, "GET, HEAD")


def test_method_that_nobody_knows_is_not_implemented(http_address: tuple[str, int]):
    assert send_request(http_address, "BREW", "/readyz").status == 501
