"""The client with a real server: TLS and mTLS, a restart during calls, a revoked key."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storekeep.client import (
    ApiKey,
    ApiKeyInvalid,
    CallTimedOut,
    Category,
    HealthStatus,
    Product,
    ServerUnreachable,
    ServiceAccount,
    Storekeep,
    Tls,
    UnexpectedStatus,
)
from tests.support.authorities import issue, make_authority
from tests.support.processes import ServerProcess

MakeServer = Callable[..., ServerProcess]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Storekeep]:
    with Storekeep(server.address, api_key=server.admin_key) as opened:
        yield opened


@pytest.mark.engine("sqlite", reason="a connection is made before any database is asked")
def test_server_with_tls_is_reached_by_its_authority_and_no_other(make_server: MakeServer, tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "authority")
    identity = issue(tmp_path, "server", by=authority)
    server = make_server(tls_certificate_file=str(identity.certificate), tls_private_key_file=str(identity.private_key))
    with Storekeep(server.address, api_key=server.admin_key, tls=Tls(ca_file=authority.file)) as trusted:
        assert trusted.auth.who_am_i().subject == "serviceAccounts/admin"
    for distrusting in (True, False):
        with (
            Storekeep(server.address, api_key=server.admin_key, tls=distrusting, timeout_s=5) as other,
            pytest.raises((ServerUnreachable, CallTimedOut)),
        ):
            other.auth.who_am_i()


@pytest.mark.engine("sqlite", reason="a connection is made before any database is asked")
def test_server_with_mtls_takes_only_clients_of_its_authority(make_server: MakeServer, tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "authority")
    identity, own = issue(tmp_path, "server", by=authority), issue(tmp_path, "client", by=authority)
    server = make_server(
        tls_certificate_file=str(identity.certificate),
        tls_private_key_file=str(identity.private_key),
        tls_client_ca_file=str(authority.file),
    )
    shown = Tls(ca_file=authority.file, cert_file=own.certificate, key_file=own.private_key)
    with Storekeep(server.address, api_key=server.admin_key, tls=shown) as client:
        assert client.health.check() is HealthStatus.SERVING
    with (
        Storekeep(server.address, api_key=server.admin_key, tls=Tls(ca_file=authority.file), timeout_s=5) as nobody,
        pytest.raises((ServerUnreachable, CallTimedOut)),
    ):
        nobody.auth.who_am_i()


def port_below_the_ephemeral() -> int:
    """Return a free port that no outgoing connection can take while the server is down."""
    for port in random.sample(range(20_000, 30_000), 50):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no free port")


def test_calls_while_the_server_restarts_come_through(make_server: MakeServer) -> None:
    server = make_server(listen=f"127.0.0.1:{port_below_the_ephemeral()}")
    with Storekeep(server.address, api_key=server.admin_key, timeout_s=30) as client:
        client.categories.create(Category(display_name="before"))
        restarting = threading.Thread(target=server.restart)
        restarting.start()
        for number in range(100):
            client.categories.create(Category(display_name=f"during-{number}"), category_id=f"during-{number}")
        restarting.join()
        assert len(list(client.categories.list(page_size=1000))) == 101


def test_update_under_a_mask_needs_no_other_field(client: Storekeep) -> None:
    client.products.create(Product(display_name="Masked"), product_id="masked")
    changed = client.products.update(Product(name="products/masked", description="new"), update_mask=["description"])
    assert (changed.display_name, changed.description) == ("Masked", "new")


def test_key_that_is_revoked_stops_a_client_that_runs(client: Storekeep) -> None:
    account = client.auth.create_service_account(
        ServiceAccount(display_name="Robot", roles=["roles/viewer"]), service_account_id="robot"
    )
    made = client.auth.create_api_key(account.name, ApiKey(display_name="one"))
    with Storekeep(client.address, api_key=made.secret) as robot:
        assert robot.auth.who_am_i().subject == account.name
        client.auth.revoke_api_key(made.api_key.name)
        with pytest.raises(ApiKeyInvalid):
            call_for_a_while(robot)


def call_for_a_while(client: Storekeep) -> None:
    for _ in range(200):
        client.auth.who_am_i()
        time.sleep(0.05)


def test_health_of_every_service_is_told(client: Storekeep) -> None:
    statuses = client.health.list()
    assert statuses["storekeep.v1.OrderService"] is HealthStatus.SERVING
    assert next(client.health.watch("storekeep.v1.OrderService", timeout_s=60)) is HealthStatus.SERVING
    with pytest.raises(UnexpectedStatus):
        client.health.check("no.such.Service")
