"""The error table is complete, and a failed call reveals only what the contract states."""

from __future__ import annotations

import queue
from typing import Any

import grpc
import grpc_testing
import msgspec
import pytest
from google.rpc import error_details_pb2
from grpc_testing._server import _servicer_context

from storekeep.server.domain import errors as domain_errors
from storekeep.server.interceptors import errors
from storekeep.server.interceptors.error_table import ERRORS, UNKNOWN, UNKNOWN_TEXT, find_row
from storekeep.server.interceptors.request_log import request_log
from storekeep.server.store import errors as store_errors
from storekeep.server.transport import errors as transport_errors
from storekeep.server.transport.rpc import Method, Rpc
from storekeep.v1 import orders_pb2, orders_pb2_grpc
from tests.support.refusals import REASONS

RETRYABLE_CODES = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.fixture(autouse=True)
def _set_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the peer of calls, which grpcio-testing does not."""
    monkeypatch.setattr(_servicer_context.ServicerContext, "peer", lambda _context: "ipv4:127.0.0.1:1")


def test_every_reason_of_the_contract_has_a_row_and_no_row_another_reason():
    reasons = {row.reason for row in ERRORS.values()} | {UNKNOWN.reason}
    assert reasons == REASONS - {"UNSPECIFIED"}


@pytest.mark.parametrize("reason", sorted({row.reason for row in ERRORS.values()}))
def test_rows_of_one_reason_agree(reason: str):
    assert len({row for row in ERRORS.values() if row.reason == reason}) == 1


def test_only_what_waiting_helps_is_retryable():
    retryable = {row.reason for row in ERRORS.values() if row.retryable}
    unavailable = {"STORAGE_UNAVAILABLE", "IDENTITY_PROVIDER_UNAVAILABLE"}
    assert retryable == {"OVERLOADED", "RATE_LIMITED", "SHUTTING_DOWN"} | unavailable
    assert {row.code for row in ERRORS.values() if row.retryable} <= RETRYABLE_CODES


def test_no_row_is_internal_or_unknown():
    assert not {row.code for row in ERRORS.values()} & {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), domain_errors.DomainError("x"), RuntimeError()])
def test_error_without_a_row_is_a_defect(error: Exception):
    assert find_row(error) is UNKNOWN


def test_row_is_of_the_class_itself_and_not_of_one_above_it():
    class Refined(domain_errors.OutOfStock):
        pass

    assert find_row(Refined({"A": (1, 0)})) is UNKNOWN


# -- the status


def status(error: Exception) -> Any:
    """Return the status of an error as it is sent."""
    row = find_row(error)
    text = UNKNOWN_TEXT if row is UNKNOWN else str(error)
    return errors.build_status(error, row, errors.shorten(text), Rpc("x.Y/Z", "call-1"))


def detail(error: Exception, kind: Any) -> Any:
    """Return one detail of an error's status."""
    message = kind()
    (packed,) = [one for one in status(error).details if one.Is(kind.DESCRIPTOR)]
    packed.Unpack(message)
    return message


def test_defect_tells_nothing_of_itself():
    told = status(RuntimeError("postgresql://admin:secret@db/storekeep"))
    assert "secret" not in str(told)
    assert detail(RuntimeError("secret"), error_details_pb2.ErrorInfo).reason == "INTERNAL"
    assert told.message == UNKNOWN_TEXT


def test_status_always_names_the_call():
    assert detail(ValueError(), error_details_pb2.RequestInfo).request_id == "call-1"


def test_overload_says_when_to_come_back():
    delay = detail(store_errors.Overloaded(retry_after_ms=250), error_details_pb2.RetryInfo).retry_delay
    assert delay.ToMilliseconds() == 250


def test_field_violation_is_told_as_bad_request():
    violation = detail(
        domain_errors.InvalidAmount("lines[0].price", "too much"), error_details_pb2.BadRequest
    ).field_violations[0]
    assert (violation.field, violation.description) == ("lines[0].price", "too much")


