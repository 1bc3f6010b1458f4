"""The supervisor: dying workers, shutdown, reloads, and its own death."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from storekeep.client import Customer, Storekeep, StorekeepError
from storekeep.server.supervision import supervisor
from storekeep.server.supervision.supervisor import IDLE_TICK_S, SUSPENDED_AFTER_S, Supervisor
from storekeep.v1 import orders_pb2
from tests.conftest import MakeServer
from tests.process.test_command import one_line
from tests.support.buyers import open_shop
from tests.support.clusters import Cluster, Load, await_condition, is_alive, suspend
from tests.support.databases import ENGINES, new_database
from tests.support.processes import COMMAND, STOP_TIMEOUT_S, ServerProcess, run_command, server_environment

ROLLS = 2
"""Each replaces both workers, and so the leader. `make prove` rolls a hundred times."""

pytestmark = pytest.mark.engine("sqlite", reason="the supervisor does not depend on the database")
each_engine = pytest.mark.engine(*ENGINES, reason="the handover between workers depends on which of them write")


def make_cluster(make_server: MakeServer, **settings: str) -> Cluster:
    return Cluster(make_server("--workers", "2", metrics_listen="127.0.0.1:0", **settings))


@pytest.fixture(scope="module")
def shared_cluster(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster for tests that leave it as it was: workers start without forks, so each takes a second."""
    folder = tmp_path_factory.mktemp("cluster")
    database = new_database(engine, folder)
    server = ServerProcess(folder, database=database, arguments=("--workers", "2"), metrics_listen="127.0.0.1:0")
    yield Cluster(server)
    server.kill()
    database.remove()


def choose_lasting_port() -> int:
    """Return a free port that the kernel gives to no other program while the server is away."""
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest_given // 2, lowest_given)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def messages(cluster: Cluster) -> list[str]:
    return [json.loads(line)["message"] for line in cluster.server.log().splitlines()]


# -- deaths


@each_engine
def test_dead_workers_are_replaced_while_callers_go_on(make_server: MakeServer):
    cluster = make_cluster(make_server)
    load = Load(cluster.server)
    with load.running():
        for number in sorted((0, 1), key=lambda number: number == cluster.writer()):
            counted = sum(cluster.metrics()["storekeep_calls_total"].values())
            killed = cluster.kill_worker(number)
            cluster.await_workers(other_than={killed})
            assert sum(cluster.metrics()["storekeep_calls_total"].values()) >= counted
    load.check()
    assert set(cluster.metrics()["storekeep_worker_restarts_total"].values()) == {1.0}


def test_worker_that_hangs_holds_up_neither_page_nor_others(shared_cluster: Cluster):
    cluster = shared_cluster
    workers = cluster.workers()
    hanging = next(worker for worker in workers if not worker["writes"])
    suspend(hanging["process_id"])
    began = time.monotonic()
    metrics = cluster.metrics()
    assert time.monotonic() - began < 30
    assert metrics["storekeep_worker_up"] == {
        (str(worker["number"]),): float(worker is not hanging) for worker in workers
    }
    assert cluster.page(f"/healthz/{hanging['number']}")[0] == 503
    assert cluster.page("/readyz")[0] == 200
    os.kill(hanging["process_id"], signal.SIGCONT)
    await_condition(lambda: cluster.page(f"/readyz/{hanging['number']}")[0] == 200, cluster.server.log)


def test_killed_supervisor_leaves_no_worker_and_can_start_again(make_server: MakeServer):
    cluster = make_cluster(make_server, listen=f"127.0.0.1:{choose_lasting_port()}")
    before = cluster.process_ids()
    cluster.server.kill()
    await_condition(lambda: not any(is_alive(process_id) for process_id in before), cluster.server.log)
    cluster.server.start()
    assert len(cluster.process_ids() - before) == 2


# -- startup errors


def test_sample_is_loaded_with_stock_before_the_workers_start(make_server: MakeServer):
    server = make_server("--sample", workers="2")
    with open_shop(server) as shop:
        assert shop.level("TEA-ASSAM-100").available == 140


