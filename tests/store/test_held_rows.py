"""Tests of rows and tables locked by an operator's SQL: only the writes that need them wait."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import grpc
import pytest

from storekeep.server.store import held_writes
from storekeep.server.store.errors import DeadlinePassed, StorageUnavailable
from storekeep.server.store.limits import Limits
from storekeep.server.store.opening import open_store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.v1 import customers_pb2, orders_pb2
from tests.conftest import MakeServer
from tests.store.test_outages import Health
from tests.support.buyers import list_orders, open_shop, verify
from tests.support.clusters import await_condition
from tests.support.databases import PostgresDatabase, new_database
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop, new_request_id
from tests.support.watches import Watch

pytestmark = pytest.mark.engine("postgresql", reason="SQLite has no locks of rows")

HELD_S = float(os.environ.get("PROVE_HELD_S", "2.5"))
"""Longer than a write is retried for a row."""
UNDISTURBED_S = 1.5
OTHERS, WANTING = 4, 8
GOES_ON_SHARE = 1 / 3
"""Minimum throughput while a row is locked, as a fraction of the undisturbed throughput."""
PATIENCE_S = 60.0
STOCK = 10**6


@pytest.fixture(scope="module")
def served(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, health_interval_s="0.1", health_timeout_s="20")
    yield process
    process.kill()
    database.remove()


@contextmanager
def held(database: Any, *statements: tuple[str, tuple[Any, ...]]) -> Iterator[None]:
    """Run these statements in an operator's transaction that stays open."""
    with database.opened() as session, session.connection.transaction():
        for sql, values in statements:
            session.rows(sql, *values) if sql.startswith("SELECT") else session.run(sql, *values)
        yield


def lock_stock(*skus: str) -> tuple[str, tuple[str, ...]]:
    places = ", ".join("?" for _ in skus)
    return f"UPDATE stock_levels SET version = version + 1 WHERE sku IN ({places})", skus


