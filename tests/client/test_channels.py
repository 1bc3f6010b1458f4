"""Plaintext is for this machine; what cannot be used is said before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storekeep.client import InvalidSettings, Storekeep, Tls
from storekeep.client.channels import SERVICES, is_local, service_config
from tests.client.scripted_server import ScriptedServer
from tests.client.slow_road import slow_road


@pytest.mark.parametrize(
    "address", ["127.0.0.1:50051", "localhost:1", "[::1]:50051", "unix:/run/storekeep.sock", "dns:///localhost:1"]
)
def test_address_on_this_machine_is_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", ["10.0.0.1:50051", "storekeep.example:443", "127.0.0.1.example:1", "[2001::1]:1"])
def test_address_elsewhere_is_not_local(address: str) -> None:
    assert not is_local(address)


def test_service_config_retries_every_service_but_not_refresh_token() -> None:
    retried, once = json.loads(service_config())["methodConfig"]
    assert {name["service"] for name in retried["name"]} == set(SERVICES)
    assert once == {"name": [{"service": "storekeep.v1.AuthService", "method": "RefreshToken"}]}


def test_tls_with_a_certificate_and_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="both"):
        Storekeep("127.0.0.1:1", tls=Tls(cert_file=tmp_path / "cert.pem"))


def test_tls_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"ca\.pem"):
        Storekeep("127.0.0.1:1", tls=Tls(ca_file=tmp_path / "ca.pem"))


def test_tls_file_that_is_not_pem_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("junk")
    with pytest.raises(InvalidSettings, match="not PEM"):
        Storekeep("127.0.0.1:1", tls=Tls(ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize("key", ["sk_ü", "sk_a b", "sk_\x00"])
def test_api_key_that_no_server_gives_is_refused(key: str) -> None:
    with pytest.raises(InvalidSettings):
        Storekeep("127.0.0.1:1", api_key=key)


def test_timeout_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidSettings):
        Storekeep("127.0.0.1:1", timeout_s=0)


def test_server_that_takes_a_while_to_say_hello_is_reached_at_the_first_attempt(scripted: ScriptedServer) -> None:
    with slow_road(scripted.address, delay_s=1) as address, Storekeep(address, api_key="sk_x_y", timeout_s=8) as client:
        client.auth.refresh_token("works once, so it is never sent again")
    assert len(scripted.calls_of("RefreshToken")) == 1
