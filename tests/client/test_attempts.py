"""Transient failures are retried within the deadline and under the same request id; other failures are not."""

from __future__ import annotations

import subprocess
import sys
import time

import grpc
import pytest
from google.rpc import code_pb2

from storekeep.client import (
    DEFAULT_TIMEOUT_S,
    OutOfStock,
    Overloaded,
    ServerUnreachable,
    ShuttingDown,
    StorageUnavailable,
    Storekeep,
    StorekeepError,
)
from storekeep.client.attempts import (
    ATTEMPTS_MAX,
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    BUDGET_RETRIES_MAX,
    BUDGET_RETRIES_PER_SUCCESS,
    RetryBudget,
    call_with_retries,
    compute_retry_pause_s,
)
from storekeep.client.channels import TRANSPORT_ATTEMPTS_MAX
from storekeep.client.deadlines import Deadline
from storekeep.v1.orders_pb2 import Order
from tests.support.scripted_server import Answer, ScriptedServer, fails, refuses, replies

PASSING = [
    ("OVERLOADED", code_pb2.RESOURCE_EXHAUSTED),
    ("STORAGE_UNAVAILABLE", code_pb2.UNAVAILABLE),
    ("SHUTTING_DOWN", code_pb2.UNAVAILABLE),
]


def place(client: Storekeep, **options: float) -> Order:
    return client.orders.place(customer="customers/a", lines=[("A", 1)], currency_code="EUR", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("reason", "code"), PASSING)
def test_mutation_when_the_reason_passes_is_retried_under_its_request_id(
    reason: str, code: int, scripted: ScriptedServer, client: Storekeep
) -> None:
    scripted.scripts["PlaceOrder"] = [refuses(reason, code=code), replies(Order(name="orders/1"))]
    assert place(client).name == "orders/1"
    first, second = scripted.calls_of("PlaceOrder")
    assert first.request.request_id == second.request.request_id


def test_retry_waits_as_long_as_the_server_asks(scripted: ScriptedServer, client: Storekeep) -> None:
    delay = refuses("OVERLOADED", code=code_pb2.RESOURCE_EXHAUSTED, retry_delay_s=0.3)
    scripted.scripts["PlaceOrder"] = [delay, replies(Order(name="orders/1"))]
    place(client)
    first, second = scripted.calls_of("PlaceOrder")
    assert second.at_s - first.at_s >= 0.3


