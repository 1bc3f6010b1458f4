"""Measure pages of the console: server time, bytes and requests, and whether a large shop slows them down."""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

from benchmarks import calls, lists, seeds, subjects
from benchmarks.gateway import run_gateway
from benchmarks.loads.load import Load, LoadFailed
from benchmarks.machine import LOAD_CORE, Server
from benchmarks.results import Bar, Figure, Section, format_spread
from benchmarks.rounds import Pace, Send, Spread, Turns, measure
from benchmarks.subjects import CALL_TIMEOUT_S, Storekeep

ROWS = 100
"""Orders on a page of the list."""
ROWS_BAR_KB = 150.0
ROWS_BAR_MS = 100.0
GROWTH_BAR = 1.3
ORDERS = "/orders"
PAGES: Mapping[str, str] = {
    "dashboard": "/",
    "orders": ORDERS,
    "orders of one state": "/orders?state=CANCELLED",
    "an order": f"/orders/{seeds.format_order_id(7)}",
    "products": "/products",
    "a product": f"/products/{calls.PRODUCT_ID}",
    "stock": "/stock",
    "customers": "/customers",
    "a customer": f"/customers/{seeds.CUSTOMER}",
    "promotions": "/promotions",
    "feed": "/feed",
    "audit log": "/audit",
    "new order": "/orders/new",
}
PACE_DIVISOR = 6
"""Short turns are enough, because pages are requested one after the other, and there are many."""
ASSET = re.compile(rb'(?:src|href)="(/static/[^"]+)"')
ROW = re.compile(rb"<tr><td")
HTTP_OK, SEE_OTHER = 200, 303


class Visit:
    """A browser's connection to a gateway, signed in with the first key of the shop.

    Raises: LoadFailed if the sign-in is refused.
    """

    def __init__(self, gateway: Server, shop: Storekeep) -> None:
        self.servers = (gateway, shop.server)
        host, _, port = gateway.address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=CALL_TIMEOUT_S)
        self._connection.request(
            "POST",
            "/sign-in",
            urlencode({"api_key": shop.api_key}),
            {"content-type": "application/x-www-form-urlencoded"},
        )
        reply = self._connection.getresponse()
        reply.read()
        if reply.status != SEE_OTHER:
            raise LoadFailed(f"the console refused the sign-in: {reply.status}")
        self._cookie = reply.headers["set-cookie"].partition(";")[0]

    def load(self, path: str) -> bytes:
        """Return a page.

        Raises: LoadFailed if it is none.
        """
        self._connection.request("GET", path, headers={"cookie": self._cookie})
        reply = self._connection.getresponse()
        body = reply.read()
        if reply.status != HTTP_OK:
            raise LoadFailed(f"{path}: {reply.status}")
        return body

    def read_cpu_s(self) -> float:
        """Return the processor time of gateway and server so far, in seconds."""
        return sum(server.read_cpu_s() for server in self.servers)

    def repeat(self, path: str, seconds: float) -> Load:
        """Load a page again and again, one after the other. Raises: LoadFailed."""
        began, cpu_s, own_s = time.monotonic(), self.read_cpu_s(), time.process_time()
        count = 0
        while time.monotonic() - began < seconds:
            self.load(path)
            count += 1
        elapsed = time.monotonic() - began
        return Load(count, elapsed, self.read_cpu_s() - cpu_s, time.process_time() - own_s)


def measure_console(folder: Path, pace: Pace, *, many: int) -> Section:
    """Measure each page on `lists.FEW` orders, and the list of orders on `many` as well."""
    short = Pace(pace.rounds, pace.seconds / PACE_DIVISOR, pace.warm_up_s / PACE_DIVISOR)
    lists.make_databases(folder, many)
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CORE})  # this process is the load
    try:
        with ExitStack() as stack:
            visits = {}
            for number in (lists.FEW, many):
                shop = stack.enter_context(subjects.run_storekeep(folder / str(number), name=f"{number:,} orders"))
                gateway = stack.enter_context(run_gateway(folder / f"gateway-{number}", shop))
                visits[number] = Visit(gateway, shop)
            few, lots = visits.values()
            turns = {name: measure(_build_sends({name: few}, path), short)[name] for name, path in PAGES.items()}
            growth = measure(_build_sends({"few": few, "many": lots}, ORDERS), pace)
            bodies = {name: few.load(path) for name, path in PAGES.items()}
    finally:
        os.sched_setaffinity(0, affinity)
    if len(ROW.findall(bodies["orders"])) != ROWS:
        raise LoadFailed(f"the list of orders has not {ROWS} rows")
    names = {"few": f"{lists.FEW:,}", "many": f"{many:,}"}
    rows = {f"orders, of {names[key]}": growth[key] for key in growth}
    figures = [*_build_figures(turns, bodies), *_build_figures(rows, dict.fromkeys(rows, bodies["orders"]))]
    page_kb = len(bodies["orders"]) / 1000
    ratio = Spread.from_numbers(
        [
            one.seconds * other.answered / one.answered / other.seconds
            for one, other in _pair(growth["many"], growth["few"])
        ]
    )
    bars = [
        Bar(f"a page of {ROWS} orders, KB", Spread(page_kb, page_kb, page_kb), ROWS_BAR_KB, at_most=True),
        Bar(f"a page of {ROWS} orders, ms", _compute_ms(growth["few"]), ROWS_BAR_MS, at_most=True),
        Bar(f"a page of {ROWS} orders, of {many:,} / of {lists.FEW:,}", ratio, GROWTH_BAR, at_most=True),
    ]
    notes = (
        "CPU is that of gateway and server together, which share a core. Requests are those of a browser that has been "
        "here before, which keeps style sheet, script and icon, and of one that has not.",
    )
    return Section("Pages of the console", figures, bars, notes)


def _build_sends(visits: Mapping[str, Visit], path: str) -> dict[str, Send]:
    def build(visit: Visit) -> Send:
        return lambda seconds: visit.repeat(path, seconds)

    return {name: build(visit) for name, visit in visits.items()}


def _pair(one: Turns, other: Turns) -> list[tuple[Load, Load]]:
    return list(zip(one.loads, other.loads, strict=True))


def _compute_ms(turns: Turns) -> Spread:
    """Return the milliseconds from a request to its reply."""
    return Spread.from_numbers([1000 * load.seconds / load.answered for load in turns.loads])


def _build_figures(turns: Mapping[str, Turns], bodies: Mapping[str, bytes]) -> Sequence[Figure]:
    return [
        Figure(
            name,
            {
                "ms": format_spread(_compute_ms(its), 1),
                "CPU, ms": format_spread(its.server_ms, 1),
                "KB": f"{len(bodies[name]) / 1000:.1f}",
                "requests": f"1, first {1 + len(set(ASSET.findall(bodies[name])))}",
            },
        )
        for name, its in turns.items()
    ]
