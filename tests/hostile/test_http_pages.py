"""The pages over HTTP while somebody asks them slowly, or asks for what there is not."""

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
def pages(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Where a server's pages are."""
    process = ServerProcess(tmp_path_factory.mktemp("pages"), metrics_listen="127.0.0.1:0")
    host, _, port = Cluster(process).pages.rpartition(":")
    yield host, int(port)
    process.kill()


def ask(pages: tuple[str, int], method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*pages, timeout=60)
    connection.request(method, path)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def test_slow_callers_block_no_probe(pages: tuple[str, int]):
    """Attack 10: sixteen connections that send a byte every two seconds; here as many as three times that."""
    slow = [socket.create_connection(pages) for _ in range(48)]
    for attacker in slow:
        attacker.sendall(b"GET /readyz HT")
    for _ in range(20):
        assert ask(pages, "GET", "/readyz").status == 200
    for attacker in slow:
        attacker.close()


def test_request_has_one_time_limit_for_all_of_it(pages: tuple[str, int]):
    with socket.create_connection(pages) as attacker:
        attacker.settimeout(0.1)
        attacker.sendall(b"GET /readyz HTTP/1.1\r\nx: ")
        wait_until(lambda: _is_cut_off(attacker), what="the slow caller is cut off")


def _is_cut_off(attacker: socket.socket) -> bool:
    """Send one more byte; whether the connection is over."""
    try:
        attacker.sendall(b"x")
        return attacker.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("line", [b"GET /" + b"x" * 100_000, b"GET /readyz HTTP/1.1\r\n" + b"x: y\r\n" * 10_000])
def test_request_that_is_too_long_is_cut_off(pages: tuple[str, int], line: bytes):
    with socket.create_connection(pages) as attacker:
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
def test_head_is_get_without_the_page(pages: tuple[str, int], path: str):
    asked, told = ask(pages, "HEAD", path), ask(pages, "GET", path)
    assert (asked.status, asked.body) == (200, b"")
    assert told.status == 200
    assert asked.headers["Content-Type"] == told.headers["Content-Type"]
    assert int(asked.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_not_allowed(pages: tuple[str, int], method: str):
    told = ask(pages, method, "/readyz")
    assert (told.status, told.headers["Allow"]) == (405, "GET, HEAD")


def test_method_that_nobody_knows_is_not_implemented(pages: tuple[str, int]):
    assert ask(pages, "BREW", "/readyz").status == 501
