"""Regular callers that continue during an attack: their errors and latencies."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.client import Customer, Product, Storekeep, StorekeepError
from tests.support.hostile.wire import wait_until
from tests.support.processes import ServerProcess

CALLERS = 10
UNDISTURBED_CALLS = 200
ATTACKED_CALLS = 200
PAUSE_S = 0.01
FLOOR_S = 0.25
"""Lower latencies are noise on a busy machine."""
TRIES = 5
"""How often a latency is measured: other load on the machine passes, the effect of an attack does not."""


class HonestCallers:
    """Ten callers on separate connections that read, write and check health with the client library.

    Attributes:
        errors: Everything except replies.
        calls: Number of finished calls.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.errors: list[str] = []
        self._latencies_s: list[float] = []
        self._stop = threading.Event()
        self._stack = ExitStack()
        clients = [
            self._stack.enter_context(Storekeep(server.address, api_key=server.admin_key)) for _ in range(CALLERS)
        ]
        self._product = clients[0].products.create(Product(display_name="Tea")).name
        channels = [
            self._stack.enter_context(grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]))
            for _ in range(CALLERS)
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(client, channel), daemon=True)
            for client, channel in zip(clients, channels, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def calls(self) -> int:
        return len(self._latencies_s)

    def _run(self, client: Storekeep, channel: grpc.Channel) -> None:
        health = health_pb2_grpc.HealthStub(channel)
        while not self._stop.is_set():
            self._time(lambda: client.products.get(self._product))
            self._time(lambda: client.customers.create(Customer(display_name="Somebody")))
            self._time(lambda: self._check(health))
            time.sleep(PAUSE_S)

    def _check(self, health: Any) -> None:
        status = health.Check(health_pb2.HealthCheckRequest(), timeout=30).status
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise AssertionError(f"health is {status}")

    def _time(self, call: Any) -> None:
        begun_s = time.monotonic()
        try:
            call()
        except (grpc.RpcError, StorekeepError, AssertionError) as error:
            self.errors.append(repr(error))
        self._latencies_s.append(time.monotonic() - begun_s)

    def median_s(self, *, calls: int) -> float:
        """Wait for this many further calls; return the median of their latencies."""
        begin = self.calls
        wait_until(lambda: self.calls >= begin + calls, what="honest callers are answered")
        return statistics.median(self._latencies_s[begin:])

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
        self._stack.close()


@contextmanager
def run_unharmed_callers(server: ServerProcess) -> Iterator[HonestCallers]:
    """Run regular callers during the block; fail on an error or on more than twice the usual latency."""
    callers = HonestCallers(server)
    try:
        before_s = callers.median_s(calls=UNDISTURBED_CALLS)
        yield callers
        for _ in range(TRIES):
            after_s = callers.median_s(calls=ATTACKED_CALLS)
            if after_s <= max(2 * before_s, FLOOR_S):
                break
    finally:
        callers.stop()
    assert not callers.errors, callers.errors[:3]
    assert after_s <= max(2 * before_s, FLOOR_S), (before_s, after_s)
