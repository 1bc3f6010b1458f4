"""Random operations about customers by several threads, and erasures of some of these customers meanwhile."""

from __future__ import annotations

import itertools
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, SECRET_FILE
from storekeep.server.store.tables.data_keys import MOVED_US
from storekeep.v1 import audit_pb2, customers_pb2, events_pb2, inventory_pb2, orders_pb2, quotes_pb2
from tests.support.buyers import verify
from tests.support.concurrent_clients import open_shops
from tests.support.databases import Database
from tests.support.planted import plant_address
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop

THREADS = 8
STOCK = 1_000_000
PAGE = 1000


class ErasureLoad:
    """Random operations. Each text about a customer has the mark of that customer.

    Args:
        shops: callers of the server, on connections of their own.
        seed: of the choices of each thread.

    Attributes:
        refused: how many operations were refused, by reason.
        orders: the orders of each customer, by its name.
    """

    def __init__(self, shops: Sequence[Shop], *, seed: int) -> None:
        self._shops = shops
        self._seed = seed
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._customers: list[str] = []
        self._marks: dict[str, str] = {}
        self._protected: frozenset[str] = frozenset()
        self.refused: Counter[str] = Counter()
        self.orders: dict[str, list[orders_pb2.Order]] = {}
        self.skus = [shops[0].variant(stock=STOCK).sku for _ in range(5)]

    def get_mark(self, customer: str) -> str:
        """Return the text that stands in each value about a customer."""
        return self._marks[customer]

    def move(self, shops: Sequence[Shop]) -> None:
        """Use other connections from now on, as after a restart of the server."""
        self._shops = shops

    def run(self, operations: int) -> None:
        """Run so many operations in several threads."""
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda number: self._run_some(number, operations // THREADS), range(THREADS)))

    @contextmanager
    def running(self, protected: Sequence[str]) -> Iterator[None]:
        """Run operations until the block ends.

        Args:
            protected: customers whose orders get notes and addresses only, so that their totals stay. They reserve
                nothing: a reservation that becomes no order belongs to nobody, and is not erased with a customer.
        """
        self._protected = frozenset(protected)
        ended = threading.Event()
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(self._run_until, THREADS + number, ended) for number in range(THREADS)]
            try:
                yield
            finally:
                ended.set()
            for future in futures:
                future.result()

    def _run_some(self, number: int, operations: int) -> None:
        choice = random.Random(self._seed * 1_000 + number)
        for _ in range(operations):
            self._run_one(self._shops[number % len(self._shops)], choice)

    def _run_until(self, number: int, ended: threading.Event) -> None:
        choice = random.Random(self._seed * 1_000 + number)
        while not ended.is_set():
            self._run_one(self._shops[number % len(self._shops)], choice)

    def _run_one(self, shop: Shop, choice: random.Random) -> None:
        with self._lock:
            customer = choice.choice(self._customers) if self._customers else ""
            orders = self.orders.get(customer, [])
            order = choice.choice(orders) if orders else None
        changes = [self._note, self._readdress]
        others: list[Callable[[Shop, random.Random, str], None]] = [self._update, self._place, self._offer]
        if customer not in self._protected:
            changes += [self._advance, self._cancel]
            others.append(self._reserve)
        try:
            if not customer or choice.random() < 0.2:
                self._create(shop)
            elif order is None or choice.random() < 0.5:
                choice.choice(others)(shop, choice, customer)
            else:
                choice.choice(changes)(shop, order, self.get_mark(customer))
        except grpc.RpcError as error:
            with self._lock:
                self.refused[parse_refusal(error).reason] += 1

    def _create(self, shop: Shop) -> None:
        mark = f"qxz{next(self._numbers)}zxq"
        customer = shop.customer(
            display_name=mark,
            email=f"{mark}@example.com",
            phone=f"{mark} phone",
            company=mark,
            addresses=[customers_pb2.CustomerAddress(label=mark, address=plant_address(mark))],
        )
        with self._lock:
            self._marks[customer.name] = mark
            self._customers.append(customer.name)
            self.orders[customer.name] = []

    def _update(self, shop: Shop, choice: random.Random, customer: str) -> None:
        changed = customers_pb2.Customer(name=customer, phone=f"{self.get_mark(customer)} {choice.randrange(1000)}")
        shop.customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=changed))

    def _place(self, shop: Shop, choice: random.Random, customer: str) -> None:
        mark = self.get_mark(customer)
        order = shop.order(
            (choice.choice(self.skus), choice.randint(1, 9)),
            customer=customer,
            note=mark,
            shipping_address=plant_address(mark),
        )
        with self._lock:
            self.orders[customer].append(order)

    def _offer(self, shop: Shop, choice: random.Random, customer: str) -> None:
        line = orders_pb2.PlaceOrderLine(sku=choice.choice(self.skus), quantity=1)
        quote = quotes_pb2.Quote(customer=customer, lines=[line], currency_code="EUR", note=self.get_mark(customer))
        shop.quotes.CreateQuote(quotes_pb2.CreateQuoteRequest(quote=quote))

    def _reserve(self, shop: Shop, choice: random.Random, customer: str) -> None:
        sku, mark = choice.choice(self.skus), self.get_mark(customer)
        reservation = shop.reserve((sku, 1), reference=mark)
        order = shop.order((sku, 1), customer=customer, reservation=reservation.name)
        with self._lock:
            self.orders[customer].append(order)

    def _note(self, shop: Shop, order: orders_pb2.Order, mark: str) -> None:
        shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=order.name, content=mark))

    def _readdress(self, shop: Shop, order: orders_pb2.Order, mark: str) -> None:
        changed = orders_pb2.Order(name=order.name, note=f"{mark} again", shipping_address=plant_address(mark))
        shop.orders.UpdateOrder(orders_pb2.UpdateOrderRequest(order=changed, reason=mark))

    def _advance(self, shop: Shop, order: orders_pb2.Order, mark: str) -> None:
        shop.confirm(order)
        shop.ship(shop.fulfill(order), tracking_number=mark)

    def _cancel(self, shop: Shop, order: orders_pb2.Order, mark: str) -> None:
        shop.cancel(order, reason=mark)


