"""Measure how the cost of calls grows with the number of orders in the database.

Databases of each size are served side by side and called in turns. Each order has its rows, its audit entry and its
stored reply, whose index is as scattered as the random ids of clients.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import calls, lists, postgres, recording, seeds, stocking, subjects
from benchmarks.databases import Database, SqliteFile
from benchmarks.loads import timed
from benchmarks.loads.load import LINES, Load
from benchmarks.loads.messages import write_messages
from benchmarks.loads.order_messages import PLACE_ORDER
from benchmarks.loads.timed import Calls
from benchmarks.machine import APART, ONE_OF_BOTH, Placement
from benchmarks.plots import Curve, Plot
from benchmarks.postgres import Postgres
from benchmarks.results import Bar, Figure, Section, format_spread
from benchmarks.rounds import Pace, Send, Spread, Turns, measure
from benchmarks.subjects import Storekeep
from storekeep.v1 import orders_pb2

GET_ORDER = "/storekeep.v1.OrderService/GetOrder"
BOUND = 1.5
PACE_DIVISOR = 4
"""Short turns are enough, because the measured ratios are large compared with the noise."""
CHOSEN_MAX = 20_000
"""Number of orders that are read, sampled at random."""
PLACED_A_TURN = 1_500
"""Orders placed in one turn, few enough that the smallest database stays small."""
ORDERS_IN_FLIGHT = 32
"""Few enough that none waits so long that it is rejected, on PostgreSQL too."""


@dataclass(frozen=True)
class Shop:
    """A served database of one size."""

    orders: int
    storekeep: Storekeep
    folder: Path

    @property
    def name(self) -> str:
        """The name in the results."""
        return f"{self.orders:,} orders"


@dataclass(frozen=True)
class Operation:
    """A call that is measured.

    Attributes:
        messages: returns the serialised requests for a shop; None to place orders.
        in_flight: calls in flight; 1 if the time of a single call is measured.
    """

    name: str
    method: str
    in_flight: int
    messages: Callable[[Shop], Iterable[bytes]] | None = None

    def build_send(self, shop: Shop) -> Send:
        """Return the function that puts a shop under this load."""
        called = Calls(self.name, self.method, order_lines=LINES, in_flight=self.in_flight)
        if self.messages:
            file = shop.folder / f"{self.name.replace(' ', '-')}.messages"
            write_messages(file, self.messages(shop))
            called = Calls(self.name, self.method, messages=file, in_flight=self.in_flight)

        def send(seconds: float) -> Load:
            server, token = shop.storekeep.server, shop.storekeep.get_token()
            if called.messages:
                return timed.repeat_until_good(lambda: timed.send(called, server, token=token, seconds=seconds)).load
            return timed.repeat_until_good(
                lambda: timed.send_some(called, server, token=token, number=PLACED_A_TURN)
            ).load

        return send


def _sample_orders(shop: Shop) -> Iterable[bytes]:
    """Yield requests for random orders of the whole database."""
    numbers = random.sample(range(shop.orders), min(shop.orders, CHOSEN_MAX))
    for number in numbers:
        yield orders_pb2.GetOrderRequest(name=f"orders/{seeds.format_order_id(number)}").SerializeToString()


def _build_first_page(_shop: Shop) -> Iterable[bytes]:
    yield lists.NEWEST.build_message().SerializeToString()


def _build_deep_page(shop: Shop) -> Iterable[bytes]:
    token = lists.find_deep_token(shop.storekeep, lists.NEWEST, orders=shop.orders)
    yield lists.NEWEST.build_message(token).SerializeToString()


OPERATIONS = (
    Operation("GetOrder", GET_ORDER, 64, _sample_orders),
    Operation("ListOrders first page", calls.LIST_ORDERS, 1, _build_first_page),
    Operation("ListOrders deep page", calls.LIST_ORDERS, 1, _build_deep_page),
    Operation("PlaceOrder", PLACE_ORDER, ORDERS_IN_FLIGHT),
)
"""PlaceOrder comes last, because it changes the data that the others read."""


def measure_sqlite(folder: Path, pace: Pace, *, sizes: Sequence[int]) -> Section:
    """Measure how cost grows on SQLite."""
    with ExitStack() as stack:

        def make(size: int) -> Database:
            return SqliteFile(_find_folder(folder, size) / "storekeep.db")

        shops = _serve(stack, folder, sizes, make=make, copy=lambda _size: None, placement=APART)
        return _measure("SQLite", shops, pace)


def measure_postgresql(folder: Path, pace: Pace, *, sizes: Sequence[int]) -> Section:
    """Measure how cost grows on PostgreSQL."""
    with ExitStack() as stack:
        running = stack.enter_context(postgres.run_postgres(folder / "postgres"))

        def copy(size: int) -> None:
            running.create(_name_database(size), template=_name_database(sizes[0]))

        running.create(_name_database(sizes[0]))
        shops = _serve(
            stack,
            folder,
            sizes,
            make=lambda size: running.get_database(_name_database(size)),
            copy=copy,
            placement=ONE_OF_BOTH,
        )
        return _measure("PostgreSQL", shops, pace, running=running)


def _find_folder(folder: Path, size: int) -> Path:
    return folder / str(size)


def _name_database(size: int) -> str:
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
        make: returns the database of a size.
        copy: copies the smallest database to that of a size, in addition to copying its folder.
    """
    first, *others = sizes
    with subjects.run_storekeep(_find_folder(folder, first), database=make(first), placement=placement) as shop:
        stocking.stock_catalogue(shop)
        recording.place_orders(shop)
    for size in others:
        shutil.copytree(_find_folder(folder, first), _find_folder(folder, size))
        copy(size)
    for size in sizes:
        seeds.fill(make(size), orders=size, ledger=True)
    return [
        Shop(
            size,
            stack.enter_context(
                subjects.run_storekeep(
                    _find_folder(folder, size), name=_name_database(size), database=make(size), placement=placement
                )
            ),
            _find_folder(folder, size),
        )
        for size in sizes
    ]