@pytest.mark.parametrize(
    "error",
    [
        domain_errors.InvalidUpdateMask("🫖" * 50_000, allowed=("display_name",)),
        domain_errors.InvalidFilter("é" * 50_000, position=1),
        domain_errors.OutOfStock({f"{number:064}": (10**6, 10**12) for number in range(500)}),
        domain_errors.OutOfStock({f"{number:03}": (1, 0) for number in range(500)}),
        transport_errors.InvalidFields([("é" * 1000, "🫖" * 1000)] * 500),
    ],
    ids=["mask", "filter", "long SKUs", "short SKUs", "fields"],
)
def test_status_of_a_large_error_is_small_enough_to_arrive(error: Exception):
    told = status(error)
    assert len(told.SerializeToString()) * 4 / 3 + len(told.message.encode()) * 3 < 8_000


def test_shortened_text_stays_whole_characters():
    text = errors.shorten("é🫖" * 1_000)
    assert len(text.encode()) <= errors.TEXT_BYTES_MAX
    assert text.endswith("...")
    assert errors.shorten("short") == "short"


# -- without a connection: failures that no caller can cause on a real server


class Servicer(orders_pb2_grpc.OrderServiceServicer):
    """An OrderService whose GetOrder raises a given error, inside the log and errors layers."""

    def __init__(self, error: Exception) -> None:
        def serve(_request: Any, _context: Any, _rpc: Rpc) -> Any:
            raise error

        method = Method("storekeep.v1.OrderService/GetOrder", "orders.read", orders_pb2.GetOrderRequest)
        self.lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        log = request_log(lambda line, *, level: self.lines.put(msgspec.to_builtins(line) | {"level": level}))
        self.GetOrder = log(method, errors.map_errors(method, serve))


def end_call(servicer: Servicer) -> tuple[grpc.StatusCode, str]:
    """Return the status code and text of a GetOrder call; grpc-testing drops the details of aborted calls."""
    service = orders_pb2.DESCRIPTOR.services_by_name["OrderService"]
    server = grpc_testing.server_from_dictionary({service: servicer}, grpc_testing.strict_real_time())
    call = server.invoke_unary_unary(
        service.methods_by_name["GetOrder"], (("x-request-id", "call-1"),), orders_pb2.GetOrderRequest(), 5
    )
    _, _, code, text = call.termination()
    return code, text


def test_defect_ends_as_internal_and_tells_nothing():
    servicer = Servicer(RuntimeError("postgresql://admin:secret@db/storekeep"))
    assert end_call(servicer) == (grpc.StatusCode.INTERNAL, UNKNOWN_TEXT)


def test_defect_is_logged_whole_under_the_id_of_the_call(caplog: pytest.LogCaptureFixture):
    end_call(Servicer(RuntimeError("what went wrong")))
    (record,) = [record for record in caplog.records if record.name == "storekeep.rpc"]
    assert record.request_id == "call-1"
    assert "what went wrong" in (record.exc_text or str(record.exc_info))


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (store_errors.StorageFull(), "RESOURCE_EXHAUSTED", "STORAGE_FULL"),
        (store_errors.StorageUnavailable(), "UNAVAILABLE", "STORAGE_UNAVAILABLE"),
        (store_errors.ReadTooExpensive(15.0), "RESOURCE_EXHAUSTED", "READ_TOO_EXPENSIVE"),
        (store_errors.ShuttingDown(), "UNAVAILABLE", "SHUTTING_DOWN"),
        (RuntimeError("x"), "INTERNAL", "INTERNAL"),
    ],
)
def test_log_line_has_the_code_and_the_reason_that_the_caller_gets(error: Exception, code: str, reason: str):
    servicer = Servicer(error)
    assert end_call(servicer)[0].name == code
    line = servicer.lines.get(timeout=60)
    assert (line["code"], line["reason"], line["request_id"]) == (code, reason, "call-1")
