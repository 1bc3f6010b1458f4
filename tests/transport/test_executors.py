"""Executors under calls that gRPC serves in its own way, with real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from storekeep.server.transport.executors import CallExecutor
from tests.support.routes import METHOD, TIMEOUT_S, handlers


@contextmanager
def serving(pool: CallExecutor, answer: Callable[[bytes, Any], bytes]) -> Iterator[grpc.Channel]:
    """Start a server with one method that returns this answer, and yield a channel to it."""
    server = grpc.server(pool)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Echo", handlers(answer)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(0).wait()


def test_calls_are_answered_refused_and_cancelled(pool):
    begun, cancelled = threading.Event(), threading.Event()

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"refuse":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        if request == b"wait":
            begun.set()
            if not context.add_callback(cancelled.set):  # it has ended already
                cancelled.set()
            cancelled.wait(TIMEOUT_S)
        return request * 2

    with serving(pool, answer) as channel:
        call = channel.unary_unary(METHOD)
        assert [call.future(bytes([number])).result(TIMEOUT_S) for number in range(200)] == [
            bytes([number, number]) for number in range(200)
        ]
        with pytest.raises(grpc.RpcError) as refused:
            call(b"refuse", timeout=TIMEOUT_S)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
        for timeout_s in (0.2, 2.0, 20.0):  # on a busy host, a deadline may pass before the call begins
            with pytest.raises(grpc.RpcError) as late:
                call(b"wait", timeout=timeout_s)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if begun.is_set():
                break
        assert cancelled.wait(TIMEOUT_S)
        assert call(b"after", timeout=TIMEOUT_S) == b"afterafter"


def test_call_without_a_request_is_refused_by_grpc_itself(pool):
    with serving(pool, lambda request, context: request) as channel:
        nothing = channel.stream_unary(METHOD)
        with pytest.raises(grpc.RpcError) as refused:
            nothing(iter(()), timeout=TIMEOUT_S)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert channel.unary_unary(METHOD)(b"after", timeout=TIMEOUT_S) == b"after"


def test_task_that_fails_is_logged_and_ends(pool, caplog):
    done = threading.Event()
    pool.submit(lambda: 1 / 0).add_done_callback(lambda _future: done.set())
    assert done.wait(TIMEOUT_S)
    assert "a task of the pool failed" in caplog.text


def test_call_that_is_not_taken_gets_a_thread_of_its_own():
    with serving(CallExecutor(lambda task: False, admits=lambda: False), lambda request, context: request) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
