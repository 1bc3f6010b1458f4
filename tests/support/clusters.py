"""A server with several workers, for tests that reach each of them, kill some and roll all of them over."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from prometheus_client.parser import text_string_to_metric_families

from storekeep.client import DEFAULT_TIMEOUT_S, Storekeep, StorekeepError
from storekeep.server.transport.leadership import WorkerFolder
from tests.support.buyers import STOCK, open_shop
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, new_request_id

PAGE_TIMEOUT_S = 60.0
CHANGE_TIMEOUT_S = 120.0
CALLERS = 4


class Cluster:
    """A running server with several workers and its pages.

    Args:
        server: was started with several workers and a `metrics_listen`.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.folder = WorkerFolder(server.data_dir / "workers")

    @property
    def pages(self) -> str:
        """Where its pages are; another place after each start."""
        return re.findall(r"http://(\S+)/metrics", self.server.output())[-1]

    def page(self, path: str) -> tuple[int, str]:
        """Status and content of a page."""
        try:
            with urllib.request.urlopen(f"http://{self.pages}{path}", timeout=PAGE_TIMEOUT_S) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def workers(self) -> list[dict[str, Any]]:
        """What the pages say of each worker."""
        workers: list[dict[str, Any]] = json.loads(self.page("/healthz")[1])["workers"]
        return workers

    def process_ids(self) -> set[int]:
        """The processes of the workers that serve."""
        return {worker["process_id"] for worker in self.workers() if worker["state"] == "SERVING"}

    def writer(self) -> int:
        """The number of the worker that writes."""
        return next(worker["number"] for worker in self.workers() if worker["writes"])

    def reader(self) -> int:
        """The number of one that does not."""
        return next(worker["number"] for worker in self.workers() if not worker["writes"])

    def address(self, number: int) -> str:
        """Where one worker can be called alone."""
        return self.folder.address(str(number))

    @contextmanager
    def shop(self, number: int) -> Iterator[Shop]:
        """The administrator's stubs on one worker."""
        with grpc.insecure_channel(self.address(number)) as channel:
            yield Shop(channel, api_key=self.server.admin_key)

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Every sample: name -> values of its labels, in the order of their names -> value."""
        samples: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(self.page("/metrics")[1]):
            for sample in family.samples:
                labels = tuple(sample.labels[name] for name in sorted(sample.labels))
                samples.setdefault(sample.name, {})[labels] = sample.value
        return samples

    def kill_worker(self, number: int) -> int:
        """End one worker as the kernel does when memory runs out; gives its process."""
        (process_id,) = {worker["process_id"] for worker in self.workers() if worker["number"] == number}
        os.kill(process_id, signal.SIGKILL)
        return int(process_id)

    def await_workers(self, *, other_than: set[int]) -> None:
        """Wait until all workers serve, and none in one of these processes."""
        await_that(lambda: self._all_serve(other_than), lambda: f"{self.workers()}\n{self.server.log()[-4000:]}")

    def _all_serve(self, other_than: set[int]) -> bool:
        workers = self.workers()
        serving = {worker["process_id"] for worker in workers if worker["state"] == "SERVING"}
        return len(serving) == len(workers) and not serving & other_than

    def roll(self) -> None:
        """Have every worker replaced, and wait until that is done and the last one before has ended."""
        before = self.process_ids()
        self.server.process.send_signal(signal.SIGHUP)
        self.await_workers(other_than=before)
        await_that(lambda: not any(is_alive(process_id) for process_id in before), lambda: str(before))


def await_that(holds: Callable[[], bool], told: Callable[[], str]) -> None:
    """Wait until something holds; fail with what is told."""
    give_up = time.monotonic() + CHANGE_TIMEOUT_S
    while not holds():
        assert time.monotonic() < give_up, told()
        time.sleep(0.05)


def is_alive(process_id: int) -> bool:
    """Whether there is such a process, and it is not only waiting to be reaped."""
    try:
        return _state_of(Path(f"/proc/{process_id}")) != "Z"
    except OSError:
        return False


def suspend(process_id: int) -> None:
    """Have a process hang. A thread goes on until another has been told, which takes a while on a busy machine."""
    os.kill(process_id, signal.SIGSTOP)
    threads = Path(f"/proc/{process_id}/task")
    await_that(lambda: {_state_of(thread) for thread in threads.iterdir()} == {"T"}, lambda: f"{process_id} goes on")


def _state_of(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


@dataclass
class Load:
    """Callers that order and look through the client library, and what came of it.

    Attributes:
        timeout_s: how long a call may take, retries included.
        acknowledged: the orders, by the reference that each was given.
        failures: what the client library raised, retries included.
        slowest_s: the longest call.
    """

    server: ServerProcess
    timeout_s: float = DEFAULT_TIMEOUT_S
    acknowledged: dict[str, str] = field(default_factory=dict)
    failures: list[StorekeepError] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        with open_shop(self.server) as shop:
            self._customer = shop.customer().name
            self._sku = shop.variant(stock=STOCK).sku
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Callers call, from their first order to the end of the context."""
        callers = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            while len(self.acknowledged) < CALLERS and not self.failures:
                time.sleep(0.01)
            yield
        finally:
            self._stop.set()
            for caller in callers:
                caller.join()

    def _call(self) -> None:
        with Storekeep(self.server.address, api_key=self.server.admin_key, timeout_s=self.timeout_s) as client:
            while not self._stop.is_set():
                begun_s = time.monotonic()
                try:
                    self._order(client)
                except StorekeepError as error:
                    self.failures.append(error)
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)

    def _order(self, client: Storekeep) -> None:
        """Order and look at the order, most likely on another worker."""
        reference = new_request_id()
        order = client.orders.place(
            customer=self._customer, lines=[(self._sku, 1)], currency_code="EUR", external_reference=reference
        )
        self.acknowledged[reference] = order.name
        assert client.orders.get(order.name) == order

    def check(self) -> None:
        """No call failed, and every order that was acknowledged is there once."""
        assert not self.failures, self.failures[:3]
        with Storekeep(self.server.address, api_key=self.server.admin_key) as client:
            there = [
                order.external_reference
                for order in client.orders.list(filter=f'customer = "{self._customer}"', page_size=1000)
            ]
        assert Counter(there) == Counter(self.acknowledged.keys())
