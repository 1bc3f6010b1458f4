"""Failover: a synchronous replica replaces the dead primary; no acknowledged order is lost or duplicated."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from storekeep.server.store.errors import StorageUnavailable
from storekeep.server.store.limits import Limits
from storekeep.server.store.opening import open_store
from storekeep.server.store.postgresql.endpoint import Endpoint
from storekeep.server.store.postgresql.errors import ConnectionLost
from storekeep.server.store.sql.transactions import Transaction
from storekeep.v1 import orders_pb2
from tests.support.buyers import list_orders, open_shop, verify
from tests.support.databases import PostgresDatabase
from tests.support.failovers import OrderCallers, serve
from tests.support.refusals import parse_refusal
from tests.support.replication import Replication, ask, await_true, promote, run_replication
from tests.support.shops import new_request_id

CONNECT_TIMEOUT_S = 2.0
PATIENCE_S = 60.0
LIMITS = Limits(pool_size=1, connect_timeout_s=CONNECT_TIMEOUT_S)
pytestmark = pytest.mark.engine("postgresql", reason="SQLite has no replica that could take over")


@pytest.fixture
def replication(engine: str) -> Iterator[Replication]:
    with run_replication(synchronous_standby_names="*") as made:
        yield made


def test_failover_loses_no_acknowledged_order_and_doubles_none(replication: Replication, tmp_path: Path):
    server = serve(replication, tmp_path)
    orderers = OrderCallers(server)
    with orderers.ordering():
        orderers.await_orders()
        replication.fail_over()
        orderers.await_orders()
    assert "the database refused a batch of writes" in server.log(), "nobody noticed"
    orderers.check()
    server.kill()


WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.mark.parametrize("rpc", ["PlaceOrder", "ConfirmOrder"])
def test_change_that_the_replica_has_not_confirmed_is_not_acknowledged(
    rpc: str, replication: Replication, tmp_path: Path
):
    server = serve(replication, tmp_path, database_statement_timeout_s="2", database_lock_timeout_s="1")
    (replica,) = replication.replicas
    with open_shop(server) as shop, ThreadPoolExecutor(1) as pool:
        wanted = shop.order_request(request_id=new_request_id())
        request: Any = wanted
        if rpc == "ConfirmOrder":
            name = shop.orders.PlaceOrder(wanted).name
            request = orders_pb2.ConfirmOrderRequest(name=name, request_id=new_request_id())
        before = list_orders(shop, customer=wanted.customer)
        replica.stop()

        def changes_primary_alone() -> bool:
            """Cancel all waits for the replica, so that commits succeed on the primary alone, with a warning."""
            asked = pool.submit(is_refused, shop.stub(rpc), request)
            while not wait([asked], timeout=0.02).done:
                ask(replication.primary, f"SELECT pg_cancel_backend(pid) FROM ({WAITING})")
            assert asked.result()
            return list_orders(shop, customer=wanted.customer) != before

        await_true(changes_primary_alone)  # on a busy host, the change may be undone before its commit
        assert is_refused(shop.stub(rpc), request), "its retry was acknowledged, and no replica has it"
        replica.start()
        await_true(lambda: not is_refused(shop.stub(rpc), request))
        assert len(list_orders(shop, customer=wanted.customer)) == 1
    verify(server)
    server.kill()


def is_refused(call: Callable[[Any], Any], request: Any) -> bool:
    """Return whether a change fails with STORAGE_UNAVAILABLE."""
    try:
        call(request)
    except grpc.RpcError as error:
        return parse_refusal(error).reason == "STORAGE_UNAVAILABLE"
    return False


def write_nothing(tx: Transaction) -> int:
    return tx.connection.execute("SELECT 1").fetchone()[0]


def test_store_on_a_server_that_takes_no_writes_writes_once_it_does(replication: Replication):
    (replica,) = replication.replicas
    with closing(open_store(replication.url(replica), limits=LIMITS)) as store:
        assert store.read(write_nothing) == 1
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                store.write(write_nothing)
        replication.primary.kill()
        promote(replica)
        assert store.write(write_nothing) == 1


def is_replica(url: str) -> bool:
    connection = Endpoint(url, LIMITS).connect(time.monotonic() + CONNECT_TIMEOUT_S)
    return connection.exec_(b"SELECT pg_is_in_recovery()").get_value(0, 0) == b"t"


def test_of_several_hosts_the_one_that_takes_writes_is_used(replication: Replication):
    (replica,) = replication.replicas
    assert is_replica(replication.url(replica))
    assert not is_replica(replication.url(replica, replication.primary))
    assert is_replica(f"{replication.url(replica, replication.primary)}?target_session_attrs=standby")


def test_of_several_hosts_none_of_which_takes_writes_none_is_used(replication: Replication):
    (replica,) = replication.replicas
    with pytest.raises(ConnectionLost, match="read-only"):
        is_replica(replication.url(replica, replica))


def count_connections(silent: socket.socket) -> int:
    """Return how many clients have connected to a socket since the last count."""
    silent.setblocking(False)
    number = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            silent.accept()[0].close()
            number += 1
    return number


def test_host_that_does_not_answer_leaves_time_for_the_next_one(database: PostgresDatabase):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{database.server.port}"
        endpoint = Endpoint(f"postgresql://postgres@{hosts}/{database.name}", LIMITS)
        endpoint.connect(time.monotonic() + PATIENCE_S).finish()
        assert count_connections(silent) == 1
        endpoint.connect(time.monotonic() + PATIENCE_S).finish()
        assert count_connections(silent) == 0, "the host that answered is not asked first"
