"""Compare GetProduct and PlaceOrder on PostgreSQL with a bare echo server, pgbench and the peer.

Everything shares two cores, PostgreSQL and the load included. Each Python server (Storekeep, echo, peer) is one process
pinned to one core, because a process that moves between cores is slower. Other processes may use that core too.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, postgres, stocking, subjects
from benchmarks.calling import ECHO, PEER, STOREKEEP, build_figures, verify_orders
from benchmarks.floors import pgbench
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load
from benchmarks.machine import ONE_OF_BOTH, Server
from benchmarks.postgres import Postgres
from benchmarks.results import Bar, Section, format_spread
from benchmarks.rounds import Pace, Send, Turns, measure
from benchmarks.subjects import Peer, Storekeep

PGBENCH = "floor: pgbench, one order a transaction"
PGBENCH_TOGETHER = f"pgbench, {pgbench.TOGETHER} orders a transaction"
ORDERS_IN_FLIGHT = 32
"""Enough to keep every contender busy. With more, Storekeep rejects calls that wait longer than 0.1 s."""
GET_PRODUCT_FLOOR = 0.5
PLACE_ORDER_FLOOR = 0.40
PLACE_ORDER_PEER = 8.0
SHARED = "PostgreSQL, servers and load share two cores."


def measure_get_product(folder: Path, pace: Pace) -> Section:
    """Measure GetProduct on PostgreSQL."""
    with ExitStack() as stack:
        running = stack.enter_context(postgres.run_postgres(folder / "postgres"))
        shop = _run_shop(stack, running, folder)
        stocking.stock_catalogue(shop)
        answer = calls.read_product(shop)
        echo = stack.enter_context(subjects.run_echo(folder / "echo", answer, placement=ONE_OF_BOTH))
        usual = _run_peer(stack, running, folder)
        http = calls.build_http_request(usual)

        def send_grpc(server: Server, seconds: float) -> Load:
            message = calls.build_get_product_message()
            request = calls.build_grpc_request(
                calls.GET_PRODUCT, message, answer=answer, token=shop.get_token(), folder=folder
            )
            return h2load.send(request, server, seconds=seconds)

        contenders: dict[str, Send] = {
            STOREKEEP: running.measure_cpu(lambda seconds: send_grpc(shop.server, seconds)),
            ECHO: lambda seconds: send_grpc(echo, seconds),
            PEER: running.measure_cpu(lambda seconds: h2load.send(http, usual.server, seconds=seconds)),
        }
        turns = measure(contenders, pace)
    bars = [Bar("GetProduct / bare grpcio echo", turns[STOREKEEP].compute_ratio(turns[ECHO]), GET_PRODUCT_FLOOR)]
    return Section(
        "GetProduct on PostgreSQL", build_figures(turns.values()), bars, (SHARED, _describe_unbounded(turns, PEER))
    )


def measure_place_order(folder: Path, pace: Pace) -> Section:
    """Measure PlaceOrder on PostgreSQL."""
    with ExitStack() as stack:
        running = stack.enter_context(postgres.run_postgres(folder / "postgres"))
        with ExitStack() as stocked:
            stocking.stock_catalogue(_run_shop(stocked, running, folder))
        copy = running.create("pgbench", template="storekeep")
        shop = _run_shop(stack, running, folder)
        floor, together = pgbench.record(running, shop, copy=copy, folder=folder)
        usual = _run_peer(stack, running, folder)

        def send_grpc(seconds: float) -> Load:
            return orders.send(
                orders.GRPC, shop.server, token=shop.get_token(), seconds=seconds, in_flight=ORDERS_IN_FLIGHT
            )

        def send_http(seconds: float) -> Load:
            return orders.send(
                orders.HTTP, usual.server, token=usual.token, seconds=seconds, in_flight=ORDERS_IN_FLIGHT
            )

        sends = {
            STOREKEEP: verify_orders(shop.database, send_grpc),
            PGBENCH: verify_orders(copy, floor.run),
            PGBENCH_TOGETHER: verify_orders(copy, together.run),
            PEER: verify_orders(usual.database, send_http),
        }
        turns = measure({name: running.measure_cpu(send) for name, send in sends.items()}, pace)
    bars = [
        Bar("PlaceOrder / pgbench", turns[STOREKEEP].compute_ratio(turns[PGBENCH]), PLACE_ORDER_FLOOR),
        Bar("PlaceOrder / FastAPI", turns[STOREKEEP].compute_ratio(turns[PEER]), PLACE_ORDER_PEER),
    ]
    notes = (SHARED, _describe_unbounded(turns, PGBENCH_TOGETHER))
    return Section("PlaceOrder on PostgreSQL", build_figures(turns.values()), bars, notes)


def _run_shop(stack: ExitStack, running: Postgres, folder: Path) -> Storekeep:
    """Run Storekeep on its PostgreSQL database, which is created if missing."""
    database = running.find_or_create("storekeep")
    return stack.enter_context(subjects.run_storekeep(folder / "storekeep", database=database, placement=ONE_OF_BOTH))


def _run_peer(stack: ExitStack, running: Postgres, folder: Path) -> Peer:
    database = running.create("peer")
    return stack.enter_context(
        subjects.run_peer(folder / "peer", tuning="usual", database=database, placement=ONE_OF_BOTH)
    )


def _describe_unbounded(turns: dict[str, Turns], name: str) -> str:
    return (
        f"Against {name}, for which there is no bar: {format_spread(turns[STOREKEEP].compute_ratio(turns[name]), 2)}."
    )
