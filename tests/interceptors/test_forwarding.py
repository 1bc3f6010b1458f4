"""Forwarding without a leader: writes fail at once with a retryable error, reads continue."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from storekeep.server.interceptors.chain import Chain
from storekeep.server.interceptors.early_rejections import EarlyRejections
from storekeep.server.interceptors.errors import map_errors
from storekeep.server.interceptors.forwarding import Forwarding
from storekeep.server.interceptors.request_log import request_log
from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.contract import read_contract
from storekeep.server.transport.executors import CallPool, CheckPool
from storekeep.v1 import orders_pb2, orders_pb2_grpc
from tests.support.refusals import parse_refusal

CONTRACT = read_contract()


class OtherLeader:
    """Another worker is the leader; its address may be empty."""

    def __init__(self, address: str) -> None:
        self._address = address

    def admit(self) -> bool:
        return False

    def leave(self) -> None:
        raise AssertionError("nothing was admitted")

    def address(self) -> str:
        return self._address


class Orders(orders_pb2_grpc.OrderServiceServicer):
    """Answers reads; fails on a write."""

    def GetOrder(self, request, context):  # noqa: N802 - the contract's name
        return orders_pb2.Order(name="orders/1")


@contextmanager
def reader(address: str, counts: CallCounts) -> Iterator[orders_pb2_grpc.OrderServiceStub]:
    """A worker that forwards writes to an address."""
    admission = AdmissionController(WRITES, length_max=100, wait_max_s=60)
    forwarding = Forwarding(OtherLeader(address), changes=CONTRACT.changes, make_admission=lambda: admission)
    here = CallPool(1, name="here", admission=admission)
    chain = Chain(
        outermost=request_log(lambda line, **_: None, counts),
        layers=[
            map_errors,
            forwarding.layer,
            lambda method, serve: lambda raw, context, rpc: serve(method.request_type.FromString(raw), context, rpc),
        ],
        methods=CONTRACT.methods,
        mutations=CONTRACT.changes,
        read_pool=here,
        write_pool=forwarding.executor(here),
        reject=EarlyRejections(lambda line, **_: None, counts, changes=frozenset()).reject_overload,
    )
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[chain])
    orders_pb2_grpc.add_OrderServiceServicer_to_server(Orders(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield orders_pb2_grpc.OrderServiceStub(channel)
    server.stop(0).wait()
    here.shutdown()
    forwarding.close()


@pytest.fixture(params=["none", "gone", "dead"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a missing leader: unknown, without a socket, or with a socket on which nothing listens."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        if request.param == "dead":
            dead.bind(str(path))
        yield "" if request.param == "none" else f"unix:{path}"


def test_change_without_a_writer_is_refused_at_once_and_read_is_answered(address: str):
    counts = CallCounts()
    with reader(address, counts) as orders:
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as refused:
            orders.PlaceOrder(orders_pb2.PlaceOrderRequest(), timeout=60)
        assert time.monotonic() - began < 30
        refusal = parse_refusal(refused.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert refusal.retry_after_s == 0.1
        assert orders.GetOrder(orders_pb2.GetOrderRequest(), timeout=60).name == "orders/1"
    assert {(ended.code, ended.calls) for ended in counts.counts().ended} == {("UNAVAILABLE", 1), ("OK", 1)}


class Leader:
    """This worker is the leader; counts the writes in progress."""

    def __init__(self) -> None:
        self.under_way = 0
        self.admitted = 0

    def admit(self) -> bool:
        self.under_way += 1
        self.admitted += 1
        return True

    def leave(self) -> None:
        self.under_way -= 1

    def address(self) -> str:
        raise AssertionError("nothing is forwarded")


class Change:
    """A task whose checks pass or fail."""

    def __init__(self, *, passes: bool) -> None:
        self._passes = passes
        self.threads: list[str] = []

    def check(self) -> bool:
        self.threads.append(threading.current_thread().name)
        return self._passes

    def __call__(self) -> None:
        self.threads.append(threading.current_thread().name)

    def give_up(self) -> None:
        self.threads.append("refused")


def test_change_is_under_way_until_its_checks_or_its_service_end_it():
    leader, admission = Leader(), AdmissionController(WRITES, length_max=100, wait_max_s=60)
    there = CallPool(1, name="there", admission=admission)
    pool = CheckPool(lambda task, _since: there.put(task), queued=lambda: 0, name="check", admission=admission)
    refusing = CheckPool(lambda task, _since: False, queued=lambda: 0, name="refusing", admission=admission)
    forwarding = Forwarding(leader, changes=CONTRACT.changes, make_admission=lambda: admission)
    changes = [Change(passes=number % 2 == 0) for number in range(20)]
    full = Change(passes=True)
    executor = forwarding.executor(pool)
    assert all(executor.submit_task(change) for change in changes)
    assert forwarding.executor(refusing).submit_task(full)
    for one in (pool, refusing, there):
        one.shutdown()
    forwarding.close()
    assert (leader.admitted, leader.under_way) == (21, 0)
    assert [change.threads for change in changes] == [["check", "there_0"], ["check"]] * 10
    assert full.threads == ["refusing", "refused"]
