"""Shutdown: running calls finish, acknowledged writes stay, and a later signal does not wait."""

from __future__ import annotations

import signal
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.client import Customer, Storekeep, StorekeepError
from storekeep.server.config import Settings
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess


def create_customers(server: ServerProcess, created: list[str]) -> None:
    """Create customers until the server is gone."""
    with Storekeep(server.address, api_key=server.admin_key, timeout_s=2) as client:
        while True:
            try:
                created.append(client.customers.create(Customer(display_name="Somebody")).name)
            except StorekeepError:
                return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_under_load_ends_with_0_and_loses_nothing(make_server: MakeServer, number):
    server = make_server()
    created: list[list[str]] = [[] for _ in range(4)]
    callers = [threading.Thread(target=create_customers, args=(server, names)) for names in created]
    for caller in callers:
        caller.start()
    while not all(created):
        time.sleep(0.01)
    server.process.send_signal(number)
    assert server.process.wait(timeout=60) == 0
    for caller in callers:
        caller.join(timeout=60)
    acknowledged = {name for names in created for name in names}
    server.start()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        existing = {customer.name for customer in client.customers.list()}
    assert acknowledged <= existing


@pytest.mark.engine("sqlite", reason="shutdown does not depend on the database")
def test_end_without_calls_takes_no_time(make_server: MakeServer):
    server = make_server(drain_s="300")
    assert server.stop() == 0  # its timeout is a fifth of `drain_s`
    assert not (server.data_dir / "address").exists()


@pytest.mark.engine("sqlite", reason="shutdown does not depend on the database")
def test_health_tells_before_calls_are_refused(make_server: MakeServer):
    server = make_server(drain_notice_s="3")
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=120)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        ready = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
        alive = health.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=60)
    assert ready.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert alive.status == health_pb2.HealthCheckResponse.SERVING
    assert server.process.wait(timeout=60) == 0


@pytest.mark.engine("sqlite", reason="shutdown does not depend on the database")
def test_server_that_nobody_checks_does_not_wait_for_balancers(make_server: MakeServer):
    server = make_server(drain_notice_s="300")
    with grpc.insecure_channel(server.address) as channel:
        liveness = health_pb2.HealthCheckRequest(service="liveness")
        health_pb2_grpc.HealthStub(channel).Check(liveness, timeout=60)
    assert server.stop() == 0  # its timeout is a fifth of the notice


def test_default_of_the_notice_covers_two_checks_of_a_balancer():
    assert Settings().drain_notice_s == 3.0


@pytest.mark.engine("sqlite", reason="shutdown does not depend on the database")
@pytest.mark.parametrize("observed_by", ["gRPC", "HTTP"])
def test_later_signal_ends_at_once(make_server: MakeServer, observed_by: str):
    pages = {"metrics_listen": "127.0.0.1:0"} if observed_by == "HTTP" else {}
    server = make_server(drain_notice_s="300", **pages)
    if observed_by == "gRPC":
        with grpc.insecure_channel(server.address) as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    server.process.send_signal(signal.SIGTERM)
    give_up = time.monotonic() + 60
    while '"message":"draining"' not in server.log() and time.monotonic() < give_up:
        time.sleep(0.01)
    assert '"message":"draining"' in server.log()
    assert server.process.poll() is None
    assert server.signal_until_exit() == 128 + signal.SIGTERM


def test_killed_server_starts_again_on_its_data(make_server: MakeServer):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        name = client.customers.create(Customer(display_name="Somebody")).name
    server.kill()
    server.start()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert client.customers.get(name).display_name == "Somebody"
    server.stop()
    assert server.run("verify").returncode == 0
