"""Refused calls never reach the writer, and only workers may set the peer of a call."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from storekeep.server.app import App
from storekeep.server.config import Settings
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.telemetry.logs import Logs
from storekeep.v1 import auth_pb2, auth_pb2_grpc, orders_pb2
from tests.conftest import MakeServer
from tests.support.databases import Database
from tests.support.refusals import refused
from tests.support.shops import Shop, new_id

TIMEOUT_S = 60.0


@pytest.fixture
def app(database: Database, tmp_path: Path) -> Iterator[App]:
    """Start a server in this process, so that a test can block its writer."""
    logs = Logs(level="ERROR", file=tmp_path / "log", queue_max=1_000)
    settings = Settings(data_dir=tmp_path, database_url=database.url, listen="127.0.0.1:0", health_interval_s=60)
    made = App(settings, logs=logs)
    made.install(keep=(tmp_path / "key").write_text)
    yield made
    made.stop()
    logs.close()


def test_refusals_are_given_while_the_writer_is_held_up(app: App, tmp_path: Path):
    go_on, holds = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        holds.set()
        assert go_on.wait(TIMEOUT_S)

    address = app.start()
    with grpc.insecure_channel(address) as channel:
        shop = Shop(channel, api_key=(tmp_path / "key").read_text())
        request = shop.order_request((shop.variant(stock=5).sku, 1))
        holder = threading.Thread(target=app.store.write, args=[hold])
        holder.start()
        assert holds.wait(TIMEOUT_S)
        right = shop.orders.PlaceOrder.future(request)
        path = "/storekeep.v1.OrderService/PlaceOrder"
        with refused("INVALID_FIELD"):
            shop.orders.PlaceOrder(orders_pb2.PlaceOrderRequest(), timeout=TIMEOUT_S)
        with refused("MALFORMED_MESSAGE"):
            shop.send(path, b"\xff", timeout=TIMEOUT_S)
        with refused("UNAUTHENTICATED"):
            shop.bare_channel.unary_unary(path)(b"", timeout=TIMEOUT_S)
        with refused("UNAUTHENTICATED"):
            shop.bare_channel.unary_unary(path)(b"", metadata=(("authorization", "Bearer a.b.c"),), timeout=TIMEOUT_S)
        with refused("API_KEY_INVALID"):
            auth_pb2_grpc.AuthServiceStub(channel).IssueToken(
                auth_pb2.IssueTokenRequest(api_key=new_id("sk")), timeout=TIMEOUT_S
            )
        shop.auth.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=TIMEOUT_S)
        assert not right.done()
        go_on.set()
        assert right.result(TIMEOUT_S).name
        holder.join(TIMEOUT_S)


@pytest.mark.engine("sqlite", reason="it is about the socket that the server listens on")
def test_caller_over_a_socket_cannot_say_whose_call_it_is(make_server: MakeServer, tmp_path: Path):
    server = make_server(listen=f"unix:{tmp_path}/s", rate_limits_per_address="public=0.01", rate_limit_burst_s="200")
    with grpc.insecure_channel(server.address) as channel:
        issue = auth_pb2_grpc.AuthServiceStub(channel).IssueToken
        request = auth_pb2.IssueTokenRequest(api_key=server.admin_key)
        for number in range(2):
            issue(request, metadata=(("x-storekeep-peer", f"ipv4:192.0.2.{number}:1"),), timeout=TIMEOUT_S)
        with refused("RATE_LIMITED"):
            issue(request, metadata=(("x-storekeep-peer", "ipv4:192.0.2.9:1"),), timeout=TIMEOUT_S)
    server.await_log("RATE_LIMITED")
    lines = [json.loads(line) for line in server.log().splitlines() if '"rpc"' in line and "IssueToken" in line]
    assert {line["peer"].partition(":")[0] for line in lines} == {"unix"}
