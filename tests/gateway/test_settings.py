"""The gateway's settings and its TLS: what a start refuses, HTTPS, and a certificate that changes while it serves."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storekeep.gateway.config import InvalidSettings, load_settings
from tests.support.authorities import Authority, issue, make_authority
from tests.support.forks import run_fork
from tests.support.gateways import COMMAND, GatewayProcess, HttpReply, read_reply

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway-tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return make_authority(folder, "authority")


@pytest.fixture(scope="module")
def gateway(folder: Path, authority: Authority) -> Iterator[GatewayProcess]:
    """Serve HTTPS, with no server behind it."""
    identity = issue(folder, "first", by=authority)
    certificate, key = folder / "served.pem", folder / "served.key"
    shutil.copy(identity.certificate, certificate)
    shutil.copy(identity.private_key, key)
    process = GatewayProcess(
        folder,
        server_address=f"unix:{folder}/none.sock",
        api_key="",
        tls_certificate_file=str(certificate),
        tls_private_key_file=str(key),
    )
    yield process
    process.process.kill()


def get(gateway: GatewayProcess, path: str) -> tuple[HttpReply, bytes]:
    """Return the reply of a GET over TLS, and the certificate that the gateway showed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with gateway.connect() as plain, context.wrap_socket(plain) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return read_reply(connection), connection.getpeercert(binary_form=True) or b""


def test_https_is_served_with_hsts_and_a_changed_certificate_is_used(
    gateway: GatewayProcess, folder: Path, authority: Authority
) -> None:
    reply, first = get(gateway, "/livez")
    assert reply.status == 200
    assert "max-age=31536000" in reply.headers["strict-transport-security"]
    identity = issue(folder, "second", by=authority)
    for source, target in ((identity.certificate, "served.pem"), (identity.private_key, "served.key")):
        shutil.copy(source, folder / "new")
        (folder / "new").replace(folder / target)
    give_up, shown = time.monotonic() + TIMEOUT_S, first
    while shown == first:
        assert time.monotonic() < give_up
        time.sleep(0.1)
        with contextlib.suppress(OSError):  # the old process may close it while it ends
            shown = get(gateway, "/livez")[1]


def test_plaintext_is_not_answered_where_tls_is(gateway: GatewayProcess) -> None:
    assert gateway.send("GET", "/livez").status == 0


def test_server_that_was_never_there_gives_503(gateway: GatewayProcess) -> None:
    reply, _ = get(gateway, "/v1/products")
    assert (reply.status, reply.reason) == (503, "STORAGE_UNAVAILABLE")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("STOREKEEP_GATEWAY_BODY_SIZE_MAX", "1", "no such setting"),
        ("STOREKEEP_GATEWAY_LISTEN", "127.0.0.1:80", "did you mean STOREKEEP_HTTP_LISTEN?"),
        ("STOREKEEP_GATEWAY_REQUEST_MAX", "9", "did you mean STOREKEEP_GATEWAY_REQUESTS_MAX?"),
        ("STOREKEEP_GATEWAY_REQUESTS_MAX", "0", "greater than or equal to 1"),
        ("STOREKEEP_HTTP_LISTEN", "8080", "not host:port"),
        ("STOREKEEP_HTTP_LISTEN", "0.0.0.0:8080", "plaintext beyond loopback"),
        ("STOREKEEP_GATEWAY_TLS_CERTIFICATE_FILE", "a.pem", "set both or none"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "https://a.example,https://b.example", "by spaces, without commas"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "https://a.example, https://b.example", "by spaces, without commas"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "https://a.example/", "is not an origin such as"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "https://a.example https://A.example", "is not an origin such as"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "https://a.example:99999", "is not an origin such as"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "https://a.example:", "is not an origin such as"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "a.example", "is not an origin such as"),
        ("STOREKEEP_GATEWAY_CORS_ORIGINS", "*", "is not an origin such as"),
        ("STOREKEEP_GATEWAY_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8", "by spaces, without commas"),
        ("STOREKEEP_GATEWAY_OIDC_SCOPES", "openid profile,email", "by spaces, without commas"),
    ],
)
def test_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=problem):
        load_settings()


def test_origins_are_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = ("https://shop.example", "http://localhost:3000", "http://[::1]:8080")
    monkeypatch.setenv("STOREKEEP_GATEWAY_CORS_ORIGINS", " ".join(origins))
    assert load_settings().cors_origins == origins


@pytest.mark.parametrize(
    ("environment", "code", "text"),
    [
        ({"STOREKEEP_GATEWAY_NOPE": "1"}, 2, "storekeep-gateway: STOREKEEP_GATEWAY_NOPE: no such setting"),
        ({"STOREKEEP_HTTP_LISTEN": "127.0.0.1:{port}"}, 1, "address already in use"),
        ({"STOREKEEP_GATEWAY_TLS_CERTIFICATE_FILE": "a", "STOREKEEP_GATEWAY_TLS_PRIVATE_KEY_FILE": "b"}, 1, "a"),
    ],
)
def test_start_that_fails_says_why_in_one_line(
    gateway: GatewayProcess, environment: dict[str, str], code: int, text: str
) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")}
    port = str(gateway.address[1])
    named = {name: value.format(port=port) for name, value in environment.items()}
    base = {"STOREKEEP_HTTP_LISTEN": "127.0.0.1:0"}
    done = run_fork([COMMAND, "serve"], environment=inherited | base | named, timeout_s=TIMEOUT_S)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
