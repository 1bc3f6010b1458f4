"""Tests of reads with bounded staleness, on a primary with a real streaming replica whose replay a test can pause.

A paused replica shows older data, so each answer tells which server it came from.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from storekeep.client import Customer, SkuNotFound, Storekeep
from storekeep.server.interceptors.freshness import CONSISTENCY_METADATA_KEY
from storekeep.v1 import customers_pb2, orders_pb2
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess
from tests.support.replication import Replication, ask, await_true, run_replication
from tests.support.shops import Shop, new_id, new_request_id
from tests.support.stores import KEK

OLD_S = 3_600.0
"""A staleness bound that every answer in a test meets."""
FRESH_S = 1.0
SECRET = "9b1c40f7d2e35a86e07f4c1d93b2a658-of-tests"
pytestmark = pytest.mark.engine("postgresql", reason="SQLite has no replicas")


@pytest.fixture(scope="module")
def replication(engine: str) -> Iterator[Replication]:
    with run_replication() as made:
        yield made


@pytest.fixture(scope="module")
def server(replication: Replication, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    made = serve(replication, tmp_path_factory.mktemp("server"))
    await_true(lambda: count_connections(replication.replicas[0]) > 0)  # it is polled, so later changes are known
    yield made
    made.kill()


@pytest.fixture
def other(server: ServerProcess) -> Iterator[Storekeep]:
    """A client without writes."""
    with Storekeep(server.address, api_key=server.admin_key) as opened:
        yield opened


@pytest.fixture(scope="module")
def shop(server: ServerProcess, channel: grpc.Channel) -> Shop:
    return Shop(channel, api_key=server.admin_key)


def serve(replication: Replication, folder: Path, **settings: str) -> ServerProcess:
    urls = " ".join(replication.url(replica) for replica in replication.replicas)
    shared = {"secret": SECRET, "kek": KEK.decode()}
    settings = shared | {"database_replica_urls": urls, "database_replica_interval_s": "0.1"} | settings
    return ServerProcess(folder, database=replication.database, **settings)


@contextmanager
def pause_replay(replication: Replication, client: Storekeep, other: Storekeep) -> Iterator[str]:
    """Pause the replica and wait until the server knows. Yields a customer renamed from Old to New."""
    name = client.customers.create(Customer(display_name="Old"), customer_id=new_id("u")).name
    replica = replication.replicas[0]
    replication.await_replay(replica)
    ask(replica, "SELECT pg_wal_replay_pause()")
    await_true(lambda: ask(replica, "SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
    try:
        rename(client, name, "New")
        await_true(lambda: read_name(other, name, max_staleness_s=OLD_S) == "Old")
        yield name
    finally:
        ask(replica, "SELECT pg_wal_replay_resume()")


def rename(client: Storekeep, name: str, display_name: str) -> Customer:
    return client.customers.update(Customer(name=name, display_name=display_name), update_mask=["display_name"])


def read_name(client: Storekeep, name: str, **options: Any) -> str:
    return client.customers.get(name, **options).display_name


def test_read_that_may_be_old_is_answered_by_the_replica(replication: Replication, client: Storekeep, other: Storekeep):
    with pause_replay(replication, client, other) as name:
        assert read_name(other, name, max_staleness_s=OLD_S) == "Old"
        assert [c.display_name for c in other.customers.batch_get([name], max_staleness_s=OLD_S)] == ["Old"]
        listed = other.customers.list(filter='display_name = "New"', max_staleness_s=OLD_S)
        assert name not in [customer.name for customer in listed]


def test_read_without_max_staleness_is_answered_by_the_primary(
    replication: Replication, client: Storekeep, other: Storekeep
):
    with pause_replay(replication, client, other) as name:
        assert read_name(other, name) == "New"
        assert read_name(other, name, max_staleness_s=0) == "New"


def test_read_is_never_older_than_it_may_be(replication: Replication, client: Storekeep, other: Storekeep):
    with pause_replay(replication, client, other) as name:
        time.sleep(FRESH_S)
        assert read_name(other, name, max_staleness_s=FRESH_S) == "New"
        assert read_name(other, name, max_staleness_s=OLD_S) == "Old"


def test_read_after_own_write_shows_it(replication: Replication, client: Storekeep, other: Storekeep):
    with pause_replay(replication, client, other) as name:
        assert read_name(other, name, max_staleness_s=OLD_S) == "Old"
        rename(other, name, "Newest")
        assert read_name(other, name, max_staleness_s=OLD_S) == "Newest"


def test_read_after_another_client_handed_its_position_on_shows_its_write(
    replication: Replication, client: Storekeep, other: Storekeep
):
    with pause_replay(replication, client, other) as name:
        assert read_name(other, name, max_staleness_s=OLD_S) == "Old"
        other.remember_consistency_token(client.consistency_token)
        assert read_name(other, name, max_staleness_s=OLD_S) == "New"


def test_retry_tells_the_position_of_what_it_repeats(replication: Replication, client: Storekeep, other: Storekeep):
    with pause_replay(replication, client, other) as name:
        change = {"update_mask": ["display_name"], "request_id": new_request_id()}
        client.customers.update(Customer(name=name, display_name="Newest"), **change)
        other.customers.update(Customer(name=name, display_name="Newest"), **change)
        assert other.consistency_token >= client.consistency_token
        assert read_name(other, name, max_staleness_s=OLD_S) == "Newest"


def test_events_continue_after_a_cursor_that_the_replica_does_not_have(
    replication: Replication, client: Storekeep, other: Storekeep
):
    """The primary answers: the replica has not lost the event, it is behind."""
    with pause_replay(replication, client, other) as name:
        cursor = client.events.list(order_by="sequence desc", page_size=1).page().items[0].cursor
        assert not list(other.events.list(cursor=cursor, max_staleness_s=OLD_S))
        rename(client, name, "Newest")
        assert [event.resource for event in other.events.list(cursor=cursor, max_staleness_s=OLD_S)] == [name]
        with other.events.watch(cursor=cursor, max_staleness_s=OLD_S) as stream:
            assert next(stream).resource == name


def test_dry_run_returns_no_consistency_token_beyond_the_ledger(replication: Replication, client: Storekeep):
    customer = client.customers.create(Customer(display_name="Tried"))
    client.customers.delete(customer.name, validate_only=True)
    assert [(client.consistency_token,)] == ask(replication.primary, "SELECT MAX(sequence) FROM audit_entries")


@pytest.mark.parametrize(
    ("metadata", "display_name"),
    [
        ((), "New"),
        (((CONSISTENCY_METADATA_KEY, "0"),), "Old"),
        (((CONSISTENCY_METADATA_KEY, "0"), (CONSISTENCY_METADATA_KEY, "999999999")), "New"),
        (((CONSISTENCY_METADATA_KEY, "-1"),), "New"),
        (((CONSISTENCY_METADATA_KEY, "much"),), "New"),
        (((CONSISTENCY_METADATA_KEY, "9" * 40),), "New"),
    ],
)
def test_read_of_a_bare_stub_is_answered_by_the_replica_only_if_it_says_what_it_wrote(
    metadata: tuple[tuple[str, str], ...],
    display_name: str,
    replication: Replication,
    client: Storekeep,
    other: Storekeep,
    shop: Shop,
):
    with pause_replay(replication, client, other) as name:
        request = customers_pb2.GetCustomerRequest(name=name, max_staleness={"seconds": round(OLD_S)})
        assert shop.customers.GetCustomer(request, metadata=metadata).display_name == display_name


def test_mutation_never_reads_from_a_replica(replication: Replication, client: Storekeep, other: Storekeep, shop: Shop):
    anything = ((CONSISTENCY_METADATA_KEY, "0"),)
    with pause_replay(replication, client, other) as name:
        sku = shop.variant(stock=1).sku
        request = shop.order_request((sku, 1), customer=name)
        order = shop.orders.PlaceOrder(request, metadata=anything)
        assert order.lines[0].sku == sku
        current = shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name))
        current.display_name = "Newest"
        changed = shop.customers.UpdateCustomer(
            customers_pb2.UpdateCustomerRequest(customer=current), metadata=anything
        )
        assert changed.display_name == "Newest"
        confirm = orders_pb2.ConfirmOrderRequest(name=order.name, etag=order.etag)
        assert shop.orders.ConfirmOrder(confirm, metadata=anything).state == orders_pb2.ORDER_STATE_CONFIRMED
        assert shop.level(sku).available == 0


def test_what_is_new_is_not_found_on_the_replica_and_found_on_the_primary(
    replication: Replication, client: Storekeep, other: Storekeep, shop: Shop
):
    with pause_replay(replication, client, other):
        sku = shop.variant(stock=3).sku
        with pytest.raises(SkuNotFound):
            other.inventory.check_availability([sku], max_staleness_s=OLD_S)
        assert other.inventory.check_availability([sku])[0].available == 3


def test_replica_that_goes_on_is_read_again(replication: Replication, client: Storekeep, other: Storekeep):
    with pause_replay(replication, client, other) as name:
        time.sleep(FRESH_S)
        assert read_name(other, name, max_staleness_s=FRESH_S) == "New"
    with pause_replay(replication, client, other) as name:
        assert read_name(other, name, max_staleness_s=OLD_S) == "Old"


def test_doctor_names_a_replica_that_is_behind(replication: Replication, client: Storekeep, other: Storekeep, server):
    with pause_replay(replication, client, other):
        (late,) = find_findings(server, "replicas")
    assert (late["severity"], late["what"].partition(": ")[2]) == (
        "WARNING",
        "it is behind every recorded state of the primary",
    )


def test_doctor_names_a_standby_in_place_of_the_primary(replication: Replication, server: ServerProcess):
    found = find_findings(server, "postgresql", database_url=replication.url(replication.replicas[0]))
    assert "the database is a standby, which accepts no changes" in [one["what"] for one in found]


def find_findings(server: ServerProcess, area: str, **settings: str) -> list[dict[str, str]]:
    """Return what `doctor` finds in one area."""
    findings = json.loads(server.run("doctor", "--json", **settings).stdout)["findings"]
    return [finding for finding in findings if finding["area"] == area]


def test_replica_that_dies_in_the_middle_of_reads_is_not_noticed(engine: str, tmp_path: Path):
    with run_replication() as own:
        server = serve(own, tmp_path, log_level="DEBUG")
        failures: list[BaseException] = []
        stop = threading.Event()
        with Storekeep(server.address, api_key=server.admin_key) as client:
            name = client.customers.create(Customer(display_name="There")).name

            def read() -> None:
                try:
                    while not stop.is_set():
                        assert read_name(client, name, max_staleness_s=OLD_S) == "There"
                except BaseException as failure:  # noqa: BLE001 - it is raised again below
                    failures.append(failure)

            readers = [threading.Thread(target=read) for _ in range(4)]
            for thread in readers:
                thread.start()
            await_true(lambda: count_connections(own.replicas[0]) > 1)
            own.replicas[0].kill()
            server.await_log("a read of a replica goes to the primary")
            time.sleep(FRESH_S)
            stop.set()
            for thread in readers:
                thread.join()
        assert not failures
        server.kill()


def test_read_for_which_the_replica_has_no_connection_free_is_answered_by_the_primary_at_once(
    replication: Replication, server: ServerProcess, client: Storekeep, tmp_path: Path
):
    name = client.customers.create(Customer(display_name="There")).name
    narrow = serve(replication, tmp_path, database_replica_pool_size="1")
    with Storekeep(narrow.address, api_key=server.admin_key) as many, ThreadPoolExecutor(16) as pool:

        def read(_number: int) -> float:
            begun = time.monotonic()
            assert read_name(many, name, max_staleness_s=OLD_S) == "There"
            return time.monotonic() - begun

        await_true(
            lambda: read_name(many, name, max_staleness_s=OLD_S) and count_connections(replication.replicas[0]) > 2
        )
        # A busy host can delay one read. Waiting for a connection would delay some in each round.
        assert min(max(pool.map(read, range(200))) for _ in range(5)) < FRESH_S
    narrow.kill()


def count_connections(replica: Any) -> int:
    """Return the server's connections to a replica: one polls it, the others read."""
    return ask(replica, "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'storekeep'")[0][0]


def test_server_serves_without_its_replica_and_tells_no_password(make_server: MakeServer):
    server = make_server(database_replica_urls="postgresql://shop:secret-word@127.0.0.1:9/storekeep")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        name = client.customers.create(Customer(display_name="There")).name
        assert read_name(client, name, max_staleness_s=OLD_S) == "There"
    server.await_log("a replica answers no reads")
    assert "secret-word" not in server.log()
