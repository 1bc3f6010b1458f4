"""Plaintext is limited to local addresses, and invalid settings fail before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storekeep.client import InvalidSettings, ServerUnreachable, Storekeep, Tls, add_default_port
from storekeep.client.channels import SERVICES, build_service_config, find_proxy, is_local
from storekeep.server.transport.contract import SERVICES as CONTRACT
from tests.support.scripted_server import ScriptedServer
from tests.support.slow_road import slow_road


@pytest.mark.parametrize(
    "address", ["127.0.0.1:50051", "localhost:1", "[::1]:50051", "unix:/run/storekeep.sock", "dns:///localhost:1"]
)
def test_address_on_this_machine_is_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:50051",
        "192.168.1.1:50051",
        "169.254.1.1:50051",
        "0.0.0.0:50051",
        "[2001::1]:1",
        "[fe80::1]:1",
        "[::]:1",
        "storekeep.example:443",
        "127.0.0.1.example:1",
        "localhost.example:1",
        "LOCALHOST.example:1",
        "dns:///localhost.example:1",
        "example.localhost:1",
        "notlocalhost:1",
        "ip6-localhost.example:1",
        "localhost@shop.example:1",
        "unix.example:1",
        "dns:unix:1",
    ],
)
def test_address_elsewhere_is_not_local(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize(
    ("address", "called"),
    [
        ("shop.example", "shop.example:50051"),
        ("shop.example:", "shop.example:50051"),
        ("shop.example:443", "shop.example:443"),
        ("10.0.0.1", "10.0.0.1:50051"),
        ("localhost", "localhost:50051"),
        ("::1", "[::1]:50051"),
        ("[::1]", "[::1]:50051"),
        ("[::1]:1", "[::1]:1"),
        ("dns:///shop.example", "dns:///shop.example:50051"),
        ("dns:shop.example:1", "dns:shop.example:1"),
        ("unix:/run/s", "unix:/run/s"),
        ("ipv4:10.0.0.1:5", "ipv4:10.0.0.1:5"),
        ("xds:///shop", "xds:///shop"),
    ],
)
def test_address_without_a_port_has_the_port_of_a_server(address: str, called: str) -> None:
    assert add_default_port(address) == called
    with Storekeep(address) as client:
        assert client.address == called


@pytest.mark.parametrize("address", ["shop.example:grpc", "shop.example:70000", "[::1]:x", "10.0.0.1:-1"])
def test_address_with_what_is_no_port_is_refused(address: str) -> None:
    with pytest.raises(InvalidSettings, match="is not a port"):
        Storekeep(address)


PROXIES = ("http_proxy", "https_proxy", "grpc_proxy")


@pytest.mark.parametrize("variable", PROXIES)
def test_proxy_of_the_environment_is_not_asked_for_this_machine(
    variable: str, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with Storekeep(scripted.address, api_key="sk_x_y") as client:
        client.auth.who_am_i()


@pytest.mark.parametrize("variable", PROXIES)
def test_proxy_of_the_environment_is_named_where_it_is_asked(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://me:pa55@127.0.0.1:9")
    with Storekeep("shop.invalid:1", api_key="sk_x_y", tls=False) as client:
        for call in (client.auth.who_am_i, client.health.check, lambda: client.auth.refresh_token("rt")):
            with pytest.raises(ServerUnreachable) as caught:
                call()
            assert f" through {variable}=http://127.0.0.1:9: " in str(caught.value)
            assert "pa55" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "exempt", "proxied"),
    [
        ("shop.example:1", "", True),
        ("shop.example:1", "other.example", True),
        ("shop.example:1", "other.example, .example", False),
        ("127.0.0.1:1", "", False),
        ("unix:/run/s", "", False),
    ],
)
def test_proxy_is_found_as_grpc_finds_it(
    address: str, exempt: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", exempt)
    assert bool(find_proxy(address)) == proxied


def test_service_config_retries_every_service_but_not_refresh_token() -> None:
    retried, once = json.loads(build_service_config())["methodConfig"]
    assert {name["service"] for name in retried["name"]} == set(SERVICES)
    assert set(SERVICES) == {service.full_name for service in CONTRACT}
    assert once == {"name": [{"service": "storekeep.v1.AuthService", "method": "RefreshToken"}]}


def test_tls_with_a_certificate_and_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="both"):
        Storekeep("127.0.0.1:1", tls=Tls(cert_file=tmp_path / "cert.pem"))


def test_tls_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"ca\.pem"):
        Storekeep("127.0.0.1:1", tls=Tls(ca_file=tmp_path / "ca.pem"))


def test_tls_file_that_is_not_pem_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("junk")
    with pytest.raises(InvalidSettings, match="not a PEM file"):
        Storekeep("127.0.0.1:1", tls=Tls(ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize("key", ["sk_ü", "sk_a b", "sk_\x00"])
def test_api_key_that_no_server_gives_is_refused(key: str) -> None:
    with pytest.raises(InvalidSettings):
        Storekeep("127.0.0.1:1", api_key=key)


def test_server_that_takes_a_while_to_say_hello_is_reached_at_the_first_attempt(scripted: ScriptedServer) -> None:
    with slow_road(scripted.address, delay_s=1) as address, Storekeep(address, api_key="sk_x_y", timeout_s=8) as client:
        client.auth.refresh_token("works once, so it is never sent again")
    assert len(scripted.calls_of("RefreshToken")) == 1


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), True, "5"])
def test_timeout_that_is_not_positive_and_finite_is_refused(timeout_s: float):
    with pytest.raises(InvalidSettings, match=r"timeout_s must be a .*number of seconds greater than 0"):
        Storekeep("127.0.0.1:1", timeout_s=timeout_s)
    with (
        Storekeep("127.0.0.1:1", api_key="") as client,
        pytest.raises(ValueError, match=r"timeout_s must be a .*number of seconds greater than 0"),
    ):
        client.products.get("products/a", timeout_s=timeout_s)


def test_timeout_of_ages_is_a_year(server):
    with Storekeep(server.address, api_key=server.admin_key, timeout_s=1e18) as client:
        assert list(client.products.list(timeout_s=1e300)) == list(client.products.list())


@pytest.mark.parametrize("address", ["http://127.0.0.1:50051", "HTTPS://shop.example"])
def test_address_that_is_a_url_of_http_is_refused(address: str):
    with pytest.raises(InvalidSettings, match=r"leave out (http|HTTPS)://; the address of gRPC is HOST:PORT"):
        Storekeep(address)
