"""Compare GetProduct and PlaceOrder of Storekeep with their floors and with the peer, on SQLite."""

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
from benchmarks.results import Bar, Figure, Section, format_spread
from benchmarks.rounds import Pace, Send, Spread, Turns, measure

STOREKEEP = "Storekeep"
ECHO = "floor: bare grpcio echo"
LOOP = "floor: bare sqlite3 loop"
APSW_LOOP = "the same loop through apsw"
PEER = "peer: FastAPI + SQLAlchemy"
TUNED_PEER = "the peer, tuned by hand"
CLIENT_BUSY_MAX = 0.9
"""Above this share of its core, the load itself may limit the rate."""
FLOOR_END_TIMEOUT_S = 120.0

GET_PRODUCT_FLOOR = 0.70
GET_PRODUCT_PEER = 2.5
PLACE_ORDER_FLOOR = 1.5
PLACE_ORDER_PEER = 12.0
PLACE_ORDER_CPU_FLOOR = 1.25
"""Unlike the ratio of rates, it does not depend on the speed of the disk."""


def measure_get_product(folder: Path, pace: Pace) -> Section:
    """Measure GetProduct."""
    with ExitStack() as stack:
        shop = stack.enter_context(subjects.run_storekeep(folder / "storekeep"))
        stocking.stock_catalogue(shop)
        answer = calls.read_product(shop)
        echo = stack.enter_context(subjects.run_echo(folder / "echo", answer))
        usual = stack.enter_context(subjects.run_peer(folder / "peer", tuning="usual"))
        tuned = stack.enter_context(subjects.run_peer(folder / "tuned", tuning="tuned"))

        def send_grpc(server: Server, seconds: float) -> Load:
            message = calls.build_get_product_message()
            request = calls.build_grpc_request(
                calls.GET_PRODUCT, message, answer=answer, token=shop.get_token(), folder=folder
            )
            return h2load.send(request, server, seconds=seconds)

        def send_http(peer: subjects.Peer) -> Send:
            request = calls.build_http_request(peer)
            return lambda seconds: h2load.send(request, peer.server, seconds=seconds)

        contenders: dict[str, Send] = {
            STOREKEEP: lambda seconds: send_grpc(shop.server, seconds),
            ECHO: lambda seconds: send_grpc(echo, seconds),
            PEER: send_http(usual),
            TUNED_PEER: send_http(tuned),
        }
        turns = measure(contenders, pace)
    bars = [
        Bar("GetProduct / bare grpcio echo", turns[STOREKEEP].compute_ratio(turns[ECHO]), GET_PRODUCT_FLOOR),
        Bar("GetProduct / FastAPI", turns[STOREKEEP].compute_ratio(turns[PEER]), GET_PRODUCT_PEER),
    ]
    return Section(
        "GetProduct", build_figures(turns.values()), bars, (describe_tuned_ratio(turns), *list_warnings(turns.values()))
    )


def measure_place_order(folder: Path, pace: Pace) -> Section:
    """Measure PlaceOrder."""
    with ExitStack() as stack:
        shop = stack.enter_context(subjects.run_storekeep(folder / "storekeep"))
        stocking.stock_catalogue(shop)
        recorded = recording.record(shop, folder / "loop")
        usual = stack.enter_context(subjects.run_peer(folder / "peer", tuning="usual"))
        tuned = stack.enter_context(subjects.run_peer(folder / "tuned", tuning="tuned"))

        def send_http(peer: subjects.Peer) -> Send:
            return lambda seconds: orders.send(orders.HTTP, peer.server, token=peer.token, seconds=seconds)

        contenders: dict[str, Send] = {
            STOREKEEP: verify_orders(
                shop.database,
                lambda seconds: orders.send(orders.GRPC, shop.server, token=shop.get_token(), seconds=seconds),
            ),
            LOOP: build_loop_send(recorded, driver="sqlite3"),
            APSW_LOOP: build_loop_send(recorded, driver="apsw"),
            PEER: verify_orders(usual.database, send_http(usual)),
            TUNED_PEER: verify_orders(tuned.database, send_http(tuned)),
        }
        turns = measure(contenders, pace)
    bars = [
        Bar("PlaceOrder / bare sqlite3 loop", turns[STOREKEEP].compute_ratio(turns[LOOP]), PLACE_ORDER_FLOOR),
        Bar("PlaceOrder / the loop through apsw", turns[STOREKEEP].compute_ratio(turns[APSW_LOOP]), PLACE_ORDER_FLOOR),
        Bar("PlaceOrder / FastAPI", turns[STOREKEEP].compute_ratio(turns[PEER]), PLACE_ORDER_PEER),
        Bar(
            "CPU of PlaceOrder / of the loop through apsw",
            turns[STOREKEEP].compute_cpu_ratio(turns[APSW_LOOP]),
            PLACE_ORDER_CPU_FLOOR,
            at_most=True,
        ),
    ]
    return Section(
        "PlaceOrder", build_figures(turns.values()), bars, (describe_tuned_ratio(turns), *list_warnings(turns.values()))
    )


def describe_tuned_ratio(turns: dict[str, Turns]) -> str:
    """Return a note on how much faster Storekeep is than the tuned peer."""
    ratio = turns[STOREKEEP].compute_ratio(turns[TUNED_PEER])
    return f"Against the tuned peer, for which there is no bar: {format_spread(ratio, 2)}."


def verify_orders(database: Database, send: Send) -> Send:
    """Return a load that checks afterwards that the database contains exactly the acknowledged orders."""

    def send_and_count(seconds: float) -> Load:
        before = database.count_orders()
        load = send(seconds)
        written = database.count_orders() - before
        if written != load.answered:
            raise LoadFailed(f"{load.answered} orders were acknowledged, {written} are in {database}")
        return load

    return send_and_count


def build_loop_send(recorded: Recording, *, driver: str) -> Send:
    """Return the load of the floor with one of its drivers."""
    return verify_orders(
        SqliteFile(recorded.working), lambda seconds: run_loop(recorded, driver=driver, seconds=seconds)
    )


def run_loop(recorded: Recording, *, driver: str, seconds: float) -> Load:
    """Run one turn of the floor, which is client and server in one process.

    Raises: LoadFailed if the process fails.
    """
    command = [sys.executable, "-m", "benchmarks.floors.sqlite_loop", *recorded.build_arguments()]
    command += ["--driver", driver, "--seconds", str(seconds)]
    try:
        output, _ = run_pinned(command, cores=[SERVER_CORE], timeout_s=seconds + FLOOR_END_TIMEOUT_S)
    except RuntimeError as error:
        raise LoadFailed(str(error)) from error
    tally = json.loads(output)
    parts = {"server_cpu_s": tally["cpu_s"], "client_cpu_s": 0.0, "commit_s": tally["commit_s"]}
    return Load(tally["answered"], tally["seconds"], **parts)


def build_figures(turns: Iterable[Turns]) -> list[Figure]:
    """Return one figure for each contender, without the columns that are 0 for all."""
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
            {"calls/s": format_spread(each.per_s)}
            | {name: format_spread(column(each), 2) for name, column in columns.items()},
        )
        for each in turns
    ]


def list_warnings(turns: Iterable[Turns]) -> tuple[str, ...]:
    """Return a warning for each rate that the load may have limited."""
    return tuple(
        f"{each.name}: the load used {each.client_busy:.0%} of its core and may be what limits this rate."
        for each in turns
        if each.client_busy > CLIENT_BUSY_MAX
    )
