"""Unary calls without gRPC's own Python code: real servers, clients, cancellations and shutdowns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from storekeep.server.runtime.admission import AdmissionController
from storekeep.server.transport.call_statuses import Metadata
from storekeep.server.transport.executors import CallExecutor
from storekeep.server.transport.polling import Polling
from storekeep.server.transport.rpc import DETAILS_KEY
from storekeep.server.transport.unary import Route
from tests.support.routes import METHOD, PATH, REJECTION, TIMEOUT_S, handlers


@contextmanager
def serving(pool: CallExecutor, answer: Callable[[Any, Any], Any], **more: Any) -> Iterator[grpc.Channel]:
    """Start a server with one method on a route, and yield a channel to it. Stop the server afterwards."""
    server = grpc.server(ThreadPoolExecutor(2), **more)
    server.add_registered_method_handlers("tests.Echo", handlers(answer))
    port = server.add_insecure_port("127.0.0.1:0")
    route = Route(pool.submit_task, pool.admits, answer, bytes, lambda metadata: REJECTION)
    Polling().start(server, routes=lambda found: {PATH: route} if PATH in found else {})
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:  # a server must not be freed while calls are in progress, even if the test fails
        is_over = server.stop(TIMEOUT_S).wait(TIMEOUT_S)
    assert is_over


def test_calls_are_answered_refused_and_cancelled(pool):
    go_on = threading.Event()

    def answer(request: bytes, context: Any) -> bytes:
        if request == b"refuse":
            context.set_trailing_metadata((("why", "no"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \u00e9")
        if request == b"wait":
            go_on.wait(TIMEOUT_S)
        return request * 2

    with serving(pool, answer) as channel:
        call = channel.unary_unary(METHOD)
        assert [call.future(bytes([number])).result(TIMEOUT_S) for number in range(200)] == [
            bytes([number, number]) for number in range(200)
        ]
        with pytest.raises(grpc.RpcError) as refused:
            call(b"refuse", timeout=TIMEOUT_S)
        error: Any = refused.value
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing: \u00e9")
        assert ("why", "no") in [tuple(pair) for pair in error.trailing_metadata()]
        with pytest.raises(grpc.RpcError) as late:
            call(b"wait", timeout=0.2)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]  # a call's error
        go_on.set()
        assert call(b"after", timeout=TIMEOUT_S) == b"afterafter"


def test_handler_hears_of_metadata_and_deadline(pool):
    heard: list[tuple[Metadata, float]] = []

    def answer(request: bytes, context: Any) -> bytes:
        heard.append((context.invocation_metadata(), context.time_remaining()))
        return request

    with serving(pool, answer) as channel:
        call = channel.unary_unary(METHOD)
        call(b"", timeout=TIMEOUT_S, metadata=(("key", "value"), ("key-bin", b"\0\1")))
        call(b"")
    (metadata, left_s), (_, without_s) = heard
    pairs = [tuple(pair) for pair in metadata]
    assert ("key", "value") in pairs
    assert ("key-bin", b"\0\1") in pairs
    assert 0 < left_s < TIMEOUT_S + 1  # gRPC rounds a deadline up
    assert without_s > 86_400 * 365


def test_handler_or_reply_that_fails_ends_its_call_and_no_other(pool, caplog):
    def answer(request: bytes, _context: Any) -> Any:
        if request == b"raise":
            raise ValueError("secret")
        return object() if request == b"object" else request

    with serving(pool, answer) as channel:
        call = channel.unary_unary(METHOD)
        for request in (b"raise", b"object"):
            with pytest.raises(grpc.RpcError) as failed:
                call(request, timeout=TIMEOUT_S)
            error: Any = failed.value
            assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "the call failed")
        assert call(b"after", timeout=TIMEOUT_S) == b"after"
    assert caplog.text.count("a handler failed") == 2


def test_call_without_a_request_is_refused(pool):
    with serving(pool, lambda request, context: request) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.stream_unary(METHOD)(iter(()), timeout=TIMEOUT_S)
        error: Any = refused.value
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert b"MALFORMED_MESSAGE" in dict(error.trailing_metadata())[DETAILS_KEY]
        assert channel.unary_unary(METHOD)(b"after", timeout=TIMEOUT_S) == b"after"


def test_call_that_is_cancelled_before_its_request_is_there_holds_nothing_up(pool):
    with serving(pool, lambda request, context: request) as channel:
        never = threading.Event()

        def requests() -> Iterator[bytes]:
            never.wait(TIMEOUT_S)
            yield b""

        for _ in range(20):
            call = channel.stream_unary(METHOD).future(requests(), timeout=TIMEOUT_S)
            time.sleep(0.01)
            call.cancel()
        assert channel.unary_unary(METHOD)(b"after", timeout=TIMEOUT_S) == b"after"
        never.set()


def test_many_clients_that_give_up_leave_nothing_behind(pool):
    with serving(pool, lambda request, context: time.sleep(0.001) or request) as channel:
        call = channel.unary_unary(METHOD)
        calls = [call.future(b"call", timeout=0.001 * (number % 30)) for number in range(300)]
        codes = {future.code() for future in calls}
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
        assert call(b"after", timeout=TIMEOUT_S) == b"after"


def test_call_that_is_not_taken_after_all_is_refused_with_details():
    pool = CallExecutor(lambda task: False, admits=lambda: True)
    with serving(pool, lambda request, context: request) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S)
        error: Any = refused.value
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
        assert ("x-request-id", "7") in [tuple(pair) for pair in error.trailing_metadata()]


def test_call_that_has_waited_too_long_is_given_up(pool, monkeypatch):
    monkeypatch.setattr(AdmissionController, "record_wait", lambda self, queued_s: True)
    with serving(pool, lambda request, context: request) as channel:
        for _ in range(50):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]


def test_more_calls_than_there_may_be_are_refused_and_those_after_them_served(pool):
    go_on = threading.Event()

    def answer(request: bytes, _context: Any) -> bytes:
        go_on.wait(TIMEOUT_S)
        return request

    with serving(pool, answer, maximum_concurrent_rpcs=2) as channel:
        call = channel.unary_unary(METHOD)
        calls = [call.future(b"call", timeout=TIMEOUT_S) for _ in range(2)]
        await_refusal(call)
        go_on.set()
        assert [future.result() for future in calls] == [b"call"] * 2
        assert answered_at_last(call) == b"call"


def await_refusal(call: Callable[..., Any]) -> None:
    """Call until a call is rejected. Calls count once their requests have arrived."""
    give_up = time.monotonic() + TIMEOUT_S
    code = grpc.StatusCode.OK
    while code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        assert time.monotonic() < give_up
        with pytest.raises(grpc.RpcError) as refused:
            call(b"call", timeout=1)
        code = refused.value.code()  # type: ignore[attr-defined]  # a call's error


def answered_at_last(call: Callable[..., Any]) -> Any:
    """Return the reply of a call once it is admitted. Other calls count until the server knows that they ended."""
    give_up = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return call(b"call", timeout=TIMEOUT_S)
        except grpc.RpcError:
            assert time.monotonic() < give_up
            time.sleep(0.01)


def test_server_that_ends_waits_for_calls_under_way(pool):
    begun = threading.Event()

    def answer(request: bytes, _context: Any) -> bytes:
        begun.set()
        time.sleep(0.3)
        return request

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_registered_method_handlers("tests.Echo", handlers(answer))
    port = server.add_insecure_port("127.0.0.1:0")
    route = Route(pool.submit_task, pool.admits, answer, bytes, lambda metadata: REJECTION)
    Polling().start(server, routes=lambda found: {PATH: route})
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD).future(b"call", timeout=TIMEOUT_S)
        assert begun.wait(TIMEOUT_S)
        ended = server.stop(TIMEOUT_S)
        assert call.result() == b"call"
        assert ended.wait(TIMEOUT_S)