WAITING = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event IN ('transactionid', 'tuple')
    """
"""Finds a session that waits for a locked row."""


def await_row_lock(database: Any, *calls: Future[Any]) -> None:
    """Wait until a session waits for a locked row. Asks without pauses: each attempt of a write waits a few ms."""
    with database.opened() as session:
        while not session.rows(WAITING):
            assert not any(call.done() for call in calls), "a call ended, and was not seen to wait"


class Ordering:
    """Callers that place orders continuously, some for free stock and some for stock that an operator has locked.

    Attributes:
        placed: orders for free stock.
        outcomes: outcome of each order for locked stock by `request_id`: True, or the reason of the error.
        trouble: any other outcome.
        unhealthy: number of health checks that were not SERVING.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.placed = 0
        self.outcomes: dict[str, object] = {}
        self.trouble: list[object] = []
        self.unhealthy = 0
        with open_shop(server) as shop:
            self.customer = shop.customer().name
            self.free = [shop.variant(stock=STOCK).sku for _ in range(OTHERS)]
            self.held = [shop.variant(stock=STOCK).sku for _ in range(WANTING)]

    def request(self, sku: str) -> orders_pb2.PlaceOrderRequest:
        request_id = new_request_id()
        return orders_pb2.PlaceOrderRequest(
            customer=self.customer,
            lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=1)],
            currency_code="EUR",
            external_reference=request_id,
            request_id=request_id,
        )

    @contextmanager
    def running(self, *requested: str) -> Iterator[None]:
        stop = threading.Event()
        with ExitStack() as stack:
            shops = [stack.enter_context(open_shop(self._server)) for _ in range(OTHERS + len(requested))]
            threads = [threading.Thread(target=self._order_free, args=[shops.pop(), sku, stop]) for sku in self.free]
            threads += [threading.Thread(target=self._order_held, args=[shops.pop(), sku, stop]) for sku in requested]
            threads += [threading.Thread(target=self._watch, args=[stop])]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                stop.set()
                for thread in threads:
                    thread.join(PATIENCE_S)

    def rate(self, *, seconds: float) -> float:
        """Return the orders for free stock per second, measured for this long."""
        placed, begun_s = self.placed, time.monotonic()
        time.sleep(seconds)
        return (self.placed - placed) / (time.monotonic() - begun_s)

    def _order_free(self, shop: Shop, sku: str, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                shop.orders.PlaceOrder(self.request(sku))
                self.placed += 1
            except grpc.RpcError as error:
                self.trouble.append(error)

    def _order_held(self, shop: Shop, sku: str, stop: threading.Event) -> None:
        while not stop.is_set():
            request = self.request(sku)
            try:
                shop.orders.PlaceOrder(request)
                self.outcomes[request.request_id] = True
            except grpc.RpcError as error:
                self.outcomes[request.request_id] = parse_refusal(error).reason

    def _watch(self, stop: threading.Event) -> None:
        with grpc.insecure_channel(self._server.address) as channel:
            health = Health(channel)
            while not stop.wait(0.05):
                self.unhealthy += not health.is_serving()

    def check(self) -> None:
        """Check that each acknowledged order exists once, and no rejected order exists."""
        assert not self.trouble, self.trouble[:3]
        assert set(self.outcomes.values()) <= {True, "STORAGE_UNAVAILABLE"}
        with open_shop(self._server) as shop:
            there = Counter(order.external_reference for order in list_orders(shop, customer=self.customer))
        assert set(there.values()) <= {1}
        placed = {request_id for request_id, outcome in self.outcomes.items() if outcome is True}
        assert {request_id for request_id in self.outcomes if request_id in there} == placed
        assert len(there) == self.placed + len(placed)
        verify(self._server)


@pytest.mark.parametrize("rows", [1, WANTING])
def test_rows_that_somebody_holds_stop_only_the_orders_that_want_them(served: ServerProcess, rows: int):
    ordering = Ordering(served)
    requested = (ordering.held[:rows] * WANTING)[:WANTING]
    with ordering.running():
        undisturbed = ordering.rate(seconds=UNDISTURBED_S)
    with held(served.database, lock_stock(*ordering.held)), ordering.running(*requested):
        # Repeated, because the machine may be busy. A locked row that blocks other writes would do so each time.
        await_condition(lambda: ordering.rate(seconds=HELD_S) > GOES_ON_SHARE * undisturbed, served.log)
        await_condition(lambda: "STORAGE_UNAVAILABLE" in ordering.outcomes.values(), served.log)
        assert True not in ordering.outcomes.values()
    with ordering.running(*requested):
        await_condition(lambda: True in ordering.outcomes.values(), served.log)
    assert ordering.unhealthy == 0
    ordering.check()


def test_row_that_is_given_back_in_time_fails_nobody(make_server: MakeServer):
    server = make_server(database_lock_timeout_s=str(PATIENCE_S))
    ordering = Ordering(server)
    sku = ordering.held[0]
    with open_shop(server) as shop, ThreadPoolExecutor(WANTING) as pool:
        with held(server.database, lock_stock(sku)):
            orders = [pool.submit(shop.orders.PlaceOrder, ordering.request(sku)) for _ in range(WANTING)]
            await_row_lock(server.database, *orders)
            assert not any(order.done() for order in orders)
        names = {order.result(PATIENCE_S).name for order in orders}
        assert len(names) == WANTING
        assert shop.level(sku).allocated == WANTING


def test_order_that_waits_for_a_row_is_refused_once_and_its_retry_has_one_effect(served: ServerProcess):
    ordering = Ordering(served)
    request = ordering.request(ordering.held[0])
    with open_shop(served) as shop:
        with held(served.database, lock_stock(ordering.held[0])), ThreadPoolExecutor(2) as pool:
            twice = [pool.submit(shop.orders.PlaceOrder, request) for _ in range(2)]
            for refused in twice:
                with pytest.raises(grpc.RpcError) as error:
                    refused.result(PATIENCE_S)
                assert parse_refusal(error.value).reason == "STORAGE_UNAVAILABLE"
        assert shop.orders.PlaceOrder(request) == shop.orders.PlaceOrder(request)
        assert shop.level(ordering.held[0]).allocated == 1


def test_watcher_skips_no_write_that_waited_while_others_were_committed(make_server: MakeServer):
    server = make_server(database_lock_timeout_s=str(PATIENCE_S))
    types = ["customer.created", "order.placed"]
    with open_shop(server) as shop, open_shop(server) as other, ThreadPoolExecutor(1) as pool:
        sku, customer = shop.variant(stock=5).sku, shop.customer().name
        watch = Watch(shop, event_types=types)
        start = watch.cursor
        with held(server.database, lock_stock(sku)):
            order = pool.submit(other.order, (sku, 1), customer=customer)
            await_row_lock(server.database, order)
            names = [shop.customer().name for _ in range(5)]
            assert [event.resource for event in watch.take(len(names))] == names
            assert not order.done()
        names.append(order.result(PATIENCE_S).name)
        assert watch.take(1)[0].resource == names[-1]
        watch.close()
        resumed = Watch(shop, cursor=start, event_types=types)
        assert [event.resource for event in resumed.take(len(names))] == names
        resumed.close()


def place(shop: Shop, **fields: Any) -> orders_pb2.Order:
    return shop.order((shop.variant(stock=5).sku, 1), **fields)


HOLDING = {
    "customers": ("SELECT id FROM customers WHERE id = ? FOR UPDATE", True),
    "customers_share": ("SELECT id FROM customers WHERE id = ? FOR KEY SHARE", False),
    "audit_entries": ("SELECT sequence FROM audit_entries WHERE ? <> '' FOR UPDATE", False),
    "access_versions": ("SELECT version FROM access_versions WHERE ? <> '' FOR UPDATE", False),
    "service_accounts": ("SELECT id FROM service_accounts WHERE ? <> '' FOR UPDATE", False),
    "nothing": ("SELECT COUNT(*) FROM orders WHERE ? <> ''", False),
}
"""Locks of an operator, and whether orders of the customer wait for them."""


@pytest.mark.parametrize("name", HOLDING)
def test_what_somebody_holds_is_waited_for_by_those_alone_that_want_it(served: ServerProcess, name: str):
    sql, waits = HOLDING[name]
    with open_shop(served) as shop:
        customer = shop.customer().name
        with held(served.database, (sql, (customer.removeprefix("customers/"),))):
            if waits:
                with pytest.raises(grpc.RpcError) as error:
                    place(shop, customer=customer)
                assert parse_refusal(error.value).reason == "STORAGE_UNAVAILABLE"
            else:
                assert place(shop, customer=customer).name
            assert place(shop).name
        assert place(shop, customer=customer).name


def test_table_that_every_change_writes_to_is_held_so_the_server_is_not_ready(served: ServerProcess):
    with open_shop(served) as shop, grpc.insecure_channel(served.address) as channel:
        health, customer = Health(channel), shop.customer().name
        with held(served.database, ("LOCK TABLE audit_entries IN SHARE MODE", ())):
            await_condition(lambda: not health.is_serving(), served.log)
            with pytest.raises(grpc.RpcError) as error:
                shop.customer()
            assert parse_refusal(error.value).reason == "STORAGE_UNAVAILABLE"
            assert shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=customer)).name == customer
        await_condition(health.is_serving, served.log)
        assert shop.customer().name