def test_retry_beyond_the_deadline_is_not_waited_for(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["PlaceOrder"] = [refuses("OVERLOADED", code=code_pb2.RESOURCE_EXHAUSTED, retry_delay_s=30)] * 2
    began = time.monotonic()
    with pytest.raises(Overloaded) as caught:
        place(client, timeout_s=20)
    assert time.monotonic() - began < 15
    assert caught.value.retry_delay_s == 30


def test_retries_are_bounded(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["PlaceOrder"] = [refuses("OVERLOADED", code=code_pb2.RESOURCE_EXHAUSTED)] * 20
    with pytest.raises(Overloaded):
        place(client)
    assert len(scripted.calls_of("PlaceOrder")) == ATTEMPTS_MAX


def test_retries_of_one_client_under_overload_have_a_budget() -> None:
    budget, sent = RetryBudget(), []

    def attempt() -> None:
        sent.append(1)
        raise Overloaded("busy")

    def call() -> None:
        with pytest.raises(Overloaded):
            call_with_retries(attempt, deadline=Deadline.after(60), budget=budget)

    while budget.spend():
        pass
    call()
    assert len(sent) == 1
    for _ in range(round(1 / BUDGET_RETRIES_PER_SUCCESS)):
        budget.earn()
    call()
    assert len(sent) == 3
    for _ in range(10 * BUDGET_RETRIES_MAX):
        budget.earn()
    assert sum(budget.spend() for _ in range(2 * BUDGET_RETRIES_MAX)) == BUDGET_RETRIES_MAX


@pytest.mark.parametrize("error", [ShuttingDown("going"), StorageUnavailable("away"), ServerUnreachable("gone")])
def test_absence_is_waited_for_without_a_budget(error: StorekeepError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storekeep.client.attempts.BACKOFF_MAX_S", 0.001)
    budget, failures = RetryBudget(), iter([error] * 3 * ATTEMPTS_MAX)
    while budget.spend():
        pass

    def attempt() -> str:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return "done"

    assert call_with_retries(attempt, deadline=Deadline.after(60), budget=budget, reconnects=True) == "done"


def test_call_when_the_reason_stays_is_not_retried(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["PlaceOrder"] = [refuses("OUT_OF_STOCK")]
    with pytest.raises(OutOfStock):
        place(client)
    assert len(scripted.calls_of("PlaceOrder")) == 1


def test_unavailable_without_a_reason_is_retried_by_the_channel(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["PlaceOrder"] = [fails(grpc.StatusCode.UNAVAILABLE)] * 2
    place(client)
    assert len(scripted.calls_of("PlaceOrder")) == 3
    assert len({call.request.request_id for call in scripted.calls_of("PlaceOrder")}) == 1


def test_unavailable_for_good_is_given_up(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["PlaceOrder"] = [fails(grpc.StatusCode.UNAVAILABLE)] * 20
    with pytest.raises(ServerUnreachable):
        place(client)
    assert len(scripted.calls_of("PlaceOrder")) == TRANSPORT_ATTEMPTS_MAX


def test_call_when_an_answering_server_goes_is_tried_on(scripted: ScriptedServer, client: Storekeep) -> None:
    place(client)
    scripted.scripts["PlaceOrder"] = [fails(grpc.StatusCode.UNAVAILABLE)] * (TRANSPORT_ATTEMPTS_MAX + 1)
    place(client)
    assert len(scripted.calls_of("PlaceOrder")) == 1 + TRANSPORT_ATTEMPTS_MAX + 2


def test_call_that_a_stopping_server_cancels_is_tried_again(scripted: ScriptedServer, client: Storekeep) -> None:
    place(client)
    scripted.scripts["PlaceOrder"] = [fails(grpc.StatusCode.CANCELLED)]
    place(client)
    _, cancelled, again = scripted.calls_of("PlaceOrder")
    assert cancelled.request.request_id == again.request.request_id


AWAY = fails(grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize(
    "met",
    [
        [fails(grpc.StatusCode.CANCELLED)],
        [*[AWAY] * (TRANSPORT_ATTEMPTS_MAX - 1), refuses("SHUTTING_DOWN", code=code_pb2.UNAVAILABLE)],
    ],
)
def test_first_call_that_meets_a_stopping_server_is_tried_on(
    scripted: ScriptedServer, client: Storekeep, met: list[Answer]
) -> None:
    scripted.scripts["PlaceOrder"] = [*met, *[AWAY] * (TRANSPORT_ATTEMPTS_MAX + 1)]
    place(client)
    assert len({call.request.request_id for call in scripted.calls_of("PlaceOrder")}) == 1


def test_token_after_a_rejected_one_is_fetched_though_the_server_restarts(
    scripted: ScriptedServer, client: Storekeep
) -> None:
    place(client)
    scripted.scripts["PlaceOrder"] = [refuses("TOKEN_EXPIRED")]
    scripted.scripts["IssueToken"] = [AWAY] * (TRANSPORT_ATTEMPTS_MAX + 1)
    place(client)


def test_refresh_token_is_never_sent_twice(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["RefreshToken"] = [fails(grpc.StatusCode.UNAVAILABLE)] * 3
    with pytest.raises(ServerUnreachable):
        client.auth.refresh_token("rt")
    assert len(scripted.calls_of("RefreshToken")) == 1


def test_pause_grows_and_stays_below_its_ceiling() -> None:
    for attempt in range(1, 10):
        ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (attempt - 1))
        pauses = [compute_retry_pause_s(Overloaded("busy"), attempt=attempt) for _ in range(50)]
        assert 0 <= min(pauses) <= max(pauses) <= ceiling_s


SHIPPED = """
import sys
from storekeep.client import Storekeep
with Storekeep(sys.argv[1], api_key="sk_test_0123456789") as client:
    client.orders.get("orders/1")
"""


def test_call_without_a_timeout_has_the_documented_default(scripted: ScriptedServer) -> None:
    """It runs in its own process, because the tests themselves have a longer default."""
    subprocess.run([sys.executable, "-c", SHIPPED, scripted.address], check=True, timeout=120)
    (call,) = scripted.calls_of("GetOrder")
    assert 0 < call.left_s <= DEFAULT_TIMEOUT_S == 10
