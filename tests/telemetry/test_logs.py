"""Logs: whole JSON lines, none lost at an orderly exit, no blocking, no credentials."""

from __future__ import annotations

import itertools
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

from storekeep.client import ApiKey, ApiKeyInvalid, NotFound, ServiceAccount, Storekeep, TokenRevoked
from storekeep.server.telemetry import logs
from storekeep.server.telemetry.logs import CallLog, LogWriter
from storekeep.v1 import products_pb2, products_pb2_grpc
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess

NUMBERS = itertools.count()

LOGGING = """
import logging, sys, threading, time
from pathlib import Path
from storekeep.server.telemetry.logs import Logs
logs = Logs(level="INFO", file=Path(sys.argv[1]), queue_max=1000)
logging.getLogger("test").info("begun", extra={"units": 3})
"""


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def run_logging(path: Path, *, then: str) -> list[dict]:
    """Run a process that logs and then ends as `then` says; return its lines."""
    subprocess.run([sys.executable, "-c", LOGGING + then, str(path)], capture_output=True, timeout=60)
    return lines(path.read_text())


def await_rpc_lines(server: ServerProcess, *, method: str) -> list[dict]:
    """Wait for the lines of one method's calls and return them."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        whole, _, _ = server.log().rpartition("\n")  # the last line may be half written
        found = [line for line in lines(whole) if line.get("method") == method]
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
    (line,) = await_rpc_lines(server, method="storekeep.v1.ProductService/SearchProducts")
    assert line["request_id"] == "mine-1"
    assert line["trace_id"] == trace
    assert (line["code"], line["reason"]) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert 0 < line["deadline_left_ms"] < 61_000  # gRPC rounds timeouts up
    assert line["duration_us"] > 0
    assert line["time"].endswith("Z")


def test_line_names_the_address_and_the_key_of_the_caller(server: ServerProcess):
    with Storekeep(server.address, api_key=server.admin_key) as client:
        client.auth.who_am_i()
    line = await_rpc_lines(server, method="storekeep.v1.AuthService/WhoAmI")[-1]
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert line["api_key"].startswith("serviceAccounts/admin/apiKeys/")
    assert line["caller"] == "serviceAccounts/admin"


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (f"00-{'1' * 32}-{'2' * 16}-01", "1" * 32),
        (f"cc-{'1' * 32}-{'2' * 16}-01", "1" * 32),
        (f"01-{'1' * 32}-{'2' * 16}-01-what-comes", "1" * 32),
        (f"00-{'1' * 32}-{'2' * 16}-01-what-comes", ""),
        (f"01-{'1' * 32}-{'2' * 16}-01what", ""),
        (f"ff-{'1' * 32}-{'2' * 16}-01", ""),
        (f"00-{'0' * 32}-{'2' * 16}-01", ""),
        (f"00-{'1' * 32}-{'0' * 16}-01", ""),
        (f"00-{'A' * 32}-{'2' * 16}-01", ""),
    ],
)
def test_trace_id_is_that_of_a_valid_traceparent(server: ServerProcess, given: str, seen: str):
    call_id = f"trace-{next(NUMBERS)}"
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
        products_pb2_grpc.ProductServiceStub(channel).GetProduct(
            products_pb2.GetProductRequest(name="products/a"),
            timeout=30,
            metadata=(("x-request-id", call_id), ("traceparent", given)),
        )
    server.await_log(call_id)
    (line,) = [line for line in lines(server.log()) if line.get("request_id") == call_id]
    assert line["trace_id"] == seen


def test_refused_key_and_refresh_token_are_named_without_their_secrets(server: ServerProcess):
    known = server.admin_key
    lookup_id = known.split("_")[1]
    wrong = known[:-6] + ("aaaaaa" if not known.endswith("aaaaaa") else "bbbbbb")
    misplaced = [known.split("_")[2], f"{known}x", f"sk_{known.split('_')[2]}_{lookup_id}", f"sk_{'é' * 16}_{'a' * 43}"]
    with Storekeep(server.address) as client:
        tokens = client.auth.issue_token(known)
        client.auth.refresh_token(tokens.refresh_token)
        with pytest.raises(TokenRevoked):
            client.auth.refresh_token(tokens.refresh_token)
        for key in (wrong, *misplaced):
            with pytest.raises(ApiKeyInvalid):
                client.auth.issue_token(key)
    give_up = time.monotonic() + 60
    while True:
        issued = [line for line in lines(server.log()) if line.get("method") == "storekeep.v1.AuthService/IssueToken"]
        refused = [line for line in issued if line["reason"] == "API_KEY_INVALID"]
        if len(refused) == 1 + len(misplaced):
            break
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert [line.get("lookup_id") for line in refused] == [lookup_id] + [None] * len(misplaced)
    assert {line["lookup_id"] for line in issued if line["code"] == "OK"} == {lookup_id}
    refreshes = await_rpc_lines(server, method="storekeep.v1.AuthService/RefreshToken")
    (line,) = [line for line in refreshes if line["reason"]]
    assert len(line["session_id"]) == 36
    for secret in (known.split("_")[2], wrong.split("_")[2], tokens.refresh_token, tokens.access_token, *misplaced):
        assert secret not in server.log()


def test_no_log_holds_a_key_or_a_token(server: ServerProcess):
    with Storekeep(server.address, api_key=server.admin_key) as client:
        with pytest.raises(NotFound):
            client.products.get("products/none")
        account = client.auth.create_service_account(ServiceAccount(display_name="Shop", roles=["roles/viewer"]))
        key = client.auth.create_api_key(account.name, ApiKey(display_name="Key")).secret
    await_rpc_lines(server, method="storekeep.v1.AuthService/CreateApiKey")
    log = server.log()
    assert server.admin_key not in log
    assert key not in log
    assert "eyJ" not in log


@pytest.mark.engine("sqlite", reason="lines are written alike whatever is served")
def test_lines_of_an_orderly_end_are_all_there(make_server: MakeServer):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        for _ in range(50):
            list(client.products.list())
    assert server.stop() == 0
    logged = lines(server.log())
    assert sum(line.get("method") == "storekeep.v1.ProductService/ListProducts" for line in logged) == 50
    assert logged[-1]["message"] == "stopped"


@pytest.mark.engine("sqlite", reason="lines are written alike whatever is served")
def test_level_leaves_lesser_lines_out(make_server: MakeServer):
    server = make_server(log_level="ERROR")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        list(client.products.list())
    server.stop()
    assert server.log() == ""


def test_pipe_that_nobody_reads_is_waited_for_once(monkeypatch: pytest.MonkeyPatch):
    wait_s = 2.0
    monkeypatch.setattr("storekeep.server.telemetry.logs.FLUSH_TIMEOUT_S", wait_s)
    reader, descriptor = os.pipe()
    writer = LogWriter(descriptor, queue_max=1_000)
    for _ in range(100):
        writer.put(b"x" * 10_000)
    begun_s = time.monotonic()
    writer.close()
    writer.close()  # as on interpreter exit
    assert time.monotonic() - begun_s < 3 * wait_s
    os.close(reader)


def test_log_file_that_was_moved_away_is_begun_anew_by_all_who_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("storekeep.server.telemetry.logs.CHECK_INTERVAL_S", 0.0)
    file, moved = tmp_path / "storekeep.log", tmp_path / "storekeep.log.1"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    writers = [LogWriter(os.open(file, flags), queue_max=10, file=file) for _ in range(2)]
    for written in (file, moved):
        if written is moved:
            file.rename(moved)
        for writer in writers:
            writer.put(b"a line")
            writer.flush()
    file.unlink()
    for writer in writers:
        writer.put(b"the last line")
        writer.close()
    assert moved.read_text() == "a line\na line\n"
    assert file.read_text() == "the last line\nthe last line\n"


@pytest.mark.engine("sqlite", reason="lines are written alike whatever is served")
def test_log_file_is_added_to(make_server: MakeServer, tmp_path):
    server = make_server(log_file=str(tmp_path / "logs" / "storekeep.log"))
    server.restart()
    server.stop()
    messages = [line["message"] for line in lines((tmp_path / "logs" / "storekeep.log").read_text())]
    assert messages == ["audit log signed", *["listening", "draining", "stopped"] * 2]


@pytest.mark.engine("sqlite", reason="lines are written alike whatever is served")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_log_file_that_logrotate_moved_is_begun_anew_at_sighup(make_server: MakeServer, tmp_path, workers: str):
    file = tmp_path / "storekeep.log"
    server = make_server(log_file=str(file), workers=workers)
    await_text(file, "listening")
    moved = file.rename(tmp_path / "storekeep.log.1")
    server.process.send_signal(signal.SIGHUP)
    text = "no settings have changed" if workers == "1" else "settings reloaded"
    await_text(file, text)
    server.stop()
    end = '"stopped"' if workers == "1" else '"stopping"'
    assert (text in moved.read_text(), end in moved.read_text()) == (False, False)
    assert end in file.read_text()


def await_text(file: Path, text: str) -> None:
    give_up_s = time.monotonic() + 60
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < give_up_s, text
        time.sleep(0.02)


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
    requests = CallLog(log, level=20)
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


def test_exit_waits_once_for_a_pipe_without_a_reader(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "FLUSH_TIMEOUT_S", 0.2)
    reading_end, writing_end = os.pipe()
    writer = LogWriter(writing_end, queue_max=10)
    writer.put(b"x" * 1_000_000)
    writer.close()
    monkeypatch.setattr(logs, "FLUSH_TIMEOUT_S", 120.0)
    started_s = time.monotonic()
    writer.flush()  # as `logging` does at the exit
    assert time.monotonic() - started_s < 60
    os.close(reading_end)  # the writer's thread ends with EPIPE