def test_table_that_somebody_holds_stops_only_the_changes_that_want_it(served: ServerProcess):
    with open_shop(served) as shop, grpc.insecure_channel(served.address) as channel:
        health, sku = Health(channel), shop.variant(stock=5).sku
        with held(served.database, ("LOCK TABLE stock_levels IN SHARE MODE", ())):
            with pytest.raises(grpc.RpcError) as error:
                shop.order((sku, 1))
            assert parse_refusal(error.value).reason == "STORAGE_UNAVAILABLE"
            assert shop.customer().name
            assert health.is_serving()
        assert shop.order((sku, 1)).name


# -- one store


@pytest.fixture
def notes(database: PostgresDatabase) -> PostgresDatabase:
    with database.opened() as session:
        session.run("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        session.run("INSERT INTO notes VALUES (1, 'one'), (2, 'two')")
    return database


PATIENT = Limits(lock_timeout_s=PATIENCE_S)
"""Limits for rows that are given back: on a busy host, that takes a while."""
HOLD = ("UPDATE notes SET text = 'theirs' WHERE id = 2", ())


def setting(number: int, text: str = "ours") -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        tx.connection.execute("UPDATE notes SET text = $2 WHERE id = $1", (number, text))

    return work


def test_write_that_waits_for_a_row_ends_with_its_deadline(notes: PostgresDatabase):
    with closing(open_store(notes.url, limits=Limits(lock_timeout_s=30))) as store, held(notes, HOLD):
        begun_s = time.monotonic()
        with pytest.raises(DeadlinePassed):
            store.write(setting(2), deadline=begun_s + 0.3)
        store.write(setting(1))


def test_store_that_is_closed_ends_what_waits_for_a_row(notes: PostgresDatabase):
    with held(notes, HOLD), ThreadPoolExecutor(2) as pool:
        store = open_store(notes.url)
        waiting = [pool.submit(store.write, setting(2)) for _ in range(2)]
        time.sleep(0.2)  # they have met the row by now, or are still queued
        store.close()
        for write in waiting:
            with pytest.raises(StorageUnavailable):
                write.result(PATIENCE_S)


def test_more_writes_than_may_wait_for_a_row_fail_and_others_go_on(
    notes: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held_writes, "HELD_MAX", 20)
    many = 50
    with closing(open_store(notes.url)) as store, held(notes, HOLD), ThreadPoolExecutor(many) as pool:
        waiting = [pool.submit(store.write, setting(2)) for _ in range(many)]
        for _ in range(20):
            store.write(setting(1))
        assert all(isinstance(write.exception(PATIENCE_S), StorageUnavailable) for write in waiting)
    with notes.opened() as session:
        assert session.rows("SELECT text FROM notes ORDER BY id") == [("ours",), ("theirs",)]


def test_writes_of_a_row_that_is_given_back_all_get_through(notes: PostgresDatabase):
    many = 60
    with closing(open_store(notes.url, limits=PATIENT)) as store, ThreadPoolExecutor(many) as pool:
        with held(notes, HOLD):
            waiting = [pool.submit(store.write, setting(2, f"{number}")) for number in range(many)]
            store.write(setting(1))
        for write in waiting:
            write.result(PATIENCE_S)


def test_deferred_write_of_a_held_row_is_set_aside_and_others_are_kept(notes: PostgresDatabase):
    def deferred(tx: Transaction) -> None:
        Statement("UPDATE notes SET text = :text WHERE id = :id").run_deferred(tx, text="ours", id=2)

    with closing(open_store(notes.url, limits=PATIENT)) as store, ThreadPoolExecutor(12) as pool:
        with held(notes, HOLD):
            writes = [pool.submit(store.write, (deferred, setting(1))[number % 2]) for number in range(12)]
            for write in writes[1::2]:
                write.result(PATIENCE_S)
            assert not any(write.done() for write in writes[::2])
        for write in writes[::2]:
            write.result(PATIENCE_S)
