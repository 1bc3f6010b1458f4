"""A page of 50 orders out of many against a page out of few: lists must not slow down as a shop grows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import calls, crowd, recording, stocking, subjects
from benchmarks.loads import h2load
from benchmarks.loads.load import Load, LoadFailed
from benchmarks.results import Bar, Figure, Section, span
from benchmarks.rounds import Pace, Send, measure
from benchmarks.subjects import Storekeep
from storekeep.v1 import orders_pb2

PAGE = 50
WALK = 1_000
"""Orders on a page of the walk to a deep one: as many as the contract allows."""
BOUND = 1.5
FEW = 1_000
PACE_DIVISOR = 4
"""A page is one call after the other, so short turns are enough."""


@dataclass(frozen=True)
class Query:
    """One list.

    Attributes:
        deep: take a page from the middle of all orders.
    """

    name: str
    filter: str = ""
    order_by: str = ""
    deep: bool = False

    def message(self, page_token: str = "", page_size: int = PAGE) -> orders_pb2.ListOrdersRequest:
        """The request for a page."""
        return orders_pb2.ListOrdersRequest(
            page_size=page_size, page_token=page_token, filter=self.filter, order_by=self.order_by
        )


QUERIES = (
    Query("newest first"),
    Query("of one customer", filter=f'customer = "customers/{crowd.CUSTOMER}"'),
    Query("in one state", filter="state = CANCELLED"),
    Query("by total", order_by="total desc"),
    Query("deep inside", deep=True),
)


def list_orders(folder: Path, pace: Pace, *, many: int) -> Section:
    """Measure ListOrders on `FEW` orders and on `many`."""
    short = Pace(pace.rounds, pace.seconds / PACE_DIVISOR, pace.warm_up_s / PACE_DIVISOR)
    _make_databases(folder, many)
    names = {number: f"{number:,} orders" for number in (FEW, many)}
    figures, bars = [], []
    with ExitStack() as stack:
        shops = {
            names[number]: stack.enter_context(subjects.storekeep(folder / str(number), name=names[number]))
            for number in names
        }
        for query in QUERIES:
            turns = measure({name: _sender(shop, query, folder) for name, shop in shops.items()}, short)
            few, lots = turns[names[FEW]], turns[names[many]]
            figures.append(Figure(query.name, {f"pages/s of {name}": span(turns[name].per_s) for name in turns}))
            bars.append(Bar(f"time of a page, {query.name}", few.ratio_to(lots), BOUND, at_most=True))
    return Section(f"ListOrders: a page of {PAGE} out of {many:,} and out of {FEW:,}", figures, bars)


def _make_databases(folder: Path, many: int) -> None:
    """A small and a large one, both with the same catalogue."""
    with subjects.storekeep(folder / str(FEW)) as shop:
        stocking.stock(shop)
        recording.place_some(shop)
    shutil.copytree(folder / str(FEW), folder / str(many))
    for number in (FEW, many):
        crowd.fill(folder / str(number) / "storekeep.db", orders=number)


def _sender(shop: Storekeep, query: Query, folder: Path) -> Send:
    message = query.message(_deep_token(shop, query) if query.deep else "")
    answer = calls.unary(shop, calls.LIST_ORDERS, message)
    found = len(orders_pb2.ListOrdersResponse.FromString(answer).orders)
    if found != PAGE:
        raise LoadFailed(f"{shop.server.name}, {query.name}: a page of {found} orders")

    def send(seconds: float) -> Load:
        request = calls.grpc_request(
            calls.LIST_ORDERS, message, answer=answer, token=shop.token(), folder=folder, in_flight=(1, 1)
        )
        return h2load.send(request, shop.server, seconds=seconds)

    return send


def _deep_token(shop: Storekeep, query: Query) -> str:
    """The token of a page about half way through."""
    tokens = list(_walk(shop, query))
    return tokens[len(tokens) // 2]


def _walk(shop: Storekeep, query: Query) -> Iterator[str]:
    token = ""
    size = PAGE if shop.server.name.startswith(f"{FEW:,} ") else WALK
    while True:
        answer = calls.unary(shop, calls.LIST_ORDERS, query.message(token, size))
        token = orders_pb2.ListOrdersResponse.FromString(answer).next_page_token
        if not token:
            return
        yield token
