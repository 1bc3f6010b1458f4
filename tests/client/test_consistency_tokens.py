"""Stale reads send their maximum age and the consistency token, which each reply to a write advances."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from storekeep.client import Listing, Storekeep
from storekeep.client.consistency_tokens import CONSISTENCY_METADATA_KEY, ConsistencyToken
from storekeep.v1.orders_pb2 import Order
from tests.client.test_methods import UNARY, arguments, client_method
from tests.support.scripted_server import METHODS, Answer, ScriptedServer

READS = [path for path in UNARY if "max_staleness" in METHODS[path].input_type.fields_by_name]


def reply_with_token(token: str) -> Answer:
    """Answer a write with a consistency token."""

    def answer(_request: Message, context: grpc.ServicerContext) -> Message:
        context.set_trailing_metadata(((CONSISTENCY_METADATA_KEY, token),))
        return Order(name="orders/1")

    return answer


def send_read(client: Storekeep, scripted: ScriptedServer, **options: Any) -> str | None:
    """Send a read and return the consistency token it carried."""
    client.orders.get("orders/1", **options)
    return scripted.calls_of("GetOrder")[-1].metadata.get(CONSISTENCY_METADATA_KEY)


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
    assert seen.metadata[CONSISTENCY_METADATA_KEY] == "0"


@pytest.mark.parametrize("path", READS, ids=lambda path: path.rpartition("/")[2])
def test_reading_method_by_default_wants_what_is_so_now(path: str, scripted: ScriptedServer, client: Storekeep) -> None:
    method = client_method(client, path)
    result = method(**arguments(method))
    if isinstance(result, Listing):
        result.page()
    assert not scripted.seen[-1].request.HasField("max_staleness")
    assert CONSISTENCY_METADATA_KEY not in scripted.seen[-1].metadata


def test_staleness_of_zero_is_passed_on(scripted: ScriptedServer, client: Storekeep) -> None:
    client.orders.get("orders/1", max_staleness_s=0)
    assert scripted.seen[-1].request.HasField("max_staleness")


def test_read_after_writes_sends_the_highest_position(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["CancelOrder"] = [reply_with_token("7"), reply_with_token("12"), reply_with_token("9")]
    assert send_read(client, scripted, max_staleness_s=1) == "0"
    for _ in range(3):
        client.orders.cancel("orders/1")
    assert client.consistency_token == 12
    assert send_read(client, scripted, max_staleness_s=1) == "12"


def test_answer_without_a_position_or_with_another_word_changes_nothing(
    scripted: ScriptedServer, client: Storekeep
) -> None:
    scripted.scripts["CancelOrder"] = [reply_with_token("7"), reply_with_token("v12")]
    for _ in range(3):
        client.orders.cancel("orders/1")
    assert client.consistency_token == 7


def test_position_of_another_client_is_remembered(scripted: ScriptedServer, client: Storekeep) -> None:
    client.remember_consistency_token(30)
    client.remember_consistency_token(20)
    assert client.consistency_token == 30
    assert send_read(client, scripted, max_staleness_s=1) == "30"


def test_position_ignores_bytes() -> None:
    token = ConsistencyToken()
    token.update_from_metadata([(CONSISTENCY_METADATA_KEY, b"5"), ("other", "6")])
    assert token.value == 0
