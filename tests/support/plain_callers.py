"""Plain gRPC clients without the client library, and the statuses of their calls while the server stops."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc

from storekeep.v1 import products_pb2
from tests.support.callers import run_callers
from tests.support.clusters import await_condition
from tests.support.processes import ServerProcess
from tests.support.shops import Shop

CHANNELS = 4
ANSWERED_MIN = 20
"""Calls that are answered before a stop."""
PAUSE_S = 0.001
"""Pause after a failed call, which leaves the processors to the server."""
CHANNEL_OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


class PlainCallers:
    """Plain gRPC clients that read and write without retries.

    Attributes:
        statuses: the number of calls by the name of their status.
        created: the names of the products whose creation was acknowledged.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._stop = threading.Event()
        self.statuses: Counter[str] = Counter()
        self.created: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the callers until the end of the context."""
        with ExitStack() as stack:
            shops = [self._connect(stack) for _ in range(CHANNELS)]
            threads = [
                threading.Thread(target=self._call, args=(shop, write)) for shop in shops for write in (True, False)
            ]
            with run_callers(threads, self._stop):
                yield

    def stop_repeatedly(self, *, times: int) -> None:
        """Stop and start the server while the callers call."""
        for _ in range(times):
            enough = self.statuses["OK"] + ANSWERED_MIN
            with self.running():
                await_condition(lambda: self.statuses["OK"] >= enough, self._server.log)  # noqa: B023 - used at once
                assert self._server.stop() == 0
            self._server.start()

    def check(self) -> None:
        """Check that no call ended otherwise than a stop allows, and that every acknowledged product exists."""
        assert set(self.statuses) <= {"OK", "UNAVAILABLE"}, self.statuses
        with grpc.insecure_channel(self._server.address) as channel:
            shop = Shop(channel, api_key=self._server.admin_key)
            for name in self.created:
                assert shop.products.GetProduct(products_pb2.GetProductRequest(name=name)).name == name

    def _connect(self, stack: ExitStack) -> Shop:
        channel = stack.enter_context(grpc.insecure_channel(self._server.address, options=CHANNEL_OPTIONS))
        return Shop(channel, api_key=self._server.admin_key)

    def _call(self, shop: Shop, writes: bool) -> None:
        while not self._stop.is_set():
            try:
                if writes:
                    self.created.append(shop.product().name)
                else:
                    shop.products.ListProducts(products_pb2.ListProductsRequest(page_size=5))
                self.statuses["OK"] += 1
            except grpc.RpcError as error:
                self.statuses[error.code().name] += 1
                self._stop.wait(PAUSE_S)
