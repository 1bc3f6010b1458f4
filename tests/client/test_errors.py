"""Every error reason of the contract raises its own exception, with its details and the server's request id."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2

from storekeep.client import (
    REASONS,
    CallTimedOut,
    ClientClosed,
    CountBelowCommitted,
    EtagMismatch,
    IllegalState,
    InvalidField,
    InvalidFilter,
    NotFound,
    OutOfStock,
    Overloaded,
    PermissionDenied,
    ProductNotFound,
    QuantityMismatch,
    Refused,
    ResourceInUse,
    ServerUnreachable,
    Shortage,
    SkuTaken,
    Storekeep,
    StorekeepError,
    UnexpectedStatus,
    errors,
)
from storekeep.client.attempts import to_client_closed
from storekeep.v1.errors_pb2 import ErrorReason
from tests.support.refusals import list_shortages
from tests.support.scripted_server import ScriptedServer, fails, refuses, reply_late

CONTRACT = [
    name.removeprefix("ERROR_REASON_")
    for name in ErrorReason.DESCRIPTOR.values_by_name
    if not name.endswith("UNSPECIFIED")
]


@pytest.mark.parametrize("reason", CONTRACT)
def test_reason_of_the_contract_has_a_class(reason: str) -> None:
    assert REASONS[reason].reason == reason


def test_classes_stand_for_no_reason_outside_the_contract() -> None:
    assert sorted(REASONS) == sorted(CONTRACT)


@pytest.mark.parametrize("kind", REASONS.values(), ids=lambda kind: kind.__name__)
def test_class_is_drawn_in_the_tree_and_exported(kind: type[Refused]) -> None:
    assert f" {kind.__name__}" in (errors.__doc__ or "")
    assert kind.__name__ in __import__("storekeep.client").client.__all__


@pytest.mark.parametrize("reason", [reason for reason in CONTRACT if not REASONS[reason].retryable])
def test_call_when_refused_raises_the_class_of_the_reason(
    reason: str, scripted: ScriptedServer, client: Storekeep
) -> None:
    again = 2 if reason in {"UNAUTHENTICATED", "TOKEN_EXPIRED", "TOKEN_REVOKED"} else 1
    scripted.scripts["GetProduct"] = [refuses(reason, message="not so")] * again
    with pytest.raises(REASONS[reason]) as caught:
        client.products.get("products/a")
    assert str(caught.value) == f"not so [{reason}, request id server-side-id]"
    assert caught.value.request_id == "server-side-id"


def raised(scripted: ScriptedServer, client: Storekeep, reason: str, **facts: str) -> Refused:
    scripted.scripts["GetProduct"] = [refuses(reason, metadata={key.replace("__", "."): v for key, v in facts.items()})]
    with pytest.raises(Refused) as caught:
        client.products.get("products/a")
    return caught.value


def test_out_of_stock_names_each_short_sku(scripted: ScriptedServer, client: Storekeep) -> None:
    facts = list_shortages({"A": (3, 1), "B.2": (5, 0)})
    scripted.scripts["GetProduct"] = [refuses("OUT_OF_STOCK", metadata=facts)]
    with pytest.raises(OutOfStock) as caught:
        client.products.get("products/a")
    assert caught.value.shortages == (Shortage("A", 3, 1), Shortage("B.2", 5, 0))


def test_facts_of_a_reason_are_attributes(scripted: ScriptedServer, client: Storekeep) -> None:
    etag = raised(scripted, client, "ETAG_MISMATCH", resource="products/a", etag="v7")
    assert isinstance(etag, EtagMismatch)
    assert (etag.resource, etag.current_etag) == ("products/a", "v7")
    state = raised(scripted, client, "ILLEGAL_STATE", state="CANCELLED", wanted="CONFIRMED")
    assert isinstance(state, IllegalState)
    assert (state.state, state.requested_state) == ("CANCELLED", "CONFIRMED")
    quantity = raised(scripted, client, "QUANTITY_MISMATCH", on_hand="12")
    assert isinstance(quantity, QuantityMismatch)
    assert quantity.on_hand == 12
    counted = raised(scripted, client, "COUNT_BELOW_COMMITTED", quantity="3", reserved="1", allocated="3")
    assert isinstance(counted, CountBelowCommitted)
    assert counted.committed == 4
    position = raised(scripted, client, "INVALID_FILTER", position="8")
    assert isinstance(position, InvalidFilter)
    assert position.position == 8
    denied = raised(scripted, client, "PERMISSION_DENIED", permission="orders.write")
    assert isinstance(denied, PermissionDenied)
    assert denied.permission == "orders.write"
    used = raised(scripted, client, "RESOURCE_IN_USE", resource="categories/a", user="products/b")
    assert isinstance(used, ResourceInUse)
    assert used.user == "products/b"
    taken = raised(scripted, client, "SKU_TAKEN", sku="A", variant="products/a/variants/a")
    assert isinstance(taken, SkuTaken)
    assert taken.variant == "products/a/variants/a"


def test_invalid_field_names_each_field(scripted: ScriptedServer, client: Storekeep) -> None:
    problems = {"lines[0].quantity": "must be at least 1"}
    scripted.scripts["GetProduct"] = [refuses("INVALID_FIELD", field_problems=problems)]
    with pytest.raises(InvalidField, match=r"lines\[0\].quantity: must be at least 1") as caught:
        client.products.get("products/a")
    assert [problem.field for problem in caught.value.fields] == ["lines[0].quantity"]


def test_reason_that_the_client_does_not_know_is_refused(scripted: ScriptedServer, client: Storekeep) -> None:
    error = raised(scripted, client, "FROM_THE_FUTURE")
    assert type(error) is Refused
    assert error.reason == "FROM_THE_FUTURE"


def test_reason_of_another_domain_is_an_unexpected_status(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["GetProduct"] = [refuses("PRODUCT_NOT_FOUND", domain="elsewhere")]
    with pytest.raises(UnexpectedStatus):
        client.products.get("products/a")


def test_bare_status_is_unexpected_and_keeps_its_code(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["GetProduct"] = [fails(grpc.StatusCode.UNIMPLEMENTED)]
    with pytest.raises(UnexpectedStatus) as caught:
        client.products.get("products/a")
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


def test_overloaded_without_a_request_id_is_overloaded(scripted: ScriptedServer, client: Storekeep) -> None:
    """Most rejections under heavy overload have none."""
    overloaded = refuses("OVERLOADED", code=code_pb2.RESOURCE_EXHAUSTED, retry_delay_s=0.1, request_id="")
    scripted.scripts["GetProduct"] = [overloaded] * 10
    with pytest.raises(Overloaded) as caught:
        client.products.get("products/a", timeout_s=5)
    assert caught.value.retry_delay_s == 0.1


def test_reason_in_a_text_is_no_reason(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["GetProduct"] = [fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much [OVERLOADED]")]
    with pytest.raises(UnexpectedStatus):
        client.products.get("products/a")


def test_call_without_an_answer_in_time_is_timed_out(scripted: ScriptedServer, client: Storekeep) -> None:
    client.auth.who_am_i()
    scripted.scripts["GetProduct"] = [reply_late(1)]
    with pytest.raises(CallTimedOut):
        client.products.get("products/a", timeout_s=0.2)


def test_call_of_nobody_is_server_unreachable() -> None:
    with Storekeep("127.0.0.1:1", api_key="sk_x_y", timeout_s=5) as client, pytest.raises(ServerUnreachable):
        client.products.get("products/a")


def test_call_after_close_is_client_closed(scripted: ScriptedServer) -> None:
    client = Storekeep(scripted.address, api_key="sk_x_y")
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        client.products.get("products/a")


def test_not_found_of_any_kind_can_be_caught_as_one(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["GetProduct"] = [refuses("PRODUCT_NOT_FOUND", code=code_pb2.NOT_FOUND)]
    with pytest.raises(NotFound) as caught:
        client.products.get("products/a")
    assert isinstance(caught.value, ProductNotFound)
    assert isinstance(caught.value, StorekeepError)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_call_on_a_channel_that_closes_meanwhile_says_that_the_client_is_closed(kind: str) -> None:
    channel = grpc.insecure_channel("127.0.0.1:1")
    method = getattr(channel, kind)("/service/Method")
    channel.close()
    with pytest.raises(ValueError, match="Cannot invoke RPC") as raised:
        method(b"")
    assert isinstance(to_client_closed(raised.value), ClientClosed)