def read_totals(shop: Shop, orders: Sequence[orders_pb2.Order]) -> dict[str, str]:
    """Return what must stay of each order: its number, lines, total and taxes, as text."""
    totals = {}
    for order in orders:
        shown = shop.get_order(order)
        totals[order.name] = f"{shown.number} {shown.lines} {shown.total} {shown.price_details.tax_total}"
    return totals


def read_everything(shop: Shop, orders: Sequence[orders_pb2.Order]) -> str:
    """Return what a server shows of customers, quotes, the audit log, events, and these orders, in lower case."""
    texts = [str(shop.get_order(order)) for order in orders]
    for order in orders:
        texts += list_all(shop, "ListOrderNotes", orders_pb2.ListOrderNotesRequest(parent=order.name))
    texts += list_all(shop, "ListCustomers", customers_pb2.ListCustomersRequest(show_deleted=True))
    texts += list_all(shop, "ListQuotes", quotes_pb2.ListQuotesRequest())
    texts += list_all(shop, "ListReservations", inventory_pb2.ListReservationsRequest())
    texts += list_all(shop, "ListAuditEntries", audit_pb2.ListAuditEntriesRequest())
    texts += list_all(shop, "ListEvents", events_pb2.ListEventsRequest())
    return "\n".join(texts).lower()


def check_absence(text: str, marks: Sequence[str]) -> None:
    """Check that no mark stands in a text. The error has what stands around the first ones."""
    places = [text.index(mark) for mark in marks if mark in text]
    assert not places, [text[max(0, place - 200) : place + 100] for place in places[:3]]


def list_all(shop: Shop, rpc: str, request: Any) -> Iterator[str]:
    """Yield the pages of a list as text, with the content of events."""
    request.page_size = PAGE
    while True:
        reply = shop.stub(rpc)(request)
        yield str(reply)
        yield from (event.content.value.decode("latin-1") for event in getattr(reply, "events", ()))
        request.page_token = reply.next_page_token
        if not request.page_token:
            return


def destroy_keys(source: Database, target: Database) -> int:
    """Destroy the data keys in a copy of a database that are destroyed in the database now. Return their number."""
    with source.opened() as session:
        destroyed = session.rows(
            "SELECT wrapped_key, destroy_time_us, number FROM data_keys WHERE destroy_time_us < ?", MOVED_US
        )
    with target.unguarded() as session:
        change = "UPDATE data_keys SET wrapped_key = ?, destroy_time_us = ? WHERE number = ?"
        return sum(session.run(change, *row) for row in destroyed)


def erase_under_load(server: ServerProcess, folder: Path, *, operations: int, erasures: int, seed: int) -> Counter[str]:
    """Run random operations, then erase customers while others go on, and check what is left of these customers.

    They are unreadable in the database and in a copy of before without their keys, and their totals stay.

    Returns: how many operations were refused, by reason.
    """
    with open_shops(server) as shops:
        load = ErasureLoad(shops, seed=seed)
        load.run(operations)
        customers = random.Random(seed).sample([name for name in load.orders if load.orders[name]], erasures)
        orders = [order for name in customers for order in load.orders[name]]
        totals = read_totals(shops[0], orders)
        shown = read_everything(shops[0], orders)
    marks = [load.get_mark(name) for name in customers]
    assert [mark for mark in marks if mark not in shown] == []
    server.stop()
    folder.mkdir()
    before = server.database.copy(folder)
    server.restart()
    with open_shops(server) as shops:
        load.move(shops)
        with load.running(customers):
            for name in customers:
                shops[0].customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=name, force=True))
        assert read_totals(shops[0], orders) == totals
        shown = read_everything(shops[0], orders)
    check_absence(shown, marks)
    server.stop()
    check_files(server.database, marks)
    verify(server)
    assert destroy_keys(server.database, before) >= erasures
    check_copy(server, before, folder, orders=orders, totals=totals, marks=marks)
    return load.refused


def check_files(database: Database, marks: Sequence[str]) -> None:
    """Check that no mark stands in a table in clear."""
    for rows in database.everything().values():
        content = repr([[bytes(one) if isinstance(one, memoryview) else one for one in row] for row in rows]).lower()
        check_absence(content, marks)


def check_copy(
    server: ServerProcess,
    copy: Database,
    folder: Path,
    *,
    orders: Sequence[orders_pb2.Order],
    totals: dict[str, str],
    marks: Sequence[str],
) -> None:
    """Serve a copy of a database of before, and check that it shows the totals and nothing about the customers."""
    for name in (SECRET_FILE, KEY_ENCRYPTION_KEY.current, "admin.key"):
        shutil.copy(server.data_dir / name, folder / name)
    check_files(copy, marks)
    folder.chmod(0o700)
    other = ServerProcess(folder, database=copy)
    try:
        with grpc.insecure_channel(other.address) as channel:
            shop = Shop(channel, api_key=other.admin_key)
            assert read_totals(shop, orders) == totals
            shown = read_everything(shop, orders)
        check_absence(shown, marks)
        verify(other)
    finally:
        other.kill()
        copy.remove()