def test_port_of_somebody_else_is_refused_in_a_line(tmp_path: Path):
    new_database("sqlite", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = run_command("serve", "--workers", "2", data_dir=tmp_path, listen=address)
    assert refused.returncode == 1
    assert f"cannot listen on {address}" in one_line(refused.stderr)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_of_another_server_with_workers_is_refused(shared_cluster: Cluster, tmp_path: Path, workers: str):
    new_database("sqlite", tmp_path)
    listen = shared_cluster.server.address
    refused = run_command("serve", "--workers", workers, data_dir=tmp_path, listen=listen)
    assert refused.returncode == 1
    assert f"cannot listen on {listen}" in refused.stderr


def test_port_of_the_pages_that_is_taken_is_refused_in_a_line(tmp_path: Path):
    new_database("sqlite", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for workers in ("1", "2"):
            refused = run_command("serve", "--workers", workers, data_dir=tmp_path, metrics_listen=address)
            assert refused.returncode == 1
            assert f"cannot listen on {address}" in one_line(refused.stderr)


def test_worker_that_cannot_start_ends_the_server_with_a_line(tmp_path: Path):
    new_database("sqlite", tmp_path)
    (tmp_path / "no.pem").write_text("no certificate")
    (tmp_path / "no.pem").chmod(0o600)
    files = {"tls_certificate_file": str(tmp_path / "no.pem"), "tls_private_key_file": str(tmp_path / "no.pem")}
    log = tmp_path / "log"
    refused = run_command("serve", "--workers", "2", data_dir=tmp_path, log_file=str(log), **files)
    assert refused.returncode == 1
    assert "no PEM" in one_line(refused.stderr)


@pytest.mark.parametrize("workers", ["0", "many", "-1", "1000000"])
def test_wrong_number_of_workers_is_wrong_use(tmp_path: Path, workers: str):
    refused = run_command("serve", f"--workers={workers}", data_dir=tmp_path)
    assert refused.returncode == 2
    assert "--workers" in refused.stderr


# -- shutdown


def test_signal_drains_all_workers_and_loses_nothing(make_server: MakeServer):
    cluster = make_cluster(make_server)
    processes = cluster.process_ids()
    load = Load(cluster.server, timeout_s=1.0)
    with load.running():
        cluster.server.process.send_signal(signal.SIGTERM)
        assert cluster.server.process.wait(timeout=STOP_TIMEOUT_S) == 0
    assert not any(is_alive(process_id) for process_id in processes)
    assert messages(cluster).count("stopped") == 2
    assert not (cluster.server.data_dir / "address").exists()
    cluster.server.start()
    with Storekeep(cluster.server.address, api_key=cluster.server.admin_key) as client:
        existing = {order.external_reference for order in client.orders.list(page_size=1000)}
    assert load.acknowledged.keys() <= existing


def test_later_signal_ends_all_at_once(make_server: MakeServer):
    cluster = make_cluster(make_server, drain_notice_s="300")
    processes = cluster.process_ids()
    cluster.server.process.send_signal(signal.SIGTERM)
    await_condition(lambda: "stopping" in messages(cluster), cluster.server.log)  # two that wait would be one
    assert cluster.server.process.poll() is None
    assert cluster.server.signal_until_exit() == 128 + signal.SIGTERM
    assert not any(is_alive(process_id) for process_id in processes)


def test_signal_while_starting_ends_in_order(tmp_path: Path):
    new_database("sqlite", tmp_path)
    command = [COMMAND, "serve", "--workers", "2"]
    with subprocess.Popen(command, env=server_environment(tmp_path), stderr=subprocess.DEVNULL) as process:
        await_condition((tmp_path / "workers" / "log.turns").exists, lambda: "it does not start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=STOP_TIMEOUT_S) == 0


# -- suspension, and ignored signals

STOPS = 120
STOP_S = 0.02
"""The process is suspended most of the time, so most of its waits end during a suspension."""
IGNORED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGWINCH, signal.SIGCONT, signal.SIGURG)


def suspend_for(process_id: int, *, seconds: float, by: signal.Signals = signal.SIGSTOP) -> None:
    os.kill(process_id, by)
    time.sleep(seconds)
    os.kill(process_id, signal.SIGCONT)


def check_serves(server: ServerProcess) -> None:
    assert server.process.poll() is None
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert client.auth.who_am_i()


def test_supervisor_that_is_stopped_and_continued_serves_on(make_server: MakeServer):
    cluster = make_cluster(make_server)
    before, process_id = cluster.process_ids(), cluster.server.process.pid
    for number in range(STOPS):
        suspend_for(process_id, seconds=STOP_S, by=(signal.SIGSTOP, signal.SIGTSTP)[number % 2])
        time.sleep(0.002)
    suspend_for(process_id, seconds=IDLE_TICK_S * 1.2)  # its current wait is over by then
    assert cluster.process_ids() == before
    check_serves(cluster.server)
    cluster.roll()
    assert cluster.server.stop() == 0


def test_supervisor_that_was_stopped_gives_its_workers_more_time(monkeypatch: pytest.MonkeyPatch):
    now_s = [1_000.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now_s[0])
    process = SimpleNamespace(exit_code=None, is_ready=False, extended_s=0.0)
    process.extend_deadlines = lambda seconds: setattr(process, "extended_s", process.extended_s + seconds)
    suspended = object.__new__(Supervisor)
    suspended._polled_s = now_s[0]
    suspended._slots = [SimpleNamespace(processes=lambda: iter([process]))]
    for gap_s in (IDLE_TICK_S, SUSPENDED_AFTER_S, 60.0, IDLE_TICK_S):
        now_s[0] += gap_s
        suspended._extend_deadlines_after_suspension()
    assert process.extended_s == 60.0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_signals_that_mean_nothing_change_nothing(make_server: MakeServer, workers: str):
    cluster = Cluster(make_server("--workers", workers, metrics_listen="127.0.0.1:0"))
    before = cluster.process_ids()
    for process_id in before | {cluster.server.process.pid}:
        for number in IGNORED_SIGNALS:
            os.kill(process_id, number)
        suspend_for(process_id, seconds=STOP_S)
    cluster.await_workers(other_than=set())
    check_serves(cluster.server)
    assert cluster.process_ids() == before
    assert cluster.server.stop() == 0


def test_worker_that_is_stopped_is_not_taken_for_dead(shared_cluster: Cluster):
    cluster = shared_cluster
    before = cluster.process_ids()
    for process_id in before:
        for _ in range(STOPS // 10):
            suspend_for(process_id, seconds=STOP_S)
        suspend_for(process_id, seconds=IDLE_TICK_S * 1.2)
    cluster.await_workers(other_than=set())
    assert cluster.process_ids() == before
    check_serves(cluster.server)


def test_signal_during_a_drain_that_is_stopped_and_continued_counts_once(make_server: MakeServer):
    cluster = make_cluster(make_server, drain_notice_s="2")
    process = cluster.server.process
    process.send_signal(signal.SIGTERM)
    await_condition(lambda: "stopping" in messages(cluster), cluster.server.log)
    for _ in range(STOPS // 3):
        suspend_for(process.pid, seconds=STOP_S)
    assert process.wait(timeout=STOP_TIMEOUT_S) == 0
    assert messages(cluster).count("stopped") == 2


# -- reload


@each_engine
def test_rolls_under_load_fail_no_call_and_lose_no_order(make_server: MakeServer):
    cluster = make_cluster(make_server)
    load = Load(cluster.server)
    with load.running():
        for _ in range(ROLLS):
            cluster.roll()
    load.check()
    counted = cluster.metrics()["storekeep_calls_total"]
    placed = sum(calls for (code, method, _), calls in counted.items() if code == "OK" and "PlaceOrder" in method)
    assert placed == len(load.acknowledged)
    assert not set(cluster.metrics()["storekeep_worker_restarts_total"].values()) - {0.0}


def test_reload_takes_new_settings_and_leaves_the_ports_alone(make_server: MakeServer, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text('message_size_max_bytes = 4096\nmetrics_listen = "127.0.0.1:0"\n')
    cluster = Cluster(make_server("--workers", "2", config_file=str(file)))
    big = Customer(display_name="Somebody", labels={f"k{number}": "v" * 60 for number in range(60)})
    with Storekeep(cluster.server.address, api_key=cluster.server.admin_key) as client:
        with pytest.raises(StorekeepError):
            client.customers.create(big)
        file.write_text('message_size_max_bytes = 65536\nmetrics_listen = "127.0.0.1:1"\n')
        cluster.roll()
        assert client.customers.create(big).labels == big.labels
    (line,) = [json.loads(line) for line in cluster.server.log().splitlines() if "settings reloaded" in line]
    assert line["settings"] == ["STOREKEEP_MESSAGE_SIZE_MAX_BYTES", "STOREKEEP_METRICS_LISTEN"]
    assert line["wait_for_a_restart"] == ["STOREKEEP_METRICS_LISTEN"]


UNUSABLE = {
    "read_threads = 0\n": "the new settings cannot be used; nothing changes",
    'tls_certificate_file = "no.pem"\ntls_private_key_file = "no.pem"\n': "no worker can start",
}


def test_reload_of_unusable_settings_changes_nothing(make_server: MakeServer, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text("")
    cluster = make_cluster(make_server, config_file=str(file))
    before = cluster.process_ids()
    for text, told in UNUSABLE.items():
        file.write_text(text)
        cluster.server.process.send_signal(signal.SIGHUP)
        await_condition(lambda told=told: any(told in one for one in messages(cluster)), cluster.server.log)
        assert cluster.process_ids() == before
    cluster.await_workers(other_than={cluster.kill_worker(1)})  # its successor gets the old settings


# -- several writers


@pytest.mark.engine("postgresql", reason="on SQLite one worker writes")
def test_every_worker_writes_for_itself(make_server: MakeServer):
    cluster = make_cluster(make_server)
    assert [worker["writes"] for worker in cluster.workers()] == [True, True]
    for number in (0, 1):
        with cluster.shop(number) as shop:
            name = shop.order().name
        with cluster.shop(1 - number) as shop:
            assert shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=name)).name == name
    assert cluster.metrics()["storekeep_calls_forwarded_total"][()] == 0


# -- a single process


def test_single_process_tells_what_waits_for_a_restart(make_server: MakeServer, tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text("")
    server = make_server(config_file=str(file))
    file.write_text("read_threads = 8\n")
    server.process.send_signal(signal.SIGHUP)
    await_condition(lambda: "wait for a restart" in server.log(), server.log)
    assert '"settings":["STOREKEEP_READ_THREADS"]' in server.log()
    file.write_text("read_threads = 0\n")
    server.process.send_signal(signal.SIGHUP)
    await_condition(lambda: "cannot be used" in server.log(), server.log)
    assert server.stop() == 0


def test_single_process_has_the_same_pages(make_server: MakeServer):
    cluster = Cluster(make_server(metrics_listen="127.0.0.1:0"))
    with Storekeep(cluster.server.address, api_key=cluster.server.admin_key) as client:
        client.auth.who_am_i()
    metrics = cluster.metrics()
    assert metrics["storekeep_worker_up"] == metrics["storekeep_worker_writes"] == {("0",): 1.0}
    assert metrics["storekeep_calls_total"]["OK", "storekeep.v1.AuthService/WhoAmI", ""] == 1
    assert cluster.page("/readyz")[0] == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_closed_terminal_ends_in_order(tmp_path: Path, workers: str):
    new_database("sqlite", tmp_path)
    keyboard, screen = os.openpty()
    address_file = tmp_path / "address"
    process = subprocess.Popen(
        [COMMAND, "serve", "--workers", workers, "--address-file", str(address_file)],
        env=server_environment(tmp_path, log_file=str(tmp_path / "log")),
        stdin=screen,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(screen)
    await_condition(address_file.exists, lambda: "it does not start")
    os.close(keyboard)
    assert process.wait(timeout=STOP_TIMEOUT_S) == 0
