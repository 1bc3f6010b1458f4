"""The health check never takes a healthy server for a dead one, nor one that callers cannot reach for a healthy one."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.processes import ServerProcess, run_command
from tests.server.authorities import CLIENTS, SERVERS, Authority, issue, make_authority, tls_settings

DAY = datetime.timedelta(days=1)
DEAD_PROXY = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "grpc_proxy": "http://127.0.0.1:9",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "authority")


def check(server: ServerProcess, *arguments: str, **settings: str) -> tuple[int, str]:
    asked = server.run("healthcheck", *arguments, listen=server.address, **settings)
    return asked.returncode, asked.stdout.strip()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("usages", [[SERVERS], [SERVERS, CLIENTS], []])
def test_server_that_asks_clients_for_certificates_is_healthy(
    make_server: MakeServer, authority, tmp_path, usages, workers
):
    identity = issue(tmp_path, "localhost", by=authority, usages=usages)
    server = make_server(**tls_settings(identity), tls_client_ca_file=str(authority.file), workers=workers)
    assert check(server) == (0, f"{server.address}: SERVING")
    assert check(server, "--service", "liveness")[0] == 0
    assert check(server, "--service", "nobody")[0] == 1
    code, told = check(server, "--address", server.address)
    assert (code == 0) == (usages != [SERVERS])
    assert ("without --address its own socket is asked" in told) == (usages == [SERVERS])


def test_certificate_of_an_authority_that_clients_do_not_need_is_healthy(make_server: MakeServer, authority, tmp_path):
    identity = issue(tmp_path, "localhost", by=authority)
    others = make_authority(tmp_path, "others")
    server = make_server(**tls_settings(identity), tls_client_ca_file=str(others.file))
    assert check(server) == (0, f"{server.address}: SERVING")


def test_expired_certificate_is_told(make_server: MakeServer, authority, tmp_path):
    identity = issue(tmp_path, "localhost", by=authority, ends=-DAY)
    server = make_server(**tls_settings(identity))
    for arguments in ((), ("--address", server.address)):
        code, told = check(server, *arguments)
        assert code == 1
        assert "its certificate expired at" in told
    assert check(server, "--service", "liveness") == (0, f"{server.address}: SERVING")


def test_other_certificate_than_that_of_the_settings_is_told(make_server: MakeServer, authority, tmp_path):
    identity = issue(tmp_path, "localhost", by=authority)
    server = make_server(**tls_settings(identity))
    other = issue(tmp_path, "other", by=make_authority(tmp_path, "others"))
    code, told = check(server, "--address", server.address, **tls_settings(other))
    assert code == 1
    assert "the server shows another certificate" in told


def test_server_that_is_killed_and_started_again_is_told_as_it_is(make_server: MakeServer):
    server = make_server()
    address = server.address
    server.restart()
    assert (server.data_dir / f"server-{address.rpartition(':')[2]}.sock").stat().st_mode & 0o777 == 0o600
    assert check(server) == (0, f"{address}: SERVING")
    server.kill()
    code, told = check(server)
    assert code == 1
    assert "no answer" in told
    server.start()
    assert check(server) == (0, f"{address}: SERVING")


def test_proxy_of_the_environment_is_not_asked(make_server: MakeServer, tmp_path, monkeypatch):
    for name, value in DEAD_PROXY.items():
        monkeypatch.setenv(name, value)
    server = make_server()
    assert check(server) == (0, f"{server.address}: SERVING")
    asked = run_command("healthcheck", "--address", server.address, data_dir=tmp_path)
    assert asked.stdout == f"{server.address}: SERVING\n"


def test_data_directory_with_a_long_path_has_a_socket(make_server: MakeServer, tmp_path):
    server = ServerProcess(tmp_path / ("long" * 20) / ("path" * 10), arguments=())
    try:
        assert check(server)[0] == 0
    finally:
        server.stop()
