"""Tests of syncs and writes of SQLite's files that fail, are delayed or pretended: no acknowledged write is lost.

`tests/support/faults/disks.py` describes the faults. `make prove` runs two hundred cycles of all kinds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import grpc
import pytest

from storekeep.server.store.sqlite.syncs import SYNC_FAILED, SyncedPasses
from storekeep.v1 import orders_pb2
from tests.conftest import MakeServer
from tests.support.buyers import Buyers, open_shop, verify
from tests.support.clusters import await_condition
from tests.support.faults.cycles import FAULTS, MAY_FAIL, Fault, run_cycle
from tests.support.faults.disks import ALWAYS, DATABASE, LOG, Call, FaultyDisk, Kind
from tests.support.processes import STOP_TIMEOUT_S, ServerProcess
from tests.support.shops import Shop, new_request_id

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL has files of its own, and does so itself")
QUICK = [fault for fault in FAULTS if fault.kind is Kind.FAIL]


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    return FaultyDisk(tmp_path / "disk")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that keep the database open until the end of the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


def logged(server: ServerProcess, text: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if text in str(line.get("message"))]


def test_faults_of_each_kind_lose_nothing_acknowledged(make_server: MakeServer, disk: FaultyDisk):
    buyers = Buyers(make_server(environment=disk.environment), no_answer=MAY_FAIL)
    for fault in QUICK:
        cycle = run_cycle(buyers, disk, fault._replace(skip_max=min(fault.skip_max, 20)), goes_on_max_s=0.2)
        assert cycle.is_hit, fault
        assert cycle.exit_code == (SYNC_FAILED if fault.is_fatal else None), fault
    buyers.check()


def test_failed_sync_of_the_log_is_not_answered_and_the_retry_is_done_once(make_server: MakeServer, disk: FaultyDisk):
    server = make_server(environment=disk.environment)
    with open_shop(server) as shop:
        request = shop.order_request(request_id=new_request_id())
        disk.order(Kind.FAIL, Call.SYNC, LOG)
        with pytest.raises(grpc.RpcError) as broken_off:
            shop.orders.PlaceOrder(request)
    assert broken_off.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "storekeep" not in str(broken_off.value.trailing_metadata()), "the server itself has said nothing"
    assert server.process.wait(STOP_TIMEOUT_S) == SYNC_FAILED
    (line,) = logged(server, "a sync of the database failed")
    assert line["level"] == "CRITICAL"
    assert line["exit_code"] == SYNC_FAILED
    disk.heal()
    server.start()
    with open_shop(server) as shop:
        placed = shop.orders.PlaceOrder(request)
        assert shop.orders.PlaceOrder(request) == placed
    verify(server)


HOLD = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("SELECT COUNT(*) FROM orders").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


def test_failed_sync_of_a_checkpoint_loses_nothing_though_others_keep_the_index_of_the_log(
    make_server: MakeServer, disk: FaultyDisk, reader: list[subprocess.Popen[bytes]]
):
    """A process that has the database open keeps the -shm file, which records how much of the log is copied."""
    buyers = Buyers(make_server(environment=disk.environment), no_answer=MAY_FAIL)
    command = [sys.executable, "-c", HOLD, str(buyers.server.database.path)]
    reader.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert reader[0].stdout is not None
    assert reader[0].stdout.readline() == b"open\n"
    fault = Fault(Kind.FAIL, Call.SYNC, DATABASE, 3, 1, is_fatal=True)
    for _ in range(2):
        assert run_cycle(buyers, disk, fault, goes_on_max_s=0.2).exit_code == SYNC_FAILED
    buyers.check()
    assert reader[0].poll() is None


def test_slow_sync_only_delays_answers(make_server: MakeServer, disk: FaultyDisk):
    server = make_server(environment=disk.environment)
    with open_shop(server) as shop:
        request = shop.order_request()
        disk.order(Kind.DELAY, Call.SYNC, LOG, delay_ms=300)
        begun_s = time.monotonic()
        placed = shop.orders.PlaceOrder(request)
        assert disk.hits == 1
        assert time.monotonic() - begun_s >= 0.3
        assert shop.get_order(placed) == placed
    assert server.process.poll() is None


def test_slow_sync_of_a_checkpoint_holds_nobody_up(make_server: MakeServer, disk: FaultyDisk):
    buyers = Buyers(make_server(environment=disk.environment))
    with buyers.buying():
        disk.order(Kind.DELAY, Call.SYNC, DATABASE, delay_ms=3_000)
        assert disk.await_hit()
        before = len(buyers.account.acknowledged)
        await_condition(
            lambda: len(buyers.account.acknowledged) > before + 20, lambda: "orders wait for the checkpoint"
        )
        buyers.server.kill()
    disk.heal()
    buyers.server.start()
    buyers.check()


def test_sync_that_fails_ends_one_worker_and_syncs_that_keep_failing_acknowledge_nothing(
    make_server: MakeServer, disk: FaultyDisk
):
    server = make_server("--workers", "2", environment=disk.environment)
    with open_shop(server) as shop:
        request = shop.order_request(request_id=new_request_id())
        disk.order(Kind.FAIL, Call.SYNC, LOG, times=ALWAYS)

        def have_two_died() -> bool:
            with pytest.raises(grpc.RpcError):
                shop.orders.PlaceOrder(request)
            return len(logged(server, "a worker died")) >= 2

        await_condition(have_two_died, lambda: "no worker has ended")
    disk.heal()
    assert server.process.poll() is None
    assert {line["exit_code"] for line in logged(server, "a worker died")} == {SYNC_FAILED}
    with open_shop(server) as shop:
        await_condition(lambda: is_placed(shop, request), lambda: "nobody writes")
    verify(server)


def is_placed(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> bool:
    try:
        return shop.orders.PlaceOrder(request) == shop.orders.PlaceOrder(request)
    except grpc.RpcError:
        return False


def test_pass_that_does_not_reach_the_end_counts_only_when_the_database_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[int, int, int]] = []
    path = str(tmp_path / "some.db")
    with (
        closing(apsw.Connection(path)) as writer,
        closing(apsw.Connection(path)) as copier,
        closing(apsw.Connection(path)) as reader,
    ):
        for sql in ("PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0", "CREATE TABLE rows (content)"):
            writer.execute(sql).fetchall()
        writer.execute("INSERT INTO rows VALUES (zeroblob(1000000))")
        copier.execute("SELECT COUNT(*) FROM rows").fetchall()
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM rows").fetchall()
        writer.execute("INSERT INTO rows VALUES (zeroblob(1000000))")
        passes = SyncedPasses(copier)
        sync = passes._sync

        def watched(file: object, flags: int) -> int:
            seen.append(writer.execute("PRAGMA wal_checkpoint(NOOP)").fetchone())
            return int(sync(file, flags))

        monkeypatch.setattr(passes, "_sync", watched)
        copier.execute("PRAGMA wal_checkpoint(PASSIVE)")
        _, pages, copied = writer.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    assert pages > copied > 200
    assert [copied for _, _, copied in seen] == [0]
