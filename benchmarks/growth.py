"""What the same calls cost when a shop has placed a thousand orders, a hundred thousand, a million.

Databases of these sizes are served side by side and called in turns. They are full of what an order leaves behind: its
rows, its entry in the ledger with its index, and its stored reply, whose index is as scattered as clients' ids are.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import calls, crowd, lists, postgres, recording, stocking, subjects
from benchmarks.databases import Database, SqliteFile
from benchmarks.loads import timed
from benchmarks.loads.load import LINES, Load
from benchmarks.loads.messages import write_messages
from benchmarks.loads.order_messages import PLACE_ORDER
from benchmarks.loads.timed import Calls
from benchmarks.machine import APART, ONE_OF_BOTH, Placement
from benchmarks.plots import Curve, Plot
from benchmarks.postgres import Postgres
from benchmarks.results import Bar, Figure, Section, span
from benchmarks.rounds import Pace, Send, Spread, Turns, measure
from benchmarks.subjects import Storekeep
from storekeep.v1 import orders_pb2

GET_ORDER = "/storekeep.v1.OrderService/GetOrder"
BOUND = 1.5
PACE_DIVISOR = 4
"""Costs are compared, not small differences, so short turns are enough."""
CHOSEN_MAX = 20_000
"""Orders that are read, chosen by chance out of all."""
PLACED_A_TURN = 1_500
"""Orders of a turn, so that the smallest database stays small."""
ORDERS_IN_FLIGHT = 32
"""So that none waits long enough to be shed, on PostgreSQL too."""


@dataclass(frozen=True)
class Shop:
    """A served database of one size."""

    orders: int
    storekeep: Storekeep
    folder: Path

    @property
    def name(self) -> str:
        """What the results call it."""
        return f"{self.orders:,} orders"


@dataclass(frozen=True)
class Operation:
    """What is called again and again.

    Attributes:
        messages: of a shop, the serialised requests; None to place orders.
        in_flight: calls at a time; one where the time of a call is what counts.
    """

    name: str
    method: str
    in_flight: int
    messages: Callable[[Shop], Iterable[bytes]] | None = None

    def sender(self, shop: Shop) -> Send:
        """What puts a shop under this load."""
        called = Calls(self.name, self.method, order_lines=LINES, in_flight=self.in_flight)
        if self.messages:
            file = shop.folder / f"{self.name.replace(' ', '-')}.messages"
            write_messages(file, self.messages(shop))
            called = Calls(self.name, self.method, messages=file, in_flight=self.in_flight)

        def send(seconds: float) -> Load:
            server, token = shop.storekeep.server, shop.storekeep.token()
            if called.messages:
                return timed.until_good(lambda: timed.send(called, server, token=token, seconds=seconds)).load
            return timed.until_good(lambda: timed.send_some(called, server, token=token, number=PLACED_A_TURN)).load

        return send


def _chosen_orders(shop: Shop) -> Iterable[bytes]:
    """Requests for orders all over the database."""
    numbers = random.sample(range(shop.orders), min(shop.orders, CHOSEN_MAX))
    for number in numbers:
        yield orders_pb2.GetOrderRequest(name=f"orders/{crowd.order_id(number)}").SerializeToString()


def _first_page(_shop: Shop) -> Iterable[bytes]:
    yield lists.NEWEST.message().SerializeToString()


def _deep_page(shop: Shop) -> Iterable[bytes]:
    token = lists.deep_token(shop.storekeep, lists.NEWEST, orders=shop.orders)
    yield lists.NEWEST.message(token).SerializeToString()


OPERATIONS = (
    Operation("GetOrder", GET_ORDER, 64, _chosen_orders),
    Operation("ListOrders first page", calls.LIST_ORDERS, 1, _first_page),
    Operation("ListOrders deep page", calls.LIST_ORDERS, 1, _deep_page),
    Operation("PlaceOrder", PLACE_ORDER, ORDERS_IN_FLIGHT),
)
"""PlaceOrder comes last, as it changes what the others read."""


def on_sqlite(folder: Path, pace: Pace, *, sizes: Sequence[int]) -> Section:
    """Measure how cost grows on SQLite."""
    with ExitStack() as stack:

        def make(size: int) -> Database:
            return SqliteFile(_folder(folder, size) / "storekeep.db")

        shops = _serve(stack, folder, sizes, make=make, copy=lambda _size: None, placement=APART)
        return _measure("SQLite", shops, pace)


def on_postgresql(folder: Path, pace: Pace, *, sizes: Sequence[int]) -> Section:
    """Measure how cost grows on PostgreSQL."""
    with ExitStack() as stack:
        running = stack.enter_context(postgres.running(folder / "postgres"))

        def copy(size: int) -> None:
            running.create(_database(size), template=_database(sizes[0]))

        running.create(_database(sizes[0]))
        shops = _serve(
            stack, folder, sizes, make=lambda size: running.database(_database(size)), copy=copy, placement=ONE_OF_BOTH
        )
        return _measure("PostgreSQL", shops, pace, running=running)


def _folder(folder: Path, size: int) -> Path:
    return folder / str(size)


def _database(size: int) -> str:
    return f"orders{size}"


def _serve(
    stack: ExitStack,
    folder: Path,
    sizes: Sequence[int],
    *,
    make: Callable[[int], Database],
    copy: Callable[[int], object],
    placement: Placement,
) -> list[Shop]:
    """Fill a database of each size, all with the same catalogue, and serve them.

    Args:
        make: the database of a size.
        copy: makes it of the smallest one, beyond copying its folder.
    """
    first, *others = sizes
    with subjects.storekeep(_folder(folder, first), database=make(first), placement=placement) as shop:
        stocking.stock(shop)
        recording.place_some(shop)
    for size in others:
        shutil.copytree(_folder(folder, first), _folder(folder, size))
        copy(size)
    for size in sizes:
        crowd.fill(make(size), orders=size, ledger=True)
    return [
        Shop(
            size,
            stack.enter_context(
                subjects.storekeep(
                    _folder(folder, size), name=_database(size), database=make(size), placement=placement
                )
            ),
            _folder(folder, size),
        )
        for size in sizes
    ]


def _measure(engine: str, shops: Sequence[Shop], pace: Pace, *, running: Postgres | None = None) -> Section:
    short = Pace(pace.rounds, pace.seconds / PACE_DIVISOR, pace.warm_up_s / PACE_DIVISOR)
    figures, bars, plots = [], [], []
    for operation in OPERATIONS:
        senders = {shop.name: operation.sender(shop) for shop in shops}
        if running:
            senders = {name: running.counted(send) for name, send in senders.items()}
        turns = measure(senders, short)
        figures += _figures(operation, turns)
        growths = [turns[shops[0].name].ratio_to(turns[shop.name]) for shop in shops]
        bars += [
            Bar(f"{operation.name}, time with {shop.name} / {shops[0].name}", growth, BOUND, at_most=True)
            for shop, growth in zip(shops[1:], growths[1:], strict=True)
        ]
        plots.append(
            _plot(operation, engine, [(shop.orders, growth) for shop, growth in zip(shops, growths, strict=True)])
        )
    placed = PLACED_A_TURN * (1 + pace.rounds)
    notes = (
        f"PlaceOrder itself adds {placed:,} orders to each database, warm-up included. The files are in the memory of "
        "the system, as those of a shop in use mostly are.",
    )
    return Section(f"How cost grows on {engine}", figures, bars, notes, plots)


def _figures(operation: Operation, turns: dict[str, Turns]) -> list[Figure]:
    return [
        Figure(
            f"{operation.name}, {name}",
            {
                "calls/s": span(its.per_s),
                "server CPU, s per 1,000 calls": span(its.server_ms, 2),
                "PostgreSQL CPU, s per 1,000 calls": span(its.database_ms, 2),
                "client CPU, s per 1,000 calls": span(its.client_ms, 2),
            },
        )
        for name, its in turns.items()
    ]


def _plot(operation: Operation, engine: str, growths: Sequence[tuple[int, Spread]]) -> Plot:
    """A curve for this engine; the report draws the engines' curves together, as the plots have one name."""
    sizes = [size for size, _ in growths]
    return Plot(
        f"growth-{operation.name.lower().replace(' ', '-')}",
        f"{operation.name}: time of a call as the shop grows",
        x_label="orders in the database",
        y_label=f"times that of {sizes[0]:,} orders",
        curves=[Curve(engine, growths)],
        x_ticks=[(size, f"{size:,}") for size in sizes],
        log_x=True,
        bound=BOUND,
    )
