"""Rejections of an overloaded server: their status, log lines and counts."""

from __future__ import annotations

import logging

import grpc
import msgspec
import pytest
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.interceptors import early_rejections
from storekeep.server.interceptors.chain import Chain
from storekeep.server.interceptors.early_rejections import (
    IDENTIFIED_MAX,
    LINE_EVERY_S,
    LONG_RETRY_AFTER_MS,
    EarlyRejections,
)
from storekeep.server.interceptors.errors import PUSHBACK_KEY, map_errors
from storekeep.server.interceptors.request_log import request_log
from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.call_statuses import CallStatus
from storekeep.server.transport.contract import read_contract
from storekeep.server.transport.executors import CallExecutor, CheckPool
from storekeep.server.transport.polling import Polling
from storekeep.server.transport.rpc import DETAILS_KEY
from storekeep.v1 import orders_pb2, orders_pb2_grpc
from tests.support.refusals import parse_refusal
from tests.support.routes import TIMEOUT_S

CONTRACT = read_contract()
GET, PLACE = "storekeep.v1.ProductService/GetProduct", "storekeep.v1.OrderService/PlaceOrder"


class Rejections:
    """Early rejections with a fake clock, log and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        self.lines: list[dict[str, object]] = []
        self.counts = CallCounts()
        self.reject = EarlyRejections(self._write, self.counts, changes=CONTRACT.changes).reject_overload
        monkeypatch.setattr(early_rejections.time, "monotonic", lambda: self.now_s)

    def _write(self, fields: dict[str, object], *, level: int) -> None:
        self.lines.append({**fields, "level": level})


@pytest.fixture
def rejections(monkeypatch: pytest.MonkeyPatch) -> Rejections:
    return Rejections(monkeypatch)


@pytest.mark.parametrize("given", ["r-1", "a-longer-id-of-the-caller", "not an id", ""])
def test_rejection_has_all_that_an_error_has(rejections, given):
    metadata = (("user-agent", "test"), ("some-bin", b"\0"), *((("x-request-id", given),) if given else ()))
    rejection = rejections.reject(GET, metadata)
    trailing = dict(rejection.trailing_metadata)
    request_id = trailing["x-request-id"]
    assert (request_id == given) is (given in ("r-1", "a-longer-id-of-the-caller"))
    status = status_pb2.Status.FromString(bytes(trailing[DETAILS_KEY]))
    assert (status.code, status.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], rejection.text.decode())
    details = {
        kind: next(detail for detail in status.details if detail.Is(kind.DESCRIPTOR))
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, error_details_pb2.RequestInfo)
    }
    found = {kind: kind.FromString(packed.value) for kind, packed in details.items()}
    assert len(status.details) == len(found)
    assert found[error_details_pb2.ErrorInfo].reason == "OVERLOADED"
    assert found[error_details_pb2.RequestInfo].request_id == request_id
    assert found[error_details_pb2.RetryInfo].retry_delay.ToMilliseconds() > 0


def is_identified(status: CallStatus) -> bool:
    return "x-request-id" in dict(status.trailing_metadata)


@pytest.mark.parametrize("is_prepared", [False, True])
def test_rejection_says_that_nothing_was_changed_only_of_a_change(rejections, is_prepared):
    texts = {}
    for method in (GET, PLACE, "storekeep.v1.EventService/WatchEvents"):
        for _ in range(IDENTIFIED_MAX + 1 if is_prepared else 1):
            rejection = rejections.reject(method, ())
        status = status_pb2.Status.FromString(bytes(dict(rejection.trailing_metadata)[DETAILS_KEY]))
        assert status.message == rejection.text.decode()
        texts[method] = "queue" in status.message or "changed" in status.message
    assert list(texts.values()) == [False, True, False]


def test_beyond_many_rejections_of_a_method_they_have_the_reason_but_no_request_id(rejections):
    rejections.reject(GET, ())  # starts the interval in which they are counted
    assert all(is_identified(rejections.reject(GET, ())) for _ in range(IDENTIFIED_MAX))
    rejection = rejections.reject(GET, ())
    assert rejection.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    (key, packed), pushback = rejection.trailing_metadata
    assert pushback == (PUSHBACK_KEY, "1000")
    status = status_pb2.Status.FromString(bytes(packed))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert key == DETAILS_KEY
    assert len(status.details) == 2
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.domain, info.reason, status.message) == ("storekeep", "OVERLOADED", rejection.text.decode())
    assert retry.retry_delay.ToMilliseconds() == LONG_RETRY_AFTER_MS
    assert is_identified(rejections.reject(PLACE, ()))
    assert sum(ended.calls for ended in rejections.counts.counts().ended) == IDENTIFIED_MAX + 3
    rejections.now_s += LINE_EVERY_S + 0.1
    rejections.reject(PLACE, ())
    assert is_identified(rejections.reject(GET, ()))


def test_each_rejection_is_counted_and_each_method_logged_once_a_second(rejections):
    for _ in range(3):
        rejections.reject(GET, ())
    rejections.reject(PLACE, ())
    rejections.now_s += LINE_EVERY_S + 0.1
    rejections.reject(GET, ())
    assert {(ended.method, ended.code, ended.reason, ended.calls) for ended in rejections.counts.counts().ended} == {
        (GET, "RESOURCE_EXHAUSTED", "OVERLOADED", 4),
        (PLACE, "RESOURCE_EXHAUSTED", "OVERLOADED", 1),
    }
    assert [(line["method"], line["calls"]) for line in rejections.lines] == [(GET, 1), (GET, 3), (PLACE, 1)]
    assert {line["level"] for line in rejections.lines} <= {logging.INFO, logging.WARNING}


def test_change_that_is_refused_after_its_checks_is_one_call(rejections):
    """It is counted, logged and rejected with the details that its checks recorded."""
    lines: list[dict[str, object]] = []
    admission = AdmissionController(WRITES, length_max=100, wait_max_s=TIMEOUT_S)
    checks = CheckPool(lambda task, since: False, queued=lambda: 0, name="check", admission=admission)
    chain = Chain(
        outermost=request_log(lambda line, *, level: lines.append(msgspec.to_builtins(line)), rejections.counts),
        layers=[map_errors],
        methods=CONTRACT.methods,
        mutations=CONTRACT.changes,
        read_pool=checks,
        write_pool=checks,
        reject=rejections.reject,
    )
    server = grpc.server(CallExecutor(lambda task: False, admits=lambda: True))
    orders_pb2_grpc.add_OrderServiceServicer_to_server(orders_pb2_grpc.OrderServiceServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    Polling().start(server, routes=chain.build_routes)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        orders = orders_pb2_grpc.OrderServiceStub(channel)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as ended:
                orders.PlaceOrder(orders_pb2.PlaceOrderRequest(), timeout=TIMEOUT_S)
            status = parse_refusal(ended.value)
            assert (status.reason, bool(status.retry_after_s)) == ("OVERLOADED", True)
    server.stop(TIMEOUT_S).wait()
    checks.shutdown()
    assert rejections.counts.counts().in_flight == 0
    assert [(line["message"], line["reason"]) for line in lines] == [("rpc", "OVERLOADED")] * 3
