"""Behind each proxy of docs/operations, two hosts are restarted one after the other, and no call fails.

Each needs its program on the PATH, and is skipped otherwise.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from storekeep.client import Storekeep, StorekeepError
from tests.conftest import MakeServer
from tests.support.buyers import STOCK, open_shop
from tests.support.checkout import ROOT
from tests.support.hostile.wire import wait_until
from tests.support.postgres import free_port
from tests.support.processes import ServerProcess

EXAMPLES = ROOT / "docs" / "operations"
pytestmark = pytest.mark.engine("postgresql", reason="several hosts share a database")
CALLERS = 3
ORDERS_BETWEEN = 20
"""Orders placed before and after each step."""


@dataclass(frozen=True)
class Proxy:
    """How a proxy is started with its example.

    Attributes:
        example: name of its file.
        listen: its address in the file.
        hosts: the address of each host, and of its health page if the proxy asks for it.
        command: command that starts it in the foreground; `{file}` and `{folder}` are replaced.
        end: text at which the part of the file that is not for Storekeep begins; empty for none.
    """

    example: str
    listen: str
    hosts: tuple[str, str]
    command: tuple[str, ...]
    end: str = ""


PROXIES = {
    "nginx": Proxy(
        "nginx.conf",
        "grpc.example:50051",
        ("server storekeep-a.example:50051", "server storekeep-b.example:50051"),
        ("nginx", "-e", "{folder}/error.log", "-g", "daemon off;", "-c", "{file}"),
    ),
    "haproxy": Proxy(
        "haproxy.cfg",
        "grpc.example:50051",
        ("storekeep-a.example:50051 port 9464", "storekeep-b.example:50051 port 9465"),
        ("haproxy", "-db", "-f", "{file}"),
        end="# The current primary",
    ),
    "envoy": Proxy(
        "envoy.yaml",
        "address: 127.0.0.1, port_value: 50050",
        (
            "address: storekeep-a.example, port_value: 50051",
            "address: storekeep-b.example, port_value: 50052",
        ),
        ("envoy", "--config-path", "{file}", "--concurrency", "1", "--disable-hot-restart"),
    ),
}


def replace_address(old: str, address: str, health: str) -> str:
    """Return a place of an example with another address, in the same syntax."""
    host, _, port = address.rpartition(":")
    if "port_value" in old:
        return f"address: {host}, port_value: {port}"
    new = re.sub(r"\S+\.example:\d+", address, old)
    return re.sub(r"port \d+$", f"port {health.rpartition(':')[2]}", new)


@contextmanager
def run_proxy(name: str, folder: Path, hosts: list[ServerProcess], health: list[str]) -> Iterator[str]:
    """Run a proxy in front of the hosts, and yield its address."""
    proxy = PROXIES[name]
    address = f"127.0.0.1:{free_port()}"
    text = (EXAMPLES / proxy.example).read_text().partition(proxy.end or "\0")[0]
    places = [(proxy.listen, replace_address(proxy.listen, address, ""))]
    places += [
        (old, replace_address(old, host.address, page))
        for old, host, page in zip(proxy.hosts, hosts, health, strict=True)
    ]
    places += [(r"/run/nginx.pid", f"{folder}/nginx.pid"), ("/var/log/nginx", str(folder))]
    places += [("port_value: 9901", f"port_value: {free_port()}")]
    for old, new in places:
        assert old in text or old not in (EXAMPLES / proxy.example).read_text()
        text = text.replace(old, new)
    file = folder / proxy.example
    file.write_text(text)
    command = [part.format(file=file, folder=folder) for part in proxy.command]
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


class Callers:
    """Threads that place orders until they are stopped.

    Attributes:
        placed: numbers of the placed orders.
        failures: what the calls that failed said.
    """

    def __init__(self, address: str, host: ServerProcess) -> None:
        self.placed: list[str] = []
        self.failures: list[str] = []
        self._address = address
        self._api_key = host.admin_key
        with open_shop(host) as shop:
            self._customer = shop.customer().name
            self._sku = shop.variant(stock=STOCK).sku
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        with Storekeep(self._address, api_key=self._api_key, timeout_s=60) as client:
            while not self._stop.is_set():
                try:
                    order = client.orders.place(customer=self._customer, lines=[(self._sku, 1)], currency_code="EUR")
                    self.placed.append(order.number)
                except StorekeepError as error:
                    self.failures.append(repr(error))

    def await_orders(self) -> None:
        """Wait until some more orders are placed."""
        goal = len(self.placed) + ORDERS_BETWEEN
        wait_until(lambda: len(self.placed) >= goal or bool(self.failures), what="orders are placed")

    def stop(self) -> None:
        """End the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)


@pytest.mark.parametrize("name", PROXIES)
def test_no_call_fails_while_hosts_behind_a_proxy_are_restarted(name: str, make_server: MakeServer, tmp_path: Path):
    if shutil.which(name) is None:
        pytest.skip(f"not installed: {name}")
    notice_s = "0" if name == "nginx" else "3"
    health = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    hosts = [
        make_server(
            data_dir=tmp_path / "hosts", metrics_listen=page, drain_notice_s=notice_s, connections_per_address_max="0"
        )
        for page in health
    ]
    with run_proxy(name, tmp_path, hosts, health) as address:
        callers = Callers(address, hosts[0])
        try:
            for host in hosts:
                callers.await_orders()
                host.stop()
                callers.await_orders()
                host.start()
                callers.await_orders()
        finally:
            callers.stop()
    assert callers.failures == []
    assert len(set(callers.placed)) == len(callers.placed)
