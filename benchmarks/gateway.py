"""Compare the gateway, in front of a server on the same core, with the peer and with Envoy's transcoder."""

from __future__ import annotations

import contextlib
import resource
import socket
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, envoy, stocking, subjects
from benchmarks.calling import PEER, build_figures, list_warnings, verify_orders
from benchmarks.loads import h2load, orders
from benchmarks.loads.h2load import Request
from benchmarks.loads.load import Load, LoadFailed
from benchmarks.machine import Server, find_free_address, run_server
from benchmarks.results import Bar, Figure, Section, format_spread
from benchmarks.rounds import Pace, Send, Spread, Turns, measure
from benchmarks.subjects import CALL_TIMEOUT_S, Storekeep
from storekeep.gateway.json_codec import JsonCodec
from storekeep.v1 import auth_pb2, customers_pb2, inventory_pb2, orders_pb2, products_pb2

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep-gateway")
GATEWAY = "gateway and server"
ENVOY = "Envoy and server"
SERVICES = [
    service
    for file in (auth_pb2, customers_pb2, inventory_pb2, orders_pb2, products_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
GET_BAR = 1.5
POST_BAR = 3.0
PAGE_BAR = 1.0
IDLE_BAR_KIB = 40.0
MEMORY_BAR_MB = 150.0
GROWTH_BAR = 1.05
PAGE = 50
CONVERSIONS = 200
IDLE_REQUEST = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"
FIRST_CONNECTIONS = 20
"""Connections before the first reading: what only the first ones need is none of theirs."""
IN_FLIGHT = 64
"""As many as the peer's GetProduct has."""


@contextlib.contextmanager
def run_gateway(folder: Path, shop: Storekeep) -> Iterator[Server]:
    """Run the gateway on the core of the server behind it, until the block ends. All connections have one address."""
    folder.mkdir(parents=True, exist_ok=True)
    address = find_free_address()
    env = {"STOREKEEP_HTTP_LISTEN": address, "STOREKEEP_GATEWAY_SERVER_ADDRESS": shop.server.address}
    env["STOREKEEP_GATEWAY_CONNECTIONS_PER_ADDRESS_MAX"] = "0"
    command = [str(COMMAND), "serve"]
    with run_server("gateway", command, address=address, log=folder / "gateway.log", env=env) as server:
        yield server


def measure_gateway(folder: Path, pace: Pace, *, idle: int, early: int, late: int) -> Section:
    """Measure a GET, a POST, a page of orders, idle connections and memory.

    Args:
        idle: number of idle connections.
        early: requests before the first reading of memory.
        late: requests before the last one.
    """
    with ExitStack() as stack:
        shop = stack.enter_context(subjects.run_storekeep(folder / "storekeep"))
        stocking.stock_catalogue(shop)
        gateway = stack.enter_context(run_gateway(folder / "gateway", shop))
        other = stack.enter_context(envoy.run_envoy(SERVICES, upstream=shop.server.address, folder=folder / "envoy"))
        peer = stack.enter_context(subjects.run_peer(folder / "peer", tuning="usual"))
        fronts = {GATEWAY: gateway, ENVOY: other}
        gets = measure(_build_gets(fronts, shop, peer), pace)
        posts = measure(_build_posts(fronts, shop, peer), pace)
        page_ms, serving_ms = _measure_page(shop, folder, pace)
        idle_kib = _measure_idle(folder / "idle", shop, idle)
        early_mb, late_mb = _measure_memory(gateway, shop, early=early, late=late)
    growth = late_mb / early_mb
    bars = [
        Bar("GET of a product / FastAPI", gets[GATEWAY].compute_ratio(gets[PEER]), GET_BAR),
        Bar("POST of an order / FastAPI", posts[GATEWAY].compute_ratio(posts[PEER]), POST_BAR),
        Bar(f"{PAGE} orders: converting / serving, CPU", _build_ratio(page_ms, serving_ms), PAGE_BAR, at_most=True),
        Bar("KiB of an idle connection", _build_spread(idle_kib), IDLE_BAR_KIB, at_most=True),
        Bar(f"resident memory after {late:,} requests, MB", _build_spread(late_mb), MEMORY_BAR_MB, at_most=True),
        Bar(f"growth of memory after {early:,} requests", _build_spread(growth), GROWTH_BAR, at_most=True),
    ]
    figures = [*_name_figures("GET", gets.values()), *_name_figures("POST", posts.values())]
    notes = (
        "The server CPU of the gateway and of Envoy is their own, without the server behind them.",
        f"A page of {PAGE} orders: {format_spread(page_ms, 2)} ms to JSON, {format_spread(serving_ms, 2)} ms to serve.",
        *list_warnings([*gets.values(), *posts.values()]),
    )
    return Section("The gateway", figures, bars, notes)


def _name_figures(name: str, turns: Sequence[Turns] | Iterator[Turns]) -> list[Figure]:
    return [Figure(f"{name}: {figure.name}", figure.columns) for figure in build_figures(turns)]


def _build_spread(number: float) -> Spread:
    return Spread(number, number, number)


def _build_ratio(one: Spread, other: Spread) -> Spread:
    return Spread(one.median / other.median, one.low / other.high, one.high / other.low)


def _build_gets(fronts: dict[str, Server], shop: Storekeep, peer: subjects.Peer) -> dict[str, Send]:
    peer_request = calls.build_http_request(peer)

    def build_send(front: Server) -> Send:
        return lambda seconds: h2load.send(_build_get(front, shop), front, seconds=seconds)

    senders = {name: build_send(front) for name, front in fronts.items()}
    return {**senders, PEER: lambda seconds: h2load.send(peer_request, peer.server, seconds=seconds)}


def _build_get(front: Server, shop: Storekeep) -> Request:
    """Return a GET of the product for h2load.

    Raises: LoadFailed if the reply is another product.
    """
    path = f"/v1/products/{calls.PRODUCT_ID}"
    headers = {"authorization": f"Bearer {shop.get_token()}"}
    url = urllib.request.Request(f"http://{front.address}{path}", headers=headers)
    with urllib.request.urlopen(url, timeout=CALL_TIMEOUT_S) as reply:
        body = reply.read()
    if JsonCodec(products_pb2.Product.DESCRIPTOR).decode(body) != products_pb2.Product.FromString(
        calls.read_product(shop)
    ):
        raise LoadFailed(f"{front.name}: unexpected product {body!r}")
    return Request(path, headers, None, answer_bytes=len(body), http1=True, connections=IN_FLIGHT, streams=1)


def _build_posts(fronts: dict[str, Server], shop: Storekeep, peer: subjects.Peer) -> dict[str, Send]:
    def build_send(front: Server) -> Send:
        return verify_orders(
            shop.database,
            lambda seconds: orders.send(orders.GATEWAY, front, token=shop.get_token(), seconds=seconds),
        )

    def send_peer(seconds: float) -> Load:
        return orders.send(orders.HTTP, peer.server, token=peer.token, seconds=seconds)

    senders = {name: build_send(front) for name, front in fronts.items()}
    return {**senders, PEER: verify_orders(peer.database, send_peer)}


def _measure_page(shop: Storekeep, folder: Path, pace: Pace) -> tuple[Spread, Spread]:
    """Return the processor time, in ms, to convert a page of orders to JSON, and that of the server to serve it."""
    message = orders_pb2.ListOrdersRequest(page_size=PAGE)
    answer = calls.call_unary(shop, calls.LIST_ORDERS, message)
    codec = JsonCodec(orders_pb2.ListOrdersResponse.DESCRIPTOR)
    request = calls.build_grpc_request(
        calls.LIST_ORDERS, message, answer=answer, token=shop.get_token(), folder=folder, in_flight=(1, 1)
    )
    turns = measure({"page": lambda seconds: h2load.send(request, shop.server, seconds=seconds)}, pace)
    converting = []
    for _ in range(pace.rounds):
        start = time.thread_time()
        for _ in range(CONVERSIONS):
            codec.encode(answer)
        converting.append(1000 * (time.thread_time() - start) / CONVERSIONS)
    return Spread.from_numbers(converting), turns["page"].server_ms


def _measure_idle(folder: Path, shop: Storekeep, number: int) -> float:
    """Return the KiB of resident memory for each idle connection of a new gateway; each has had one request.

    Raises: LoadFailed if a connection is refused.
    """
    with run_gateway(folder, shop) as gateway, ExitStack() as stack:
        host, _, port = gateway.address.rpartition(":")

        def connect() -> None:
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=CALL_TIMEOUT_S))
            connection.sendall(IDLE_REQUEST)
            if not connection.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise LoadFailed("the gateway refused an idle connection")

        for _ in range(FIRST_CONNECTIONS):
            connect()
        before = _read_resident_bytes(gateway)
        for _ in range(number):
            connect()
        return (_read_resident_bytes(gateway) - before) / 1024 / number


def _read_resident_bytes(server: Server) -> int:
    """Return the resident memory of all processes of a server."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.list_pids())
    return sum(pages) * resource.getpagesize()


def _measure_memory(gateway: Server, shop: Storekeep, *, early: int, late: int) -> tuple[float, float]:
    """Return the resident memory in MB after some and after many requests; one in ten places an order."""
    done, readings = 0, []
    for until in (early, late):
        while done < until:
            done += h2load.send(_build_get(gateway, shop), gateway, seconds=3.0).answered
            done += orders.send(orders.GATEWAY, gateway, token=shop.get_token(), seconds=0.5).answered
        readings.append(gateway.read_rss_mb())
    return readings[0], readings[1]
