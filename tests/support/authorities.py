"""Certificate authorities for tests: they issue and revoke server and client certificates of any usage and lifetime."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVERS = ExtendedKeyUsageOID.SERVER_AUTH
CLIENTS = ExtendedKeyUsageOID.CLIENT_AUTH
CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""The usage of an authority's key: certificates and revocation lists."""
NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM files."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    file: Path


def _builder(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    *,
    signed_by: ec.EllipticCurvePrivateKey,
    ends: datetime.timedelta = datetime.timedelta(days=60),
) -> x509.CertificateBuilder:
    return (  # Python 3.13 verifies as RFC 5280 says: without the identifiers of both keys, no certificate is valid
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=90))
        .not_valid_after(NOW + ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
    )


def make_authority(folder: Path, name: str) -> Authority:
    """Create an authority and write its certificate as a PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(name, key, issuer, signed_by=key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.add_extension(CERTIFICATES, critical=True).sign(key, hashes.SHA256())
    file = folder / f"{name}.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(certificate, key, file)


def issue(
    folder: Path,
    name: str,
    *,
    by: Authority,
    usages: Sequence[x509.ObjectIdentifier] = (),
    ends: datetime.timedelta = datetime.timedelta(days=1),
) -> Identity:
    """Issue a certificate for a name and 127.0.0.1.

    Args:
        usages: Extended key usages; empty for all.
        ends: Validity from now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(IPv4Address("127.0.0.1"))])
    builder = _builder(name, key, by.certificate.subject, signed_by=by.key, ends=ends).add_extension(
        names, critical=False
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    certificate = builder.sign(by.key, hashes.SHA256())
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    identity.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    identity.private_key.touch(mode=0o600)
    identity.private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return identity


def tls_settings(identity: Identity) -> dict[str, str]:
    """Return the settings of a server with this certificate."""
    return {
        "tls_certificate_file": str(identity.certificate),
        "tls_private_key_file": str(identity.private_key),
    }


def revoke(folder: Path, identity: Identity, *, by: Authority) -> Path:
    """Write a certificate revocation list with this certificate."""
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(NOW).build()
    return write_revoked(folder, [revoked], by=by)


def write_revoked(
    folder: Path,
    revoked: Sequence[x509.RevokedCertificate],
    *,
    by: Authority,
    begins: datetime.datetime = NOW,
) -> Path:
    """Write a certificate revocation list that is to be replaced after a day; replace the previous one."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(by.certificate.subject)
    builder = builder.last_update(begins).next_update(begins + datetime.timedelta(days=1))
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    file, draft = folder / "revoked.pem", folder / "revoked.new"
    draft.write_bytes(builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return draft.replace(file)
