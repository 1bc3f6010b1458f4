"""The polling thread, with real servers, also with an unsupported grpcio."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.transport import grpcio_support, polling
from storekeep.server.transport.call_statuses import CallStatus, Metadata
from storekeep.server.transport.executors import CallPool
from storekeep.server.transport.polling import Polling
from storekeep.server.transport.unary import Route
from tests.support.routes import METHOD, PATH, PREPARED, REJECTION, TIMEOUT_S, handlers


def always() -> bool:
    return True


@contextmanager
def serving(
    served: Polling,
    *,
    admits: Callable[[], bool] = always,
    reject: Callable[[Metadata], CallStatus] = lambda metadata: REJECTION,
    answer: Callable[[Any, Any], Any] = lambda request, context: request,
    registered: bool = True,
    calls: Sequence[grpc.Future] = (),
) -> Iterator[grpc.Channel]:
    """Start a server with one method on a route, and yield a channel that outlives the given calls."""
    server = grpc.server(ThreadPoolExecutor(4))
    if registered:
        server.add_registered_method_handlers("tests.Echo", handlers(answer))
    else:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Echo", handlers(answer)),))
    port = server.add_insecure_port("127.0.0.1:0")
    pool = CallPool(2, name="test", admission=AdmissionController(WRITES, length_max=100, wait_max_s=TIMEOUT_S))
    route = Route(pool.submit_task, admits, answer, bytes, reject)
    served.start(server, routes=lambda found: dict.fromkeys(found, route))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield channel
        finally:  # a server must not be freed while calls are in progress, even if the test fails
            is_over = server.stop(TIMEOUT_S).wait(TIMEOUT_S)
        assert is_over
        for call in calls:
            call.exception(timeout=TIMEOUT_S)
    pool.shutdown(wait=False)


def test_installed_grpcio_is_known():
    assert grpcio_support.is_supported(grpc.server(ThreadPoolExecutor(1)))


def test_calls_are_served_or_rejected_and_the_server_ends():
    decisions = itertools.cycle([True, False])
    with serving(Polling(), admits=lambda: next(decisions)) as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(50):
            assert call(b"call", timeout=TIMEOUT_S) == b"call"
            with pytest.raises(grpc.RpcError) as refused:
                call(b"call", timeout=TIMEOUT_S)
            error: Any = refused.value
            assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
            assert ("x-request-id", "7") in [tuple(pair) for pair in error.trailing_metadata()]


def test_rejections_with_the_same_prepared_details_all_arrive_with_them():
    with serving(Polling(), admits=lambda: False, reject=lambda metadata: PREPARED) as channel:
        calls = [channel.unary_unary(METHOD).future(b"call", timeout=TIMEOUT_S) for _ in range(500)]
        errors: list[Any] = [call.exception() for call in calls]
    assert {
        (error.code(), error.details(), dict(error.trailing_metadata()).get("grpc-status-details-bin"))
        for error in errors
    } == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "later", b"\0prepared\xff")}


def test_rejections_are_delayed_for_a_moment():
    with serving(Polling(), admits=lambda: False) as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(20):
            begun_s = time.monotonic()
            with pytest.raises(grpc.RpcError):
                call(b"call", timeout=TIMEOUT_S)
            assert time.monotonic() - begun_s >= 0.001


def test_server_that_ends_rejects_delayed_calls_at_once(monkeypatch):
    monkeypatch.setattr(polling, "REJECTION_DELAY_MAX_S", 10 * TIMEOUT_S)
    begun = threading.Semaphore(0)

    def admits() -> bool:
        begun.release()
        return False

    calls: list[Any] = []
    with serving(Polling(), admits=admits, calls=calls) as channel:
        calls += [channel.unary_unary(METHOD).future(b"call", timeout=10 * TIMEOUT_S) for _ in range(20)]
        assert all(begun.acquire(timeout=TIMEOUT_S) for _ in calls)
    assert {call.code() for call in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_methods_without_a_route_are_served_by_grpc_itself():
    with serving(Polling(), registered=False) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary("/tests.Echo/Nothing")(b"call", timeout=TIMEOUT_S)
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]  # a call's error


def test_unknown_grpcio_serves_all_calls_by_its_own_loop(monkeypatch, caplog):
    caplog.set_level("INFO")  # other tests of this process may have set the level
    monkeypatch.setattr(grpcio_support, "REQUIRED_NAMES", ("nothing_of_this_name",))
    served = Polling()
    with serving(served, admits=lambda: False) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
    assert "the fast path was not tested with this grpcio" in caplog.text
    assert served.lag_s() == 0


def test_grpcio_of_a_series_that_was_not_tested_serves_all_calls_itself(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(grpc, "__version__", "1.86.0")
    with serving(Polling()) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
    assert "the fast path was not tested with this grpcio" in caplog.text


def test_fast_path_switched_off_serves_all_calls_by_grpc_itself(caplog):
    caplog.set_level("INFO")
    served = Polling(fast_path=False)
    with serving(served, admits=lambda: False) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
    assert "the fast path is off" in caplog.text
    assert served.lag_s() == 0


def test_lag_is_none_while_nothing_comes_in():
    served = Polling()
    with serving(served) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
        await_lag(served, below_s=1e-9)


def await_lag(served: Polling, *, below_s: float) -> None:
    """Wait until the lag of the thread is below a limit."""
    give_up = time.monotonic() + TIMEOUT_S
    while served.lag_s() >= below_s:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_lag_is_how_long_calls_wait_for_the_thread():
    served = Polling()
    lags = []

    def check_slowly() -> bool:
        time.sleep(0.02)
        lags.append(served.lag_s())
        return True

    with serving(served, admits=check_slowly) as channel:
        calls = [channel.unary_unary(METHOD).future(b"call", timeout=TIMEOUT_S) for _ in range(20)]
        assert [call.result() for call in calls] == [b"call"] * 20
    assert max(lags) > 0.1
    await_lag(served, below_s=0.1)


def test_call_that_is_rejected_as_the_server_begins_to_end_does_not_delay_its_end():
    stopping = []

    def admits() -> bool:
        stopping.append(server.stop(TIMEOUT_S))
        return False

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_registered_method_handlers("tests.Echo", handlers(lambda request, context: request))
    port = server.add_insecure_port("127.0.0.1:0")
    route = Route(lambda task: False, admits, bytes, bytes, lambda metadata: REJECTION)
    Polling().start(server, routes=lambda found: {PATH: route})
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S)
        assert stopping[0].wait(TIMEOUT_S)


@pytest.mark.parametrize("status", [REJECTION, PREPARED], ids=["identified", "prepared"])
def test_server_ends_though_calls_are_being_rejected(status):
    rejected = [threading.Event() for _ in range(4)]
    threads = [threading.Thread(target=lambda event=event: _call_until_the_end(channel, event)) for event in rejected]
    with serving(Polling(), admits=lambda: False, reject=lambda metadata: status) as channel:
        for thread in threads:
            thread.start()
        assert all(event.wait(TIMEOUT_S) for event in rejected)
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


def _call_until_the_end(channel: grpc.Channel, rejected: threading.Event) -> None:
    """Call until the server or the channel has closed. Set the event after ten rejections."""
    call = channel.unary_unary(METHOD)
    for number in itertools.count(1):
        try:
            call(b"call", timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:  # type: ignore[attr-defined]  # a call's error
                return
            if number == 10:
                rejected.set()
        except ValueError:
            return
