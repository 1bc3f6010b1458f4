"""Measure a worker's memory over a large number of calls, one in ten of which places an order."""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmarks import calls, catalogue, stocking, subjects
from benchmarks.loads import h2load, orders
from benchmarks.results import Bar, Figure, Section
from benchmarks.rounds import Spread
from benchmarks.subjects import Storekeep
from storekeep.v1 import products_pb2

BOUND_MB = 150.0
GROWTH_MAX = 1.05
READS_S = 3.0
ORDERS_SHARE = 0.1


def measure_memory(folder: Path, *, early: int, late: int) -> Section:
    """Measure resident memory after `early` and after `late` calls."""
    with subjects.run_storekeep(folder / "storekeep") as shop:
        stocking.stock_catalogue(shop)
        at_start_mb = shop.server.read_rss_mb()
        done = _call(shop, folder, until=early, done=0)
        early_mb = shop.server.read_rss_mb()
        done = _call(shop, folder, until=late, done=done)
        late_mb = shop.server.read_rss_mb()
    figures = [
        Figure(name, {"resident memory": f"{mb:.1f} MB"})
        for name, mb in (
            ("after stocking", at_start_mb),
            (f"after {early:,} calls", early_mb),
            (f"after {late:,} calls", late_mb),
        )
    ]
    growth = late_mb / early_mb
    bars = [
        Bar("resident memory, MB", Spread(late_mb, late_mb, late_mb), BOUND_MB, at_most=True),
        Bar(f"growth from {early:,} to {late:,} calls", Spread(growth, growth, growth), GROWTH_MAX, at_most=True),
    ]
    return Section("Memory of a worker", figures, bars, ("Nine calls in ten are GetProduct, one is PlaceOrder.",))


def _call(shop: Storekeep, folder: Path, *, until: int, done: int) -> int:
    """Read products one after the other for some seconds each, and place orders in between.

    Args:
        until: total number of calls at which to stop.
        done: number of calls so far.

    Returns: the total number of calls.
    """
    placed = 0
    items = itertools.cycle(catalogue.list_items())
    while done < until:
        message = products_pb2.GetProductRequest(name=f"products/{next(items).product_id}")
        answer = calls.call_unary(shop, calls.GET_PRODUCT, message)
        request = calls.build_grpc_request(
            calls.GET_PRODUCT, message, answer=answer, token=shop.get_token(), folder=folder
        )
        done += h2load.send(request, shop.server, seconds=READS_S).answered
        if placed < ORDERS_SHARE * done:
            load = orders.send(orders.GRPC, shop.server, token=shop.get_token(), seconds=1.0)
            placed += load.answered
            done += load.answered
    return done
