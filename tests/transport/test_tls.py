"""TLS with real certificates: served, required of clients, revoked, and reloaded while serving."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.client import Storekeep, Tls, Unauthenticated
from tests.conftest import MakeServer
from tests.support.authorities import (
    CLIENTS,
    SERVERS,
    Authority,
    Identity,
    issue,
    make_authority,
    revoke,
    tls_settings,
    write_revoked,
)
from tests.support.processes import ServerProcess, run_command

pytestmark = pytest.mark.engine("sqlite", reason="a connection is made before any database is asked")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "authority")


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Identity:
    return issue(tmp_path, "localhost", by=authority)


def is_trusted(server: ServerProcess, authority: Authority) -> bool:
    """Return whether a call succeeds on a new connection that trusts only this authority."""
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    with grpc.secure_channel(server.address, credentials) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        except grpc.RpcError:
            return False
    return True


def await_true(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_server_with_certificate_speaks_tls_and_nothing_else(make_server: MakeServer, authority, identity):
    server = make_server(**tls_settings(identity))
    with Storekeep(server.address, api_key=server.admin_key, tls=Tls(ca_file=authority.file)) as client:
        assert client.auth.who_am_i().subject == "serviceAccounts/admin"
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)


def test_mtls_refuses_a_client_without_certificate(make_server: MakeServer, authority, identity, tmp_path):
    ours = make_authority(tmp_path, "clients")
    shop = issue(tmp_path, "shop", by=ours)
    stranger = issue(tmp_path, "stranger", by=authority)
    server = make_server(**tls_settings(identity), tls_client_ca_file=str(ours.file))
    assert not is_trusted(server, authority)
    for who, welcome in ((shop, True), (stranger, False)):
        tls = Tls(ca_file=authority.file, cert_file=who.certificate, key_file=who.private_key)
        with Storekeep(server.address, api_key=server.admin_key, tls=tls, timeout_s=60 if welcome else 5) as client:
            if welcome:
                assert client.auth.who_am_i().subject == "serviceAccounts/admin"
            else:
                with pytest.raises(Exception, match=r"reached|handshake|certificate|closed|unavailable"):
                    client.auth.who_am_i()


def test_new_certificate_is_taken_while_serving(make_server: MakeServer, authority, identity, tmp_path):
    server = make_server(**tls_settings(identity))
    assert is_trusted(server, authority)
    other = make_authority(tmp_path, "other")
    issue(tmp_path, "localhost", by=other)
    await_true(lambda: is_trusted(server, other))
    assert not is_trusted(server, authority)


@pytest.mark.parametrize("damage", ["certificate", "private_key"])
def test_unusable_new_certificate_leaves_the_old_one(make_server: MakeServer, authority, identity, damage):
    server = make_server(**tls_settings(identity))
    getattr(identity, damage).write_text("-----BEGIN NOTHING-----\n")
    assert is_trusted(server, authority)
    await_true(lambda: "the new TLS files cannot be used; the old ones stay" in server.log())
    getattr(identity, damage).unlink()
    assert is_trusted(server, authority)
    os.mkfifo(getattr(identity, damage), 0o600)  # each handshake would wait for somebody to write to it
    assert is_trusted(server, authority)
    await_true(lambda: "a pipe, not a regular file" in server.log())


@pytest.mark.parametrize("name", ["localhost", "shop.example.com"])
def test_healthcheck_works_over_tls_whatever_the_certificate_is_for(make_server: MakeServer, authority, tmp_path, name):
    identity = issue(tmp_path, name, by=authority)
    server = make_server(**tls_settings(identity))
    asked = run_command("healthcheck", "--address", server.address, data_dir=tmp_path, **tls_settings(identity))
    assert asked.stdout.endswith(": SERVING\n")


def test_server_refuses_certificate_of_another_key(tmp_path, authority, identity):
    other = issue(tmp_path, "other", by=authority)
    settings = tls_settings(identity) | {"tls_private_key_file": str(other.private_key)}
    assert run_command("migrate", data_dir=tmp_path).returncode == 0
    refused = run_command("serve", data_dir=tmp_path, **settings)
    assert refused.returncode == 1
    assert "is not the key of" in refused.stderr


def test_server_refuses_missing_files(tmp_path):
    assert run_command("migrate", data_dir=tmp_path).returncode == 0
    none = Identity(tmp_path / "none.pem", tmp_path / "none.key")
    refused = run_command("serve", data_dir=tmp_path, **tls_settings(none))
    assert refused.returncode == 1
    assert "none.pem: No such file or directory" in refused.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_revoked_client_certificate_is_refused_on_an_open_connection_too(
    make_server: MakeServer, authority, tmp_path, workers
):
    server_side = issue(tmp_path, "localhost", by=authority, usages=[SERVERS])
    ours = make_authority(tmp_path, "clients")
    shop, till = (issue(tmp_path, name, by=ours, usages=[CLIENTS]) for name in ("shop", "till"))
    lists = write_revoked(tmp_path, [], by=ours)
    server = make_server(
        **tls_settings(server_side),
        tls_client_ca_file=str(ours.file),
        tls_client_crl_file=str(lists),
        workers=workers,
    )

    def client_of(identity: Identity) -> Storekeep:
        tls = Tls(ca_file=authority.file, cert_file=identity.certificate, key_file=identity.private_key)
        return Storekeep(server.address, api_key=server.admin_key, tls=tls, timeout_s=30)

    def is_refused(client: Storekeep) -> bool:
        try:
            client.auth.who_am_i()
        except Unauthenticated as error:
            return "revoked" in error.message
        return False

    with client_of(shop) as opened, client_of(till) as other:
        assert not is_refused(opened)
        revoke(tmp_path, shop, by=ours)
        await_true(lambda: is_refused(opened))
        with client_of(shop) as anew:
            await_true(lambda: is_refused(anew))
        assert not is_refused(other)
        lists.write_text("nonsense")
        await_true(lambda: is_refused(opened) and "the new list of revoked certificates cannot be used" in server.log())
        assert not is_refused(other)


def test_list_of_revoked_certificates_that_is_none_is_refused(tmp_path, authority, identity):
    assert run_command("migrate", data_dir=tmp_path).returncode == 0
    settings = tls_settings(identity) | {"tls_client_ca_file": str(authority.file)}
    refused = run_command("serve", data_dir=tmp_path, **settings, tls_client_crl_file=str(authority.file))
    assert refused.returncode == 1
    assert "no PEM list of revoked certificates" in refused.stderr


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o777])
def test_private_key_that_others_can_use_is_refused(tmp_path, identity, mode):
    assert run_command("migrate", data_dir=tmp_path).returncode == 0
    identity.private_key.chmod(mode)
    refused = run_command("serve", data_dir=tmp_path, **tls_settings(identity))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"chmod 600 {identity.private_key}" in refused.stderr


def test_new_private_key_that_others_can_read_leaves_the_old_one(
    make_server: MakeServer, authority, identity, tmp_path
):
    server = make_server(**tls_settings(identity))
    identity.private_key.chmod(0o644)
    assert is_trusted(server, authority)
    await_true(lambda: "the new TLS files cannot be used; the old ones stay" in server.log())
    identity.private_key.chmod(0o600)
    assert is_trusted(server, authority)
