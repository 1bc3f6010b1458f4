"""The load on a schedule: the times of its calls, and its HTTP/2 against a real gRPC server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from benchmarks.floors.echo import SERVICE, build_handler
from benchmarks.loads.http2 import ConnectionBroken, encode_headers, encode_integer, read_status
from benchmarks.loads.messages import read_messages, write_messages
from benchmarks.loads.timed_calls import Caller, InFlight, OnSchedule, summarize_ms
from storekeep.v1 import products_pb2

PRODUCT = products_pb2.Product(name="products/mug", display_name="Mug")


def refuse(_request: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")


def fail(_request: object, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.NOT_FOUND, "nothing there")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    methods = {
        "GetProduct": build_handler(PRODUCT),
        "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(grace=0).wait()


def call(address: str, method: str, number: int, *, settle_s: float = 0.0) -> tuple[Caller, list[bytes]]:
    answers: list[bytes] = []
    message = products_pb2.GetProductRequest(name="products/mug").SerializeToString()
    caller = Caller(
        address,
        f"/{SERVICE}/{method}",
        token="x" * 600,
        messages=iter(lambda: message, b""),
        check=answers.append,
        settle_s=settle_s,
        connections=8,
    )
    caller.run(InFlight(20, seconds=0.0, calls=number), seconds=0.0)
    caller.close()
    return caller, answers


def test_call_many_times_gets_every_answer(address: str) -> None:
    caller, answers = call(address, "GetProduct", 500)
    assert len(caller.accepted_s) == caller.answered == 500
    assert {products_pb2.Product.FromString(answer).display_name for answer in answers} == {"Mug"}


def test_call_due_while_the_server_settles_is_made_and_not_timed(address: str) -> None:
    caller, _ = call(address, "GetProduct", 50, settle_s=60.0)
    assert (caller.answered, caller.accepted_before, len(caller.accepted_s), len(caller.late_s)) == (50, 50, 0, 0)


def test_call_refused_counts_apart(address: str) -> None:
    caller, _ = call(address, "Refuse", 50)
    assert (len(caller.accepted_s), len(caller.refused_s)) == (0, 50)


def test_call_failed_counts_by_its_code(address: str) -> None:
    caller, _ = call(address, "Fail", 50)
    assert caller.failed == {grpc.StatusCode.NOT_FOUND.value[0]: 50}


def test_schedule_late_sends_what_was_missed() -> None:
    plan = OnSchedule(rate=10, seconds=1)
    assert list(plan.list_due(0.0, 0)) == [0.0]
    assert plan.get_next_s() == 0.1
    assert list(plan.list_due(0.35, 99)) == [0.1, 0.2, 0.3]
    assert len(list(plan.list_due(5.0, 99))) == 6
    assert plan.get_next_s() == math.inf


def test_in_flight_full_waits_for_answers() -> None:
    plan = InFlight(3, seconds=1.0, calls=0)
    assert len(list(plan.list_due(0.0, 0))) == 3
    assert not list(plan.list_due(0.5, 3))
    assert len(list(plan.list_due(0.6, 1))) == 2
    assert not list(plan.list_due(1.0, 0))


def test_latencies_of_known_times_have_their_quantiles() -> None:
    spread = summarize_ms([number / 1000 for number in range(1, 102)])  # type: ignore[arg-type]
    assert (spread["count"], spread["p50"], spread["p99"], spread["max"]) == (101, 51.0, 100.0, 101.0)


def test_integer_of_the_standard_is_encoded_as_there() -> None:
    assert encode_integer(10, 5, 0) == b"\x0a"
    assert encode_integer(1337, 5, 0) == b"\x1f\x9a\x0a"


def test_header_blocks_repeated_are_indexes() -> None:
    first, last = encode_headers({":path": "/a", "te": "trailers"})
    assert b"trailers" in first
    assert last == b"\x83\x86\xbf\xbe"


def test_trailers_without_status_are_refused() -> None:
    assert read_status(b"\x00\x0bgrpc-status\x0214") == 14
    with pytest.raises(ConnectionBroken):
        read_status(b"\x00\x03foo\x03bar")


def test_messages_written_are_read_back(tmp_path: Path) -> None:
    write_messages(tmp_path / "file", [b"", b"one", b"x" * 300])
    assert read_messages(tmp_path / "file") == [b"", b"one", b"x" * 300]
