"""Compare a page of 50 orders from a large database with one from a small database. Lists must not slow down."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import calls, recording, seeds, stocking, subjects
from benchmarks.databases import SqliteFile
from benchmarks.loads import h2load
from benchmarks.loads.load import Load, LoadFailed
from benchmarks.results import Bar, Figure, Section, format_spread
from benchmarks.rounds import Pace, Send, measure
from benchmarks.subjects import Storekeep
from storekeep.v1 import orders_pb2

PAGE = 50
WALK = 1_000
"""Page size on the way to a deep page: the contract's maximum."""
PAGES_MIN = 20
"""Minimum number of pages of a whole list."""
BOUND = 1.5
FEW = 1_000
PACE_DIVISOR = 4
"""Short turns are enough, because pages are requested one after the other."""


@dataclass(frozen=True)
class Query:
    """One list.

    Attributes:
        deep: whether to request a page from the middle of all orders.
    """

    name: str
    filter: str = ""
    order_by: str = ""
    deep: bool = False

    def build_message(self, page_token: str = "", page_size: int = PAGE) -> orders_pb2.ListOrdersRequest:
        """Return the request for a page."""
        return orders_pb2.ListOrdersRequest(
            page_size=page_size, page_token=page_token, filter=self.filter, order_by=self.order_by
        )


NEWEST = Query("newest first")
QUERIES = (
    NEWEST,
    Query("of one customer", filter=f'customer = "customers/{seeds.CUSTOMER}"'),
    Query("in one state", filter="state = CANCELLED"),
    Query("by total", order_by="total desc"),
    Query("deep inside", deep=True),
)


def measure_list_orders(folder: Path, pace: Pace, *, many: int) -> Section:
    """Measure ListOrders on `FEW` orders and on `many`."""
    short = Pace(pace.rounds, pace.seconds / PACE_DIVISOR, pace.warm_up_s / PACE_DIVISOR)
    make_databases(folder, many)
    names = {number: f"{number:,} orders" for number in (FEW, many)}
    figures, bars = [], []
    with ExitStack() as stack:
        shops = {
            number: stack.enter_context(subjects.run_storekeep(folder / str(number), name=names[number]))
            for number in names
        }
        for query in QUERIES:
            senders = {names[number]: _build_send(shop, query, folder, orders=number) for number, shop in shops.items()}
            turns = measure(senders, short)
            few, lots = turns[names[FEW]], turns[names[many]]
            figures.append(
                Figure(query.name, {f"pages/s of {name}": format_spread(turns[name].per_s) for name in turns})
            )
            bars.append(Bar(f"time of a page, {query.name}", few.compute_ratio(lots), BOUND, at_most=True))
    return Section(f"ListOrders: a page of {PAGE} out of {many:,} and out of {FEW:,}", figures, bars)


def make_databases(folder: Path, many: int) -> None:
    """Create a small and a large database, both with the same catalogue."""
    with subjects.run_storekeep(folder / str(FEW)) as shop:
        stocking.stock_catalogue(shop)
        recording.place_orders(shop)
    shutil.copytree(folder / str(FEW), folder / str(many))
    for number in (FEW, many):
        seeds.fill(SqliteFile(folder / str(number) / "storekeep.db"), orders=number)


def _build_send(shop: Storekeep, query: Query, folder: Path, *, orders: int) -> Send:
    message = query.build_message(find_deep_token(shop, query, orders=orders) if query.deep else "")
    answer = calls.call_unary(shop, calls.LIST_ORDERS, message)
    count = len(orders_pb2.ListOrdersResponse.FromString(answer).orders)
    if count != PAGE:
        raise LoadFailed(f"{shop.server.name}, {query.name}: a page of {count} orders")

    def send(seconds: float) -> Load:
        request = calls.build_grpc_request(
            calls.LIST_ORDERS, message, answer=answer, token=shop.get_token(), folder=folder, in_flight=(1, 1)
        )
        return h2load.send(request, shop.server, seconds=seconds)

    return send


def find_deep_token(shop: Storekeep, query: Query, *, orders: int) -> str:
    """Return the token of a page about half way through all orders."""
    size = min(WALK, max(PAGE, orders // PAGES_MIN))
    token = ""
    for _ in range(orders // 2 // size):
        answer = calls.call_unary(shop, calls.LIST_ORDERS, query.build_message(token, size))
        token = orders_pb2.ListOrdersResponse.FromString(answer).next_page_token
    return token
