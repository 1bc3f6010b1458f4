"""Logs: whole JSON lines, none lost at an orderly end, none waited for, and no credential in any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from storekeep.client import ApiKey, NotFound, ServiceAccount, Storekeep
from storekeep.server.logs import LogWriter, RequestLog
from storekeep.v1 import products_pb2, products_pb2_grpc
from tests.conftest import MakeServer
from tests.processes import ServerProcess

LOGGING = """
import logging, sys, threading, time
from pathlib import Path
from storekeep.server.logs import Logs
logs = Logs(level="INFO", file=Path(sys.argv[1]), queue_max=1000)
logging.getLogger("test").info("begun", extra={"units": 3})
"""


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def run_logging(path: Path, *, then: str) -> list[dict]:
    """A process of its own that logs, and then ends in some way."""
    subprocess.run([sys.executable, "-c", LOGGING + then, str(path)], capture_output=True, timeout=60)
    return lines(path.read_text())


def rpc_lines(server: ServerProcess, *, method: str) -> list[dict]:
    """The lines of one method's calls, once they are written."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        found = [line for line in lines(server.log()) if line.get("method") == method]
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no line of {method}")


def test_rpc_is_one_line_with_what_is_known_of_it(server: ServerProcess):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with grpc.insecure_channel(server.address) as channel:
        stub = products_pb2_grpc.ProductServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.SearchProducts(
                products_pb2.SearchProductsRequest(query="tea"),
                timeout=60,
                metadata=(("x-request-id", "mine-1"), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01")),
            )
    (line,) = rpc_lines(server, method="storekeep.v1.ProductService/SearchProducts")
    assert line["request_id"] == "mine-1"
    assert line["trace_id"] == trace
    assert (line["code"], line["reason"]) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert 0 < line["deadline_left_ms"] <= 60_000
    assert line["duration_us"] > 0
    assert line["time"].endswith("Z")


def test_no_log_holds_a_key_or_a_token(server: ServerProcess):
    with Storekeep(server.address, api_key=server.admin_key) as client:
        with pytest.raises(NotFound):
            client.products.get("products/none")
        account = client.auth.create_service_account(ServiceAccount(display_name="Shop", roles=["roles/viewer"]))
        key = client.auth.create_api_key(account.name, ApiKey(display_name="Key")).secret
    rpc_lines(server, method="storekeep.v1.AuthService/CreateApiKey")
    log = server.log()
    assert server.admin_key not in log
    assert key not in log
    assert "eyJ" not in log


def test_lines_of_an_orderly_end_are_all_there(make_server: MakeServer):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        for _ in range(50):
            list(client.products.list())
    assert server.stop() == 0
    logged = lines(server.log())
    assert sum(line.get("method") == "storekeep.v1.ProductService/ListProducts" for line in logged) == 50
    assert logged[-1]["message"] == "stopped"


def test_level_leaves_lesser_lines_out(make_server: MakeServer):
    server = make_server(log_level="ERROR")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        list(client.products.list())
    server.stop()
    assert server.log() == ""


def test_log_file_is_added_to(make_server: MakeServer, tmp_path):
    server = make_server(log_file=str(tmp_path / "logs" / "storekeep.log"))
    server.restart()
    server.stop()
    messages = [line["message"] for line in lines((tmp_path / "logs" / "storekeep.log").read_text())]
    assert messages == ["listening", "draining", "stopped"] * 2


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", "ZeroDivisionError"),
    ],
)
def test_uncaught_exception_is_logged_with_what_was_queued(tmp_path, then, told):
    begun, crashed = run_logging(tmp_path / "log", then=then)
    assert (begun["message"], begun["units"], begun["level"]) == ("begun", 3, "INFO")
    assert crashed["level"] == "CRITICAL"
    assert told in crashed["exception"]


def test_crash_of_the_interpreter_shows_where(tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-c",
            LOGGING + f"time.sleep(0.2)\nimport os; os.kill(os.getpid(), {signal.SIGSEGV.value})",
            str(tmp_path / "log"),
        ],
        capture_output=True,
        timeout=60,
    )
    assert "Fatal Python error: Segmentation fault" in (tmp_path / "log").read_text()


def test_full_queue_drops_and_counts_and_never_waits():
    reader, writer = os.pipe()
    os.set_blocking(reader, True)
    log = LogWriter(writer, queue_max=100)
    requests = RequestLog(log, level=20)
    started = time.monotonic()
    for number in range(20_000):
        requests.write({"message": "x" * 100, "number": number})
    assert time.monotonic() - started < 30
    read: list[bytes] = []
    drain = threading.Thread(target=lambda: read.extend(iter(lambda: os.read(reader, 65536), b"")), daemon=True)
    drain.start()
    log.close()
    os.close(writer)
    drain.join(timeout=60)
    os.close(reader)
    written = lines(b"".join(read).decode())
    dropped = sum(line["lines"] for line in written if line["message"] == "lines dropped")
    assert dropped > 0
    assert dropped + sum("number" in line for line in written) == 20_000


def test_writer_whose_reader_is_gone_harms_nobody():
    reader, writer = os.pipe()
    os.close(reader)
    log = LogWriter(writer, queue_max=100)
    for _ in range(200):
        log.put(b"{}")
    log.close()
    os.close(writer)
