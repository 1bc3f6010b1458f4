"""GetProduct and PlaceOrder: Storekeep beside their floors and beside the peer, in turns."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, recording, stocking, subjects
from benchmarks.databases import Database, SqliteFile
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load, LoadFailed
from benchmarks.machine import SERVER_CORE, Server, run_pinned
from benchmarks.recording import Recording
from benchmarks.results import Bar, Figure, Section, span
from benchmarks.rounds import Pace, Send, Spread, Turns, measure

STOREKEEP = "Storekeep"
ECHO = "floor: bare grpcio echo"
LOOP = "floor: bare sqlite3 loop"
APSW_LOOP = "the same loop through apsw"
PEER = "peer: FastAPI + SQLAlchemy"
TUNED_PEER = "the peer, tuned by hand"
CLIENT_BUSY_MAX = 0.9
"""Above this share of its core the load may be what limits a rate."""
FLOOR_END_TIMEOUT_S = 120.0

GET_PRODUCT_FLOOR = 0.70
GET_PRODUCT_PEER = 2.5
PLACE_ORDER_FLOOR = 1.5
PLACE_ORDER_PEER = 12.0
PLACE_ORDER_CPU_FLOOR = 1.25
"""Does not depend on how fast the disk is beside the processor, as the ratio of rates does."""


def get_product(folder: Path, pace: Pace) -> Section:
    """Measure GetProduct."""
    with ExitStack() as stack:
        shop = stack.enter_context(subjects.storekeep(folder / "storekeep"))
        stocking.stock(shop)
        answer = calls.get_product(shop)
        echo = stack.enter_context(subjects.echo(folder / "echo", answer))
        usual = stack.enter_context(subjects.peer(folder / "peer", tuning="usual"))
        tuned = stack.enter_context(subjects.peer(folder / "tuned", tuning="tuned"))

        def send_grpc(server: Server, seconds: float) -> Load:
            message = calls.get_product_message()
            request = calls.grpc_request(calls.GET_PRODUCT, message, answer=answer, token=shop.token(), folder=folder)
            return h2load.send(request, server, seconds=seconds)

        def send_http(peer: subjects.Peer) -> Send:
            request = calls.http_get_product(peer)
            return lambda seconds: h2load.send(request, peer.server, seconds=seconds)

        contenders: dict[str, Send] = {
            STOREKEEP: lambda seconds: send_grpc(shop.server, seconds),
            ECHO: lambda seconds: send_grpc(echo, seconds),
            PEER: send_http(usual),
            TUNED_PEER: send_http(tuned),
        }
        turns = measure(contenders, pace)
    bars = [
        Bar("GetProduct / bare grpcio echo", turns[STOREKEEP].ratio_to(turns[ECHO]), GET_PRODUCT_FLOOR),
        Bar("GetProduct / FastAPI", turns[STOREKEEP].ratio_to(turns[PEER]), GET_PRODUCT_PEER),
    ]
    return Section("GetProduct", figures(turns.values()), bars, (beyond_the_bar(turns), *warnings(turns.values())))


def place_order(folder: Path, pace: Pace) -> Section:
    """Measure PlaceOrder."""
    with ExitStack() as stack:
        shop = stack.enter_context(subjects.storekeep(folder / "storekeep"))
        stocking.stock(shop)
        recorded = recording.record(shop, folder / "loop")
        usual = stack.enter_context(subjects.peer(folder / "peer", tuning="usual"))
        tuned = stack.enter_context(subjects.peer(folder / "tuned", tuning="tuned"))

        def send_http(peer: subjects.Peer) -> Send:
            return lambda seconds: orders.send(orders.HTTP, peer.server, token=peer.token, seconds=seconds)

        contenders: dict[str, Send] = {
            STOREKEEP: counted(
                shop.database,
                lambda seconds: orders.send(orders.GRPC, shop.server, token=shop.token(), seconds=seconds),
            ),
            LOOP: counted_loop(recorded, driver="sqlite3"),
            APSW_LOOP: counted_loop(recorded, driver="apsw"),
            PEER: counted(usual.database, send_http(usual)),
            TUNED_PEER: counted(tuned.database, send_http(tuned)),
        }
        turns = measure(contenders, pace)
    bars = [
        Bar("PlaceOrder / bare sqlite3 loop", turns[STOREKEEP].ratio_to(turns[LOOP]), PLACE_ORDER_FLOOR),
        Bar("PlaceOrder / the loop through apsw", turns[STOREKEEP].ratio_to(turns[APSW_LOOP]), PLACE_ORDER_FLOOR),
        Bar("PlaceOrder / FastAPI", turns[STOREKEEP].ratio_to(turns[PEER]), PLACE_ORDER_PEER),
        Bar(
            "CPU of PlaceOrder / of the loop through apsw",
            turns[STOREKEEP].cpu_ratio_to(turns[APSW_LOOP]),
            PLACE_ORDER_CPU_FLOOR,
            at_most=True,
        ),
    ]
    return Section("PlaceOrder", figures(turns.values()), bars, (beyond_the_bar(turns), *warnings(turns.values())))


def beyond_the_bar(turns: dict[str, Turns]) -> str:
    """How much faster Storekeep is than a peer that few would write."""
    return (
        f"Against the tuned peer, for which there is no bar: {span(turns[STOREKEEP].ratio_to(turns[TUNED_PEER]), 2)}."
    )


def counted(database: Database, send: Send) -> Send:
    """A load after which exactly the orders that were acknowledged have to be in the database."""

    def send_and_count(seconds: float) -> Load:
        before = database.count_orders()
        load = send(seconds)
        written = database.count_orders() - before
        if written != load.answered:
            raise LoadFailed(f"{load.answered} orders were acknowledged, {written} are in {database}")
        return load

    return send_and_count


def counted_loop(recorded: Recording, *, driver: str) -> Send:
    """The floor, with one of its drivers."""
    return counted(SqliteFile(recorded.working), lambda seconds: run_loop(recorded, driver=driver, seconds=seconds))


def run_loop(recorded: Recording, *, driver: str, seconds: float) -> Load:
    """One turn of the floor; it is client and server in one.

    Raises: LoadFailed.
    """
    command = [sys.executable, "-m", "benchmarks.floors.sqlite_loop", *recorded.arguments()]
    command += ["--driver", driver, "--seconds", str(seconds)]
    try:
        output, _ = run_pinned(command, cores=[SERVER_CORE], timeout_s=seconds + FLOOR_END_TIMEOUT_S)
    except RuntimeError as error:
        raise LoadFailed(str(error)) from error
    tally = json.loads(output)
    parts = {"server_cpu_s": tally["cpu_s"], "client_cpu_s": 0.0, "commit_s": tally["commit_s"]}
    return Load(tally["answered"], tally["seconds"], **parts)


def figures(turns: Iterable[Turns]) -> list[Figure]:
    """Return a line for each contender; columns that are 0 for all of them are left out."""
    turns = list(turns)
    columns: dict[str, Callable[[Turns], Spread]] = {
        "server CPU, s per 1,000 calls": lambda each: each.server_ms,
        "PostgreSQL CPU, s per 1,000 calls": lambda each: each.database_ms,
        "client CPU, s per 1,000 calls": lambda each: each.client_ms,
        "commit, s per 1,000": lambda each: each.commit_ms,
    }
    columns = {name: column for name, column in columns.items() if any(column(each).high for each in turns)}
    return [
        Figure(
            each.name,
            {"calls/s": span(each.per_s)} | {name: span(column(each), 2) for name, column in columns.items()},
        )
        for each in turns
    ]


def warnings(turns: Iterable[Turns]) -> tuple[str, ...]:
    """Which rates may be those of the load."""
    return tuple(
        f"{each.name}: the load used {each.client_busy:.0%} of its core and may be what limits this rate."
        for each in turns
        if each.client_busy > CLIENT_BUSY_MAX
    )