def _measure(engine: str, shops: Sequence[Shop], pace: Pace, *, running: Postgres | None = None) -> Section:
    short = Pace(pace.rounds, pace.seconds / PACE_DIVISOR, pace.warm_up_s / PACE_DIVISOR)
    figures, bars, plots = [], [], []
    for operation in OPERATIONS:
        senders = {shop.name: operation.build_send(shop) for shop in shops}
        if running:
            senders = {name: running.measure_cpu(send) for name, send in senders.items()}
        turns = measure(senders, short)
        figures += _build_figures(operation, turns)
        growths = [turns[shops[0].name].compute_ratio(turns[shop.name]) for shop in shops]
        bars += [
            Bar(f"{operation.name}, time with {shop.name} / {shops[0].name}", growth, BOUND, at_most=True)
            for shop, growth in zip(shops[1:], growths[1:], strict=True)
        ]
        plots.append(
            _build_plot(operation, engine, [(shop.orders, growth) for shop, growth in zip(shops, growths, strict=True)])
        )
    placed = PLACED_A_TURN * (1 + pace.rounds)
    notes = (
        f"PlaceOrder itself adds {placed:,} orders to each database, warm-up included. The files are in the memory of "
        "the system, as those of a shop in use mostly are.",
    )
    return Section(f"How cost grows on {engine}", figures, bars, notes, plots)


def _build_figures(operation: Operation, turns: dict[str, Turns]) -> list[Figure]:
    return [
        Figure(
            f"{operation.name}, {name}",
            {
                "calls/s": format_spread(its.per_s),
                "server CPU, s per 1,000 calls": format_spread(its.server_ms, 2),
                "PostgreSQL CPU, s per 1,000 calls": format_spread(its.database_ms, 2),
                "client CPU, s per 1,000 calls": format_spread(its.client_ms, 2),
            },
        )
        for name, its in turns.items()
    ]


def _build_plot(operation: Operation, engine: str, growths: Sequence[tuple[int, Spread]]) -> Plot:
    """Return a plot with this engine's curve. The report merges the plots of both engines, which share a name."""
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
