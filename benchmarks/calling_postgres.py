"""GetProduct and PlaceOrder on PostgreSQL, beside the bare echo, pgbench and the peer, in turns.

All share two cores, PostgreSQL and the load too: there is no core to set apart for either. A server of Python is one
process and stays on one of them, Storekeep, echo and peer alike, as one that roams both is slower. Others use it too.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, postgres, stocking, subjects
from benchmarks.calling import ECHO, PEER, STOREKEEP, counted, figures
from benchmarks.floors import pgbench
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load
from benchmarks.machine import ONE_OF_BOTH, Server
from benchmarks.postgres import Postgres
from benchmarks.results import Bar, Section, span
from benchmarks.rounds import Pace, Send, Turns, measure
from benchmarks.subjects import Peer, Storekeep

PGBENCH = "floor: pgbench, one order a transaction"
PGBENCH_TOGETHER = f"pgbench, {pgbench.TOGETHER} orders a transaction"
ORDERS_IN_FLIGHT = 32
"""Enough to keep all busy; with more, Storekeep would shed what waits longer than 0.1 s."""
GET_PRODUCT_FLOOR = 0.5
PLACE_ORDER_FLOOR = 0.40
PLACE_ORDER_PEER = 8.0
SHARED = "PostgreSQL, servers and load share two cores."


def get_product(folder: Path, pace: Pace) -> Section:
    """Measure GetProduct on PostgreSQL."""
    with ExitStack() as stack:
        running = stack.enter_context(postgres.running(folder / "postgres"))
        shop = _shop(stack, running, folder)
        stocking.stock(shop)
        answer = calls.get_product(shop)
        echo = stack.enter_context(subjects.echo(folder / "echo", answer, placement=ONE_OF_BOTH))
        usual = _peer(stack, running, folder)
        http = calls.http_get_product(usual)

        def send_grpc(server: Server, seconds: float) -> Load:
            message = calls.get_product_message()
            request = calls.grpc_request(calls.GET_PRODUCT, message, answer=answer, token=shop.token(), folder=folder)
            return h2load.send(request, server, seconds=seconds)

        contenders: dict[str, Send] = {
            STOREKEEP: running.counted(lambda seconds: send_grpc(shop.server, seconds)),
            ECHO: lambda seconds: send_grpc(echo, seconds),
            PEER: running.counted(lambda seconds: h2load.send(http, usual.server, seconds=seconds)),
        }
        turns = measure(contenders, pace)
    bars = [Bar("GetProduct / bare grpcio echo", turns[STOREKEEP].ratio_to(turns[ECHO]), GET_PRODUCT_FLOOR)]
    return Section("GetProduct on PostgreSQL", figures(turns.values()), bars, (SHARED, _without_bar(turns, PEER)))


def place_order(folder: Path, pace: Pace) -> Section:
    """Measure PlaceOrder on PostgreSQL."""
    with ExitStack() as stack:
        running = stack.enter_context(postgres.running(folder / "postgres"))
        with ExitStack() as stocked:
            stocking.stock(_shop(stocked, running, folder))
        copy = running.create("pgbench", template="storekeep")
        shop = _shop(stack, running, folder)
        floor, together = pgbench.record(running, shop, copy=copy, folder=folder)
        usual = _peer(stack, running, folder)

        def send_grpc(seconds: float) -> Load:
            return orders.send(
                orders.GRPC, shop.server, token=shop.token(), seconds=seconds, in_flight=ORDERS_IN_FLIGHT
            )

        def send_http(seconds: float) -> Load:
            return orders.send(
                orders.HTTP, usual.server, token=usual.token, seconds=seconds, in_flight=ORDERS_IN_FLIGHT
            )

        sends = {
            STOREKEEP: counted(shop.database, send_grpc),
            PGBENCH: counted(copy, floor.run),
            PGBENCH_TOGETHER: counted(copy, together.run),
            PEER: counted(usual.database, send_http),
        }
        turns = measure({name: running.counted(send) for name, send in sends.items()}, pace)
    bars = [
        Bar("PlaceOrder / pgbench", turns[STOREKEEP].ratio_to(turns[PGBENCH]), PLACE_ORDER_FLOOR),
        Bar("PlaceOrder / FastAPI", turns[STOREKEEP].ratio_to(turns[PEER]), PLACE_ORDER_PEER),
    ]
    notes = (SHARED, _without_bar(turns, PGBENCH_TOGETHER))
    return Section("PlaceOrder on PostgreSQL", figures(turns.values()), bars, notes)


def _shop(stack: ExitStack, running: Postgres, folder: Path) -> Storekeep:
    """Storekeep on its database there, which is made when missing."""
    database = running.find_or_create("storekeep")
    return stack.enter_context(subjects.storekeep(folder / "storekeep", database=database, placement=ONE_OF_BOTH))


def _peer(stack: ExitStack, running: Postgres, folder: Path) -> Peer:
    database = running.create("peer")
    return stack.enter_context(subjects.peer(folder / "peer", tuning="usual", database=database, placement=ONE_OF_BOTH))


def _without_bar(turns: dict[str, Turns], name: str) -> str:
    return f"Against {name}, for which there is no bar: {span(turns[STOREKEEP].ratio_to(turns[name]), 2)}."
