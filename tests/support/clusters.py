"""Clusters: a server with several workers, for tests that call each worker, kill some and roll all of them."""

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

from storekeep.client import Storekeep, StorekeepError
from storekeep.server.transport.leadership import WorkerFolder
from tests.support.buyers import STOCK, open_shop
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, new_request_id

PAGE_TIMEOUT_S = 60.0
CHANGE_TIMEOUT_S = 300.0
CALLERS = 4
PAUSE_S = 0.04
"""Pause of a caller between two orders, which leaves the processors to what is tested: workers that start."""


class Cluster:
    """A running server with several workers and HTTP endpoints.

    Args:
        server: Server started with several workers and a `metrics_listen`.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.folder = WorkerFolder(server.data_dir / "workers")

    @property
    def http_address(self) -> str:
        """Address of the HTTP endpoints; it changes with each start."""
        return re.findall(r"http://(\S+)/metrics", self.server.output())[-1]

    def page(self, path: str) -> tuple[int, str]:
        """Return the status and body of an HTTP endpoint."""
        try:
            with urllib.request.urlopen(f"http://{self.http_address}{path}", timeout=PAGE_TIMEOUT_S) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def workers(self) -> list[dict[str, Any]]:
        """Return the reported status of each worker."""
        workers: list[dict[str, Any]] = json.loads(self.page("/healthz")[1])["workers"]
        return workers

    def process_ids(self) -> set[int]:
        """Return the process ids of the serving workers."""
        return {worker["process_id"] for worker in self.workers() if worker["state"] == "SERVING"}

    def writer(self) -> int:
        """Return the number of the leader."""
        return next(worker["number"] for worker in self.workers() if worker["writes"])

    def reader(self) -> int:
        """Return the number of a worker that is not the leader."""
        return next(worker["number"] for worker in self.workers() if not worker["writes"])

    def address(self, number: int) -> str:
        """Return the address of one worker."""
        return self.folder.address(str(number))

    @contextmanager
    def shop(self, number: int) -> Iterator[Shop]:
        """Connect the administrator's stubs to one worker."""
        with grpc.insecure_channel(self.address(number)) as channel:
            yield Shop(channel, api_key=self.server.admin_key)

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return every sample: name -> values of its labels, in the order of their names -> value."""
        samples: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(self.page("/metrics")[1]):
            for sample in family.samples:
                labels = tuple(sample.labels[name] for name in sorted(sample.labels))
                samples.setdefault(sample.name, {})[labels] = sample.value
        return samples

    def kill_worker(self, number: int) -> int:
        """Kill one worker as the kernel does when memory runs out; return its process id."""
        (process_id,) = {worker["process_id"] for worker in self.workers() if worker["number"] == number}
        os.kill(process_id, signal.SIGKILL)
        return int(process_id)

    def await_workers(self, *, other_than: set[int]) -> None:
        """Wait until all workers serve, in processes other than these."""
        await_condition(lambda: self._all_serve(other_than), lambda: f"{self.workers()}\n{self.server.log()[-4000:]}")

    def _all_serve(self, other_than: set[int]) -> bool:
        workers = self.workers()
        serving = {worker["process_id"] for worker in workers if worker["state"] == "SERVING"}
        return len(serving) == len(workers) and not serving & other_than

    def roll(self) -> None:
        """Replace every worker; wait until the last previous process has ended."""
        before = self.process_ids()
        self.server.process.send_signal(signal.SIGHUP)
        self.await_workers(other_than=before)
        await_condition(lambda: not any(is_alive(process_id) for process_id in before), lambda: str(before))


def await_condition(holds: Callable[[], bool], describe: Callable[[], str]) -> None:
    """Wait until a condition holds; fail with the text that `describe` returns."""
    give_up = time.monotonic() + CHANGE_TIMEOUT_S
    while not holds():
        assert time.monotonic() < give_up, describe()
        time.sleep(0.05)


def is_alive(process_id: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return _read_state(Path(f"/proc/{process_id}")) != "Z"
    except OSError:
        return False


def suspend(process_id: int) -> None:
    """Suspend a process. On a busy machine its threads may run on for a while."""
    os.kill(process_id, signal.SIGSTOP)
    threads = Path(f"/proc/{process_id}/task")
    await_condition(
        lambda: {_read_state(thread) for thread in threads.iterdir()} == {"T"}, lambda: f"{process_id} goes on"
    )


def _read_state(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


@dataclass
class Load:
    """Callers that order and read with the client library, and the outcome of their calls.

    Attributes:
        timeout_s: Timeout of a call, including retries. By default, no call fails because the host is busy.
        acknowledged: Acknowledged orders by their reference.
        failures: Errors that the client library raised after its retries.
        slowest_s: Duration of the slowest call.
    """

    server: ServerProcess
    timeout_s: float = CHANGE_TIMEOUT_S
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
        """Run the callers, from their first order to the end of the context."""
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

    def stop_repeatedly(self, *, times: int) -> None:
        """Stop and start the server while the callers order; each time, go on once each may have ordered since."""
        with self.running():
            for _ in range(times):
                self.server.restart()
                enough = len(self.acknowledged) + CALLERS
                await_condition(
                    lambda: bool(self.failures) or len(self.acknowledged) >= enough,  # noqa: B023 - used at once
                    lambda: self.server.log()[-4000:],
                )

    def _call(self) -> None:
        with Storekeep(self.server.address, api_key=self.server.admin_key, timeout_s=self.timeout_s) as client:
            while not self._stop.is_set():
                begun_s = time.monotonic()
                try:
                    self._order(client)
                except StorekeepError as error:
                    self.failures.append(error)
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
                self._stop.wait(PAUSE_S)

    def _order(self, client: Storekeep) -> None:
        """Place an order and read it, most likely on another worker."""
        reference = new_request_id()
        order = client.orders.place(
            customer=self._customer, lines=[(self._sku, 1)], currency_code="EUR", external_reference=reference
        )
        self.acknowledged[reference] = order.name
        assert client.orders.get(order.name) == order

    def check(self) -> None:
        """Check that no call failed and every acknowledged order exists once."""
        assert not self.failures, self.failures[:3]
        with Storekeep(self.server.address, api_key=self.server.admin_key) as client:
            existing = [
                order.external_reference
                for order in client.orders.list(filter=f'customer = "{self._customer}"', page_size=1000)
            ]
        assert Counter(existing) == Counter(self.acknowledged.keys())
