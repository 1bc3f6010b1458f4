"""A reply that repeats that of an earlier call is reported to the caller."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message

from storekeep.client import Storekeep
from storekeep.client.calls import REPLAYED_METADATA_KEY
from storekeep.client.consistency_tokens import CONSISTENCY_METADATA_KEY
from storekeep.v1.orders_pb2 import Order
from tests.support.scripted_server import ScriptedServer, fails


def replay(_request: Message, context: grpc.ServicerContext) -> Message:
    context.set_trailing_metadata(((CONSISTENCY_METADATA_KEY, "7"), (REPLAYED_METADATA_KEY, "true")))
    return Order(name="orders/1")


def test_replay_calls_the_callers_function_and_still_advances_the_token(
    scripted: ScriptedServer, client: Storekeep
) -> None:
    scripted.scripts["CancelOrder"] = [lambda _request, _context: Order(name="orders/1"), replay, replay]
    replays: list[str] = []
    assert client.orders.cancel("orders/1", on_replay=lambda: replays.append("first")).name == "orders/1"
    assert client.orders.cancel("orders/1", on_replay=lambda: replays.append("second")).name == "orders/1"
    assert client.orders.cancel("orders/1").name == "orders/1"
    assert replays == ["second"]
    assert client.consistency_token == 7


def test_retry_after_a_lost_reply_reports_the_replay(scripted: ScriptedServer, client: Storekeep) -> None:
    client.orders.get("orders/1")
    scripted.scripts["CancelOrder"] = [fails(grpc.StatusCode.UNAVAILABLE), replay]
    replays: list[None] = []
    assert client.orders.cancel("orders/1", on_replay=lambda: replays.append(None)).name == "orders/1"
    assert replays == [None]
