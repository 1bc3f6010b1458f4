"""Tests of SQLite files that are deleted, moved or replaced under a running server, which must stop acknowledging."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.server.store.errors import StorageUnavailable
from storekeep.server.store.locks import DatabaseInUse, lock
from storekeep.server.store.opening import open_store
from storekeep.server.store.urls import make_sqlite_url
from storekeep.v1 import orders_pb2
from tests.conftest import MakeServer
from tests.support.buyers import open_shop, verify
from tests.support.clusters import Cluster, await_condition
from tests.support.databases import new_database
from tests.support.processes import ServerProcess, run_command
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop, new_request_id

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL has files of its own")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ORDERS = 20
WHOLE = "the open database file has every acknowledged write, without its log"


def fresh(request: orders_pb2.PlaceOrderRequest) -> orders_pb2.PlaceOrderRequest:
    """Return the same order with a new request_id."""
    again = orders_pb2.PlaceOrderRequest()
    again.CopyFrom(request)
    again.request_id = new_request_id()
    return again


def read_health(shop: Shop) -> int:
    stub = health_pb2_grpc.HealthStub(shop.bare_channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=60).status)


def await_health(shop: Shop, status: int) -> None:
    await_condition(lambda: read_health(shop) == status, lambda: f"health is {read_health(shop)}")


def find_refusal_reason(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        shop.orders.PlaceOrder(request)
    return parse_refusal(refused.value).reason


def list_files(server: ServerProcess) -> list[Path]:
    return sorted(server.database.path.parent.glob(f"{server.database.path.name}*"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that probes its database often, shared by the tests that restore its files."""
    server = ServerProcess(tmp_path_factory.mktemp("lost") / "data", health_interval_s="0.1")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def own_shop(served: ServerProcess) -> Iterator[Shop]:
    with open_shop(served) as opened:
        yield opened


def delete(file: Path) -> None:
    file.unlink()


def move_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("away"))


def replace(file: Path) -> None:
    shutil.copy(file, file.with_name("other"))
    os.replace(file.with_name("other"), file)


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
@pytest.mark.parametrize("lose", [delete, replace, move_folder], ids=lambda lose: lose.__name__)
def test_lost_file_acknowledges_nothing_until_it_is_put_back(
    served: ServerProcess, own_shop: Shop, lose: Callable[[Path], None], ending: str
):
    file = Path(f"{served.database.path}{ending}")
    folder, away = file.parent, file.parent.with_name("away")
    kept = folder.with_name("kept")
    request = own_shop.order_request((own_shop.variant(stock=1_000).sku, 1))
    with served.log_file.open() as log:
        log.seek(0, os.SEEK_END)
        os.link(file, kept)
        lose(file)
        refused = [fresh(request) for _ in range(ORDERS)]
        assert {find_refusal_reason(own_shop, one) for one in refused} == {"STORAGE_UNAVAILABLE"}
        await_health(own_shop, NOT_SERVING)
        with pytest.raises(grpc.RpcError):
            own_shop.level(request.lines[0].sku)
        assert not (lose is delete and file.exists()), "nobody has made another one"
        if away.exists():
            away.rename(folder)
        os.replace(kept, file)
        kept.unlink(missing_ok=True)  # another name of the same file
        await_health(own_shop, SERVING)
        placed = own_shop.orders.PlaceOrder(refused[0])
        lines = [line for line in log if "were moved, deleted or replaced while open" in line]
    assert own_shop.orders.PlaceOrder(refused[0]) == placed == own_shop.get_order(placed)
    assert len(lines) == 1
    assert '"level":"ERROR"' in lines[0]
    assert str(served.database.path) in lines[0]


def test_second_server_is_refused_though_the_locks_are_deleted(served: ServerProcess):
    for file in served.data_dir.glob("*.lock"):
        file.unlink()
    second = run_command("serve", data_dir=served.data_dir, database_url=served.database.url)
    assert second.returncode == 1
    assert "is in use by another storekeep-server" in second.stderr


def test_deleted_database_can_be_saved_as_long_as_the_process_lives(served: ServerProcess, own_shop: Shop):
    """The log is copied to the open database at once, so that this file alone has every acknowledged write."""
    request = own_shop.order_request((own_shop.variant(stock=1_000).sku, 1))
    placed = [own_shop.orders.PlaceOrder(fresh(request)) for _ in range(ORDERS)]
    with served.log_file.open() as log:
        log.seek(0, os.SEEK_END)
        for file in list_files(served):
            file.unlink()
        await_condition(lambda: "the open database file has every" in log.read(), lambda: served.log()[-4000:])
    await_health(own_shop, NOT_SERVING)
    deleted = f"{served.database.path} (deleted)"
    descriptors = Path(f"/proc/{served.process.pid}/fd")
    saved = served.data_dir / "saved"
    shutil.copy(find_descriptor(descriptors, deleted), saved)
    assert served.stop() == 0
    assert not served.database.path.exists()
    restored = served.run("restore", str(saved))
    assert restored.returncode == 0, restored.stderr
    served.start()
    with open_shop(served) as shop:
        assert [shop.get_order(order) for order in placed] == placed
    verify(served)


