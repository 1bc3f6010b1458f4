"""The health check reports a healthy server as healthy, and a server that clients cannot reach as unhealthy."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storekeep.server.config import Settings, load_settings
from storekeep.server.process import healthcheck
from storekeep.server.process.healthcheck import probe_address, probe_server
from tests.support.authorities import CLIENTS, SERVERS, Authority, issue, make_authority, tls_settings
from tests.support.processes import ServerProcess, run_command, server_environment

DAY = datetime.timedelta(days=1)
SHORT_TIMEOUT_S = 2.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "authority")


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers on SQLite; health checks do not depend on the database."""
    made: list[ServerProcess] = []

    def make(**settings: str) -> ServerProcess:
        made.append(ServerProcess(tmp_path / f"server-{len(made)}", **settings))
        return made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeout for servers that do not answer; those that answer do so earlier."""
    monkeypatch.setattr(healthcheck, "PROBE_TIMEOUT_S", SHORT_TIMEOUT_S)


def read_settings(server: ServerProcess, **settings: str) -> Settings:
    return load_settings(server_environment(server.data_dir, listen=server.address, **settings)).settings


def check(server: ServerProcess, service: str = "", **settings: str) -> str:
    return probe_server(read_settings(server, **settings), service=service)


def check_address(server: ServerProcess, **settings: str) -> str:
    return probe_address(server.address, service="", settings=read_settings(server, **settings))


@pytest.mark.parametrize(
    ("usages", "workers"), [([SERVERS], "1"), ([SERVERS], "2"), ([SERVERS, CLIENTS], "1"), ([], "1")]
)
def test_server_that_asks_clients_for_certificates_is_healthy(
    make_server, authority, tmp_path, usages, workers, monkeypatch
):
    identity = issue(tmp_path, "localhost", by=authority, usages=usages)
    settings = tls_settings(identity) | {"tls_client_ca_file": str(authority.file), "workers": workers}
    server = make_server(**settings)
    assert check(server, **settings) == "SERVING"
    assert check(server, "liveness", **settings) == "SERVING"
    assert check(server, "nobody", **settings).startswith("unknown service 'nobody'; the server has: liveness, ")
    if usages == [SERVERS]:
        monkeypatch.setattr(healthcheck, "PROBE_TIMEOUT_S", SHORT_TIMEOUT_S)
    state = check_address(server, **settings)
    assert (state == "SERVING") == (usages != [SERVERS])
    assert ("run healthcheck without --address" in state) == (usages == [SERVERS])


def test_server_whose_clients_have_another_authority_is_healthy(make_server, authority, tmp_path):
    identity = issue(tmp_path, "localhost", by=authority)
    settings = tls_settings(identity) | {"tls_client_ca_file": str(make_authority(tmp_path, "others").file)}
    assert check(make_server(**settings), **settings) == "SERVING"


@pytest.mark.usefixtures("short_timeout")
def test_expired_certificate_is_told(make_server, authority, tmp_path):
    settings = tls_settings(issue(tmp_path, "localhost", by=authority, ends=-DAY))
    server = make_server(**settings)
    assert check(server, **settings).startswith("its certificate expired at")
    assert check_address(server, **settings).startswith("no answer: its certificate expired at")
    assert check(server, "liveness", **settings) == "SERVING"


@pytest.mark.usefixtures("short_timeout")
def test_other_certificate_than_that_of_the_settings_is_told(make_server, authority, tmp_path):
    server = make_server(**tls_settings(issue(tmp_path, "localhost", by=authority)))
    other = issue(tmp_path, "other", by=make_authority(tmp_path, "others"))
    assert "the server presents another certificate" in check_address(server, **tls_settings(other))


def test_killed_server_is_told_and_its_socket_is_used_again(make_server):
    server = make_server()
    own = server.data_dir / f"server-{server.address.rpartition(':')[2]}.sock"
    assert own.stat().st_mode & 0o777 == 0o600
    assert check(server) == "SERVING"
    server.kill()
    assert check(server) == "no answer: nothing listens there"
    server.start()
    assert check(server) == "SERVING"
    server.stop()
    assert not own.exists()


def test_proxy_of_the_environment_is_not_asked(make_server, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = make_server()
    assert check(server) == check_address(server) == "SERVING"
    asked = server.run("healthcheck", listen=server.address)
    assert (asked.returncode, asked.stdout) == (0, f"{server.address}: SERVING\n")


def test_data_directory_with_a_long_path_has_a_socket(tmp_path):
    server = ServerProcess(tmp_path / ("long" * 20) / ("path" * 10))
    try:
        assert check(server) == "SERVING"
    finally:
        server.kill()


def ask(address: str, tmp_path: Path) -> str:
    return probe_address(address, service="", settings=load_settings(server_environment(tmp_path)).settings)


def test_closed_port_is_told_without_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(healthcheck, "PROBE_TIMEOUT_S", 3_600.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    assert ask(address, tmp_path) == "no answer: nothing listens there"
    path = f"unix:{tmp_path}/nobody.sock"
    assert ask(path, tmp_path) == "no answer: nothing listens there"
    asked = run_command("healthcheck", data_dir=tmp_path, listen=address)
    assert (asked.returncode, asked.stdout) == (1, f"{address}: no answer: nothing listens there\n")


def test_silent_port_is_told_after_the_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(healthcheck, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        state = ask(f"127.0.0.1:{silent.getsockname()[1]}", tmp_path)
    assert state.startswith("no answer: it accepts connections, but answers no call within")


def test_unknown_host_is_told(tmp_path):
    assert ask("nobody.invalid:50051", tmp_path) == "no answer: the host name is unknown"


def test_address_that_is_none_is_wrong_use(tmp_path):
    asked = run_command("healthcheck", "--address", "localhost", data_dir=tmp_path)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr == "storekeep-server: --address: must be host:port or unix:/path, not 'localhost'\n"
