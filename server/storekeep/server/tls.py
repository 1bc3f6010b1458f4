"""TLS from files, read again when they change: each handshake has the newest pair that is sound.

A new pair that is not sound, such as a certificate whose key is still to come, is logged, and the old one stays.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from storekeep.server.config import Settings

log = logging.getLogger("storekeep.tls")


class UnusableCertificate(Exception):
    """The TLS files cannot be used as they are."""


@dataclass(frozen=True, slots=True)
class _Files:
    certificate: Path
    private_key: Path
    client_ca: Path | None

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file is written or replaced."""
        stats = [path.stat() for path in (self.certificate, self.private_key, self.client_ca) if path]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def tls_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What the port needs to speak TLS; None for plaintext.

    Raises: UnusableCertificate.
    """
    if settings.tls_certificate_file is None or settings.tls_private_key_file is None:
        return None
    files = _Files(settings.tls_certificate_file, settings.tls_private_key_file, settings.tls_client_ca_file)
    fetcher = _Fetcher(files)
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        fetcher.first,
        fetcher,  # type: ignore[arg-type]  # the stubs forget that None means "as before"
        require_client_authentication=files.client_ca is not None,
    )
    return credentials


class _Fetcher:
    """What gRPC calls at each handshake: None while nothing changed."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        try:
            self._stamp = files.stamp()
        except OSError as error:
            raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
        self.first = _read(files)

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            configuration = _read(self._files)
        except (OSError, UnusableCertificate) as error:
            log.error("the new TLS files cannot be used; the old ones stay", extra={"problem": str(error)})
            return None
        log.info("TLS files were read again")
        return configuration


def _read(files: _Files) -> grpc.ServerCertificateConfiguration:
    """The files' content, once it is sure that gRPC can use it.

    Raises: UnusableCertificate.
    """
    try:
        certificate = files.certificate.read_bytes()
        private_key = files.private_key.read_bytes()
        client_ca = files.client_ca.read_bytes() if files.client_ca else None
    except OSError as error:
        raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
    _check_pair(files, certificate, private_key)
    if client_ca is not None:
        _parse_certificates(files.client_ca, client_ca)
    return grpc.ssl_server_certificate_configuration([(private_key, certificate)], root_certificates=client_ca)


def _check_pair(files: _Files, certificate: bytes, private_key: bytes) -> None:
    leaf = _parse_certificates(files.certificate, certificate)[0]
    try:
        key = load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableCertificate(f"{files.private_key}: no PEM private key without a password") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise UnusableCertificate(f"{files.private_key} is not the key of {files.certificate}")


def _parse_certificates(path: Path | None, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UnusableCertificate(f"{path}: no PEM certificates") from None
