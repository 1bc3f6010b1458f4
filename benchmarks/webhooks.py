"""Measure what one webhook endpoint that gets every order costs PlaceOrder, alone and with 100 watchers, on SQLite."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import stocking, subjects
from benchmarks.calling import build_figures, list_warnings, verify_orders
from benchmarks.events import END_TIMEOUT_S, run_watchers
from benchmarks.loads import orders, webhook_receiver
from benchmarks.loads.load import Load
from benchmarks.machine import LOAD_CORE, Placement, find_free_address, run_server
from benchmarks.results import Bar, Section
from benchmarks.rounds import Pace, Send, measure
from benchmarks.subjects import CALL_TIMEOUT_S, Storekeep
from storekeep.v1 import webhooks_pb2, webhooks_pb2_grpc

WATCHERS = 100
WITH, WITHOUT, WATCHED = "with an endpoint", "without", f"with {WATCHERS} watchers and an endpoint"
RATIO_MIN = 0.85


def measure_webhooks(folder: Path, pace: Pace) -> Section:
    """Measure PlaceOrder with and without an endpoint. Receiver and watchers share the core of the load."""
    certificate = webhook_receiver.write_certificate(folder)
    address = find_free_address()
    settings = {
        "STOREKEEP_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "STOREKEEP_WEBHOOK_PORTS": "any",
        "STOREKEEP_WEBHOOK_CA_FILE": str(certificate),
    }
    module = "benchmarks.loads.webhook_receiver"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", module, "--port", port, "--certificate", str(certificate)]
    placement = Placement(server=(LOAD_CORE,), load=(LOAD_CORE,))
    with ExitStack() as stack:
        log = folder / "receiver.log"
        stack.enter_context(run_server("receiver", command, address=address, log=log, placement=placement))
        shops = {
            name: stack.enter_context(subjects.run_storekeep(folder / name.partition(" ")[0], settings=settings))
            for name in (WITHOUT, WITH)
        }
        for shop in shops.values():
            stocking.stock_catalogue(shop)
        _create_endpoint(shops[WITH], url=f"https://{address}/orders")
        contenders = {name: _build_orders(shop) for name, shop in shops.items()}
        turns = measure(contenders | {WATCHED: _build_watched(shops[WITH], contenders[WITH])}, pace)
    bars = [
        Bar(f"PlaceOrder {name} / {WITHOUT}", turns[name].compute_ratio(turns[WITHOUT]), RATIO_MIN)
        for name in (WITH, WATCHED)
    ]
    return Section("PlaceOrder with webhooks", build_figures(turns.values()), bars, list_warnings(turns.values()))


def _create_endpoint(shop: Storekeep, *, url: str) -> None:
    endpoint = webhooks_pb2.WebhookEndpoint(url=url, event_types=["order.*"])
    create = webhooks_pb2_grpc.WebhookServiceStub(shop.channel).CreateWebhookEndpoint
    request = webhooks_pb2.CreateWebhookEndpointRequest(webhook_endpoint=endpoint)
    create(request, timeout=CALL_TIMEOUT_S, metadata=shop.build_metadata())


def _build_orders(shop: Storekeep) -> Send:
    return verify_orders(
        shop.database, lambda seconds: orders.send(orders.GRPC, shop.server, token=shop.get_token(), seconds=seconds)
    )


def _build_watched(shop: Storekeep, send: Send) -> Send:
    """Return a load like `send` with watchers of all events."""

    def send_watched(seconds: float) -> Load:
        with run_watchers(shop, count=WATCHERS, seconds=seconds + END_TIMEOUT_S):
            return send(seconds)

    return send_watched
