"""The thread that hears of gRPC's events: real servers on it, also where grpcio is not as it is known."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from storekeep.server import polling
from storekeep.server.polling import Metadata, Polling, Refusal

TIMEOUT_S = 10.0
METHOD = "/tests.Echo/Echo"
REFUSAL = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, b"later", (("x-request-id", "7"),))


def let_in(_path: str, _metadata: Metadata) -> None:
    return None


@contextmanager
def serving(
    served: Polling,
    *,
    admit: polling.Admit = let_in,
    answer: Callable[[bytes, Any], bytes] = lambda request, context: request,
    registered: bool = True,
) -> Iterator[grpc.Channel]:
    """A server with one method, and a channel to it."""
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(answer)}
    if registered:
        server.add_registered_method_handlers("tests.Echo", handlers)
    else:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    served.start(server, admit=admit)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
        assert server.stop(TIMEOUT_S).wait(TIMEOUT_S)


def test_installed_grpcio_is_known():
    assert polling.knows(grpc.server(ThreadPoolExecutor(1)))


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "generic"])
def test_calls_are_served_or_refused_as_told_and_the_server_ends(registered):
    asked = []

    def admit(path: str, metadata: Metadata) -> Refusal | None:
        asked.append(path)
        return REFUSAL if ("refuse", "1") in metadata else None

    with serving(Polling(), admit=admit, registered=registered) as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(50):
            assert call(b"call", timeout=TIMEOUT_S) == b"call"
            with pytest.raises(grpc.RpcError) as refused:
                call(b"call", timeout=TIMEOUT_S, metadata=(("refuse", "1"),))
            error: Any = refused.value
            assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
            assert ("x-request-id", "7") in [tuple(pair) for pair in error.trailing_metadata()]
    assert asked == [METHOD] * 100


def test_unknown_grpcio_serves_all_calls_by_its_own_loop(monkeypatch, caplog):
    monkeypatch.setattr(polling, "NEEDED", ("nothing_of_this_name",))
    served = Polling()
    with serving(served, admit=lambda path, metadata: REFUSAL) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
    assert "this grpcio is not known" in caplog.text
    assert served.lag_s() == 0


def test_lag_is_none_while_nothing_comes_in():
    served = Polling()
    with serving(served) as channel:
        assert channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S) == b"call"
        time.sleep(0.1)
        assert served.lag_s() == 0


def test_lag_is_how_long_calls_wait_for_the_thread():
    served = Polling()
    lags = []

    def admit_slowly(_path: str, _metadata: Metadata) -> None:
        time.sleep(0.02)
        lags.append(served.lag_s())

    with serving(served, admit=admit_slowly) as channel:
        calls = [channel.unary_unary(METHOD).future(b"call", timeout=TIMEOUT_S) for _ in range(20)]
        assert [call.result() for call in calls] == [b"call"] * 20
    assert max(lags) > 0.1
    assert served.lag_s() < 0.1


def test_call_that_is_refused_as_the_server_begins_to_end_does_not_keep_it():
    stopping = []

    def admit(_path: str, _metadata: Metadata) -> Refusal:
        stopping.append(server.stop(TIMEOUT_S))
        return REFUSAL

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_registered_method_handlers("tests.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(bytes)})
    port = server.add_insecure_port("127.0.0.1:0")
    assert Polling().start(server, admit=admit)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(METHOD)(b"call", timeout=TIMEOUT_S)
        assert stopping[0].wait(TIMEOUT_S)


def test_server_ends_though_calls_are_being_refused():
    refused = []
    threads = [threading.Thread(target=lambda: refused.append(_refusals_until_the_end(channel))) for _ in range(4)]
    with serving(Polling(), admit=lambda path, metadata: REFUSAL) as channel:
        for thread in threads:
            thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert min(refused) > 10


def _refusals_until_the_end(channel: grpc.Channel) -> int:
    """How many calls were refused until the server was not there any more, or the channel closed."""
    call = channel.unary_unary(METHOD)
    for number in itertools.count():
        try:
            call(b"call", timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:  # type: ignore[attr-defined]  # a call's error
                return number
        except ValueError:
            return number
    raise AssertionError
