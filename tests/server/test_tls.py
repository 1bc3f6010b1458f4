"""TLS with real certificates: served, demanded of clients, and read again while it serves."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.client import Storekeep, Tls
from tests.conftest import MakeServer
from tests.processes import ServerProcess, run_command

NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM files."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True)
class Authority:
    """Somebody who issues certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    file: Path


def _builder(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(hours=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )


def make_authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(name, key, issuer).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    file = folder / f"{name}.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(certificate, key, file)


def issue(folder: Path, name: str, *, by: Authority) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(IPv4Address("127.0.0.1"))])
    builder = _builder(name, key, by.certificate.subject).add_extension(names, critical=False)
    certificate = builder.sign(by.key, hashes.SHA256())
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    identity.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    identity.private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return identity


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "authority")


@pytest.fixture
def identity(tmp_path: Path, authority: Authority) -> Identity:
    return issue(tmp_path, "localhost", by=authority)


def tls_settings(identity: Identity) -> dict[str, str]:
    return {
        "tls_certificate_file": str(identity.certificate),
        "tls_private_key_file": str(identity.private_key),
    }


def is_trusted(server: ServerProcess, authority: Authority) -> bool:
    """Whether a new connection that trusts this authority alone gets an answer."""
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
        with Storekeep(server.address, api_key=server.admin_key, tls=tls, timeout_s=5) as client:
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