def find_descriptor(descriptors: Path, target: str) -> Path:
    return next(one for one in descriptors.iterdir() if os.readlink(one) == target)


def test_deleted_log_loses_nothing_even_when_the_server_is_killed(served: ServerProcess):
    with open_shop(served) as shop:
        request = shop.order_request((shop.variant(stock=1_000).sku, 1))
        placed = [shop.orders.PlaceOrder(fresh(request)) for _ in range(ORDERS)]
        before = served.log().count(WHOLE)
        Path(f"{served.database.path}-wal").unlink()
        await_health(shop, NOT_SERVING)
        await_condition(lambda: served.log().count(WHOLE) > before, served.log)
    served.kill()
    served.start()
    with open_shop(served) as shop:
        assert [shop.get_order(order) for order in placed] == placed
    verify(served)


def test_stopped_server_leaves_the_log_of_the_database_that_has_replaced_its_own(served: ServerProcess):
    path, log = served.database.path, Path(f"{served.database.path}-wal")
    with open_shop(served) as shop:
        placed = shop.order()
        away = {file: file.with_name(f"away-{file.name}") for file in (path, log, Path(f"{path}-shm"))}
        for file, elsewhere in away.items():
            file.rename(elsewhere)
        path.write_bytes(b"another database")
        log.write_bytes(b"its log")
        await_health(shop, NOT_SERVING)
    assert served.stop() == 0
    assert path.read_bytes() == b"another database"
    assert log.read_bytes() == b"its log"
    for file, elsewhere in away.items():
        elsewhere.rename(file)
    served.start()
    with open_shop(served) as shop:
        assert shop.get_order(placed) == placed


def test_workers_all_refuse_a_lost_file(make_server: MakeServer):
    server = make_server("--workers", "2", health_interval_s="0.1", metrics_listen="127.0.0.1:0")
    cluster = Cluster(server)
    away = server.database.path.with_name("away")

    def are_all(state: str) -> bool:
        return [worker["state"] for worker in cluster.workers()] == [state] * 2

    with open_shop(server) as shop:
        request = shop.order_request((shop.variant(stock=1_000).sku, 1))
        server.database.path.rename(away)
        await_condition(lambda: are_all("NOT_SERVING"), lambda: f"{cluster.workers()}")
        assert find_refusal_reason(shop, fresh(request)) == "STORAGE_UNAVAILABLE"
        away.rename(server.database.path)
        await_condition(lambda: are_all("SERVING"), lambda: f"{cluster.workers()}")
        assert shop.orders.PlaceOrder(request)
    verify(server)


def test_lock_whose_file_is_deleted_while_somebody_waits_is_held_by_one(tmp_path: Path):
    database = tmp_path / "some.db"
    holds, done = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with lock(database, purpose="write", wait_s=None):
            holds.set()
            done.wait(60)

    with lock(database, purpose="write"):
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        Path(f"{database}.write.lock").unlink()
    assert holds.wait(60)
    with pytest.raises(DatabaseInUse), lock(database, purpose="write"):
        pass
    done.set()
    waiting.join(60)


def test_file_without_a_schema_is_refused_when_it_is_opened(tmp_path: Path):
    path = new_database("sqlite", tmp_path).path
    path.write_bytes(path.read_bytes()[:100] + bytes(path.stat().st_size - 100))
    with pytest.raises(StorageUnavailable):
        open_store(make_sqlite_url(path))


def test_all_files_can_be_read_by_their_owner_only(make_server: MakeServer, tmp_path: Path):
    others = os.umask(0)
    try:
        server = make_server()
        with open_shop(server) as shop:
            shop.order()
        copy = tmp_path / "copy.db"
        assert server.run("backup", str(copy)).returncode == 0
        served = {file: stat.S_IMODE(file.stat().st_mode) for file in list_files(server)}
        server.stop()
        copy.chmod(0o644)
        server.database.path.chmod(0o644)  # as an earlier release restored it
        assert server.run("restore", str(copy)).returncode == 0
    finally:
        os.umask(others)
    kept = {file: stat.S_IMODE(file.stat().st_mode) for file in list_files(server)}
    assert len(kept) > 3
    assert set((served | kept).values()) == {0o600}, served | kept
