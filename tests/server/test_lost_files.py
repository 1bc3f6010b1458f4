"""Files of SQLite that are deleted, moved or replaced under a running server: nothing is acknowledged that is not there."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.v1 import orders_pb2
from tests.buyers import open_shop, verify
from tests.clusters import await_that
from tests.conftest import MakeServer
from tests.processes import ServerProcess, run_command
from tests.refusals import refusal_of
from tests.shops import Shop, new_request_id

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL has files of its own")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ORDERS = 20


def fresh(request: orders_pb2.PlaceOrderRequest) -> orders_pb2.PlaceOrderRequest:
    """The same order once more, as another one."""
    again = orders_pb2.PlaceOrderRequest()
    again.CopyFrom(request)
    again.request_id = new_request_id()
    return again


def health_of(shop: Shop) -> int:
    stub = health_pb2_grpc.HealthStub(shop.bare_channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)


def await_health(shop: Shop, status: int) -> None:
    await_that(lambda: health_of(shop) == status, lambda: f"health is {health_of(shop)}")


def refused_reason(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        shop.orders.PlaceOrder(request)
    return refusal_of(refused.value).reason


def files_of(server: ServerProcess) -> list[Path]:
    return sorted(server.database.path.parent.glob(f"{server.database.path.name}*"))


def delete(server: ServerProcess) -> None:
    server.database.path.unlink()


def delete_log(server: ServerProcess) -> None:
    Path(f"{server.database.path}-wal").unlink()


def delete_index(server: ServerProcess) -> None:
    Path(f"{server.database.path}-shm").unlink()


def move_away(server: ServerProcess) -> None:
    server.database.path.rename(server.database.path.with_name("away"))


def move_folder(server: ServerProcess) -> None:
    server.data_dir.rename(server.data_dir.with_name("away"))


def replace(server: ServerProcess) -> None:
    path = server.database.path
    shutil.copy(path, path.with_name("other"))
    os.replace(path.with_name("other"), path)


def replace_log(server: ServerProcess) -> None:
    log = Path(f"{server.database.path}-wal")
    shutil.copy(log, log.with_name("other"))
    os.replace(log.with_name("other"), log)


LOSSES = (delete, delete_log, delete_index, move_away, move_folder, replace, replace_log)


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_lost_files_acknowledge_nothing_and_turn_health(make_server: MakeServer, lose: Callable[[ServerProcess], None]):
    server = make_server(health_interval_s="0.1")
    with open_shop(server) as shop:
        request = shop.order_request((shop.variant(stock=1_000).sku, 1))
        shop.orders.PlaceOrder(request)
        logged = server.log_file.open()
        lose(server)
        assert {refused_reason(shop, fresh(request)) for _ in range(ORDERS)} == {"STORAGE_UNAVAILABLE"}
        await_health(shop, NOT_SERVING)
        with pytest.raises(grpc.RpcError):
            shop.level(request.lines[0].sku)
        lines = [line for line in logged if "are not where they were opened" in line]
    logged.close()
    assert len(lines) == 1
    assert '"level":"ERROR"' in lines[0]
    assert str(server.database.path) in lines[0]


def test_files_that_are_put_back_are_served_again_without_a_restart(make_server: MakeServer):
    server = make_server(health_interval_s="0.1")
    path = server.database.path
    with open_shop(server) as shop:
        request = shop.order_request((shop.variant(stock=1_000).sku, 1))
        path.rename(path.with_name("away"))
        await_health(shop, NOT_SERVING)
        refused = fresh(request)
        assert refused_reason(shop, refused) == "STORAGE_UNAVAILABLE"
        assert not path.exists(), "nobody has made another one"
        path.with_name("away").rename(path)
        await_health(shop, SERVING)
        placed = shop.orders.PlaceOrder(refused)
        assert shop.orders.PlaceOrder(refused) == placed
    server.kill()
    server.start()
    with open_shop(server) as shop:
        assert shop.get_order(placed) == placed
    verify(server)


def test_deleted_database_can_be_saved_as_long_as_the_process_lives(make_server: MakeServer):
    """What was acknowledged before is copied to the open database at once, so that this file alone has all of it."""
    server = make_server(health_interval_s="0.1")
    with open_shop(server) as shop:
        request = shop.order_request((shop.variant(stock=1_000).sku, 1))
        placed = [shop.orders.PlaceOrder(fresh(request)) for _ in range(ORDERS)]
        for file in files_of(server):
            file.unlink()
        await_health(shop, NOT_SERVING)
        server.await_log("are not where they were opened")
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        deleted = f"{server.database.path} (deleted)"
        saved = server.data_dir / "saved"
        shutil.copy(next(one for one in descriptors.iterdir() if os.readlink(one) == deleted), saved)
    assert server.stop() == 0
    assert not server.database.path.exists()
    restored = server.run("restore", str(saved))
    assert restored.returncode == 0, restored.stderr
    server.start()
    with open_shop(server) as shop:
        assert [shop.get_order(order) for order in placed] == placed
    verify(server)


def test_deleted_log_loses_nothing_even_when_the_server_is_killed(make_server: MakeServer):
    server = make_server(health_interval_s="0.1")
    with open_shop(server) as shop:
        request = shop.order_request((shop.variant(stock=1_000).sku, 1))
        placed = [shop.orders.PlaceOrder(fresh(request)) for _ in range(ORDERS)]
        delete_log(server)
        await_health(shop, NOT_SERVING)
    server.kill()
    server.start()
    with open_shop(server) as shop:
        assert [shop.get_order(order) for order in placed] == placed
    verify(server)


def test_stopped_server_leaves_the_log_of_the_database_that_has_replaced_its_own(make_server: MakeServer):
    server = make_server(health_interval_s="0.1")
    path, log = server.database.path, Path(f"{server.database.path}-wal")
    with open_shop(server) as shop:
        shop.order()
        for file in files_of(server):
            file.rename(file.with_name(f"away-{file.name}"))
        path.write_bytes(b"another database")
        log.write_bytes(b"its log")
        await_health(shop, NOT_SERVING)
    assert server.stop() == 0
    assert path.read_bytes() == b"another database"
    assert log.read_bytes() == b"its log"


def test_workers_all_refuse_a_lost_file(make_server: MakeServer):
    server = make_server("--workers", "2", health_interval_s="0.1")
    with open_shop(server) as shop:
        request = shop.order_request((shop.variant(stock=1_000).sku, 1))
    move_away(server)
    away = server.database.path.with_name("away")
    asked = {"--each-worker"}
    await_that(lambda: states_of(server, *asked) == ["NOT_SERVING"] * 3, lambda: f"{states_of(server, *asked)}")
    for _ in range(ORDERS):
        with open_channel(server) as channel, pytest.raises(grpc.RpcError):
            Shop(channel, api_key=server.admin_key).orders.PlaceOrder(fresh(request))
    away.rename(server.database.path)
    await_that(lambda: states_of(server, *asked) == ["SERVING"] * 3, lambda: f"{states_of(server, *asked)}")
    with open_shop(server) as shop:
        assert shop.orders.PlaceOrder(request)
    verify(server)


def open_channel(server: ServerProcess) -> grpc.Channel:
    return grpc.insecure_channel(server.address, options=(("grpc.use_local_subchannel_pool", 1),))


def states_of(server: ServerProcess, *arguments: str) -> list[str]:
    told = server.run("healthcheck", "--address", server.address, *arguments)
    return [line.rpartition(": ")[2] for line in told.stdout.splitlines()]


def test_second_server_is_refused_though_the_locks_are_deleted(make_server: MakeServer):
    server = make_server()
    for file in server.data_dir.glob("*.lock"):
        file.unlink()
    second = run_command("serve", data_dir=server.data_dir, database_url=server.database.url)
    assert second.returncode == 1
    assert "is in use by another storekeep-server" in second.stderr
    with open_shop(server) as shop:
        assert shop.order()


def test_all_files_can_be_read_by_their_owner_only(make_server: MakeServer, tmp_path: Path):
    others = os.umask(0)
    try:
        server = make_server()
        with open_shop(server) as shop:
            shop.order()
        copy = tmp_path / "copy.db"
        assert server.run("backup", str(copy)).returncode == 0
        served = {file: stat.S_IMODE(file.stat().st_mode) for file in files_of(server)}
        server.stop()
        copy.chmod(0o644)
        server.database.path.chmod(0o644)  # as a release before this one has restored it
        assert server.run("restore", str(copy)).returncode == 0
    finally:
        os.umask(others)
    kept = {file: stat.S_IMODE(file.stat().st_mode) for file in files_of(server)}
    assert len(kept) > 3
    assert set((served | kept).values()) == {0o600}, served | kept
