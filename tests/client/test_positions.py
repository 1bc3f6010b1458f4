"""Reads that may be old say how old, and what the client wrote; each answer to a change tells it more of that."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from storekeep.client import Listing, Storekeep
from storekeep.client.positions import POSITION_KEY, Position
from storekeep.v1.orders_pb2 import Order
from tests.client.test_methods import arguments, client_method
from tests.support.scripted_server import METHODS, Answer, ScriptedServer

READS = [path for path, method in METHODS.items() if "max_staleness" in method.input_type.fields_by_name]


def stands_at(position: str) -> Answer:
    """Answer a change, and say how far the ledger goes with it."""

    def answer(_request: Message, context: grpc.ServicerContext) -> Message:
        context.set_trailing_metadata(((POSITION_KEY, position),))
        return Order(name="orders/1")

    return answer


def read_position(client: Storekeep, scripted: ScriptedServer, **options: Any) -> str | None:
    """The position that a read sends."""
    client.orders.get("orders/1", **options)
    return scripted.calls_of("GetOrder")[-1].metadata.get(POSITION_KEY)


@pytest.mark.parametrize("path", READS, ids=lambda path: path.rpartition("/")[2])
def test_every_reading_method_passes_on_how_old_its_answer_may_be(
    path: str, scripted: ScriptedServer, client: Storekeep
) -> None:
    method = client_method(client, path)
    result = method(**arguments(method), max_staleness_s=1.5)
    if isinstance(result, Listing):
        result.page()
    seen = scripted.seen[-1]
    assert seen.request.max_staleness.ToMilliseconds() == 1500
    assert seen.metadata[POSITION_KEY] == "0"


@pytest.mark.parametrize("path", READS, ids=lambda path: path.rpartition("/")[2])
def test_reading_method_by_default_wants_what_is_so_now(path: str, scripted: ScriptedServer, client: Storekeep) -> None:
    method = client_method(client, path)
    result = method(**arguments(method))
    if isinstance(result, Listing):
        result.page()
    assert not scripted.seen[-1].request.HasField("max_staleness")
    assert POSITION_KEY not in scripted.seen[-1].metadata


def test_staleness_of_zero_is_passed_on(scripted: ScriptedServer, client: Storekeep) -> None:
    client.orders.get("orders/1", max_staleness_s=0)
    assert scripted.seen[-1].request.HasField("max_staleness")


def test_read_after_writes_sends_the_highest_position(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["CancelOrder"] = [stands_at("7"), stands_at("12"), stands_at("9")]
    assert read_position(client, scripted, max_staleness_s=1) == "0"
    for _ in range(3):
        client.orders.cancel("orders/1")
    assert client.position == 12
    assert read_position(client, scripted, max_staleness_s=1) == "12"


def test_answer_without_a_position_or_with_another_word_changes_nothing(
    scripted: ScriptedServer, client: Storekeep
) -> None:
    scripted.scripts["CancelOrder"] = [stands_at("7"), stands_at("v12")]
    for _ in range(3):
        client.orders.cancel("orders/1")
    assert client.position == 7


def test_position_of_another_client_is_remembered(scripted: ScriptedServer, client: Storekeep) -> None:
    client.remember_position(30)
    client.remember_position(20)
    assert client.position == 30
    assert read_position(client, scripted, max_staleness_s=1) == "30"


def test_position_ignores_bytes() -> None:
    position = Position()
    position.learn([(POSITION_KEY, b"5"), ("other", "6")])
    assert position.value == 0
