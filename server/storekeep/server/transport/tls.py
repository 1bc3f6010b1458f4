"""TLS credentials from files, reloaded when they change: each handshake uses the newest valid pair.

An invalid new pair, such as a certificate whose key is not written yet, is logged, and the old pair stays in use.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from storekeep.server.config import Settings
from storekeep.server.runtime.file_modes import ExposedFile, read_private_file
from storekeep.server.runtime.input_files import read_regular_file

RELOAD_INTERVAL_S = 1.0
"""Interval at which the revocation list file is checked for changes."""
CERTIFICATES_KNOWN_MAX = 10_000
"""Client certificates whose revocation status is cached; each takes about 1 KiB."""
PEM_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)

log = logging.getLogger("storekeep.tls")


class UnusableCertificate(Exception):
    """The TLS files cannot be read or are invalid."""


@dataclass(frozen=True, slots=True)
class _Files:
    certificate: Path
    private_key: Path
    client_ca: Path | None

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Return a value that changes when a file is written or replaced."""
        stats = [path.stat() for path in (self.certificate, self.private_key, self.client_ca) if path]
        return tuple((stat.st_ino, stat.st_ctime_ns, stat.st_size) for stat in stats)


def load_tls_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the TLS credentials of the port; None for plaintext.

    Raises: UnusableCertificate.
    """
    if settings.tls_certificate_file is None or settings.tls_private_key_file is None:
        return None
    files = _Files(settings.tls_certificate_file, settings.tls_private_key_file, settings.tls_client_ca_file)
    fetcher = _Fetcher(files)
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        fetcher.first,
        fetcher,  # type: ignore[arg-type]  # the stubs omit None, which means "unchanged"
        require_client_authentication=files.client_ca is not None,
    )
    return credentials


class RevokedCertificates:
    """Checks client certificates against revocation lists (CRL), which are reloaded when their file changes.

    If the new file is invalid or missing, this is logged and the old lists stay in force.

    Args:
        file: one or more PEM revocation lists.

    Raises: UnusableCertificate.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._checked_s = time.monotonic()
        self._known: dict[bytes, bool] = {}
        self._stamp = self._read_stamp()
        if self._stamp is None:
            raise UnusableCertificate(f"{file}: cannot be read")
        self._revoked = _read_revoked(file)

    def __call__(self, pem: bytes) -> bool:
        """Return whether a PEM certificate is revoked."""
        if time.monotonic() - self._checked_s >= RELOAD_INTERVAL_S:
            self._reload_if_changed()
        known = self._known.get(pem)
        return self._check_certificate(pem) if known is None else known

    def _check_certificate(self, pem: bytes) -> bool:
        certificate = x509.load_pem_x509_certificate(pem)
        with self._lock:
            revoked = (certificate.issuer, certificate.serial_number) in self._revoked
            if len(self._known) >= CERTIFICATES_KNOWN_MAX:
                self._known.clear()
            self._known[pem] = revoked
        return revoked

    def _reload_if_changed(self) -> None:
        """Read the lists again if the file has changed."""
        with self._lock:
            self._checked_s = time.monotonic()
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._revoked = _read_revoked(self._file)
            except UnusableCertificate as error:
                log.error(
                    "the new list of revoked certificates cannot be used; the old one stays",
                    extra={"problem": str(error)},
                )
                return
            self._known.clear()
            log.info("reloaded the list of revoked certificates", extra={"certificates": len(self._revoked)})

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns, status.st_size


def _read_revoked(file: Path) -> frozenset[tuple[x509.Name, int]]:
    """Return the issuer and serial number of each certificate in the lists of a file.

    Raises: UnusableCertificate.
    """
    return frozenset((crl.issuer, entry.serial_number) for crl in read_revocation_lists(file) for entry in crl)


def read_revocation_lists(file: Path) -> list[x509.CertificateRevocationList]:
    """Return the lists of a file, at least one.

    Raises: UnusableCertificate.
    """
    try:
        lists = [x509.load_pem_x509_crl(pem) for pem in PEM_LIST.findall(read_regular_file(file))]
    except OSError as error:
        raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
    except ValueError:
        lists = []
    if not lists:
        raise UnusableCertificate(f"{file}: contains no PEM list of revoked certificates (X509 CRL)")
    return lists


class _Fetcher:
    """Callback of gRPC at each handshake. Returns new credentials, or None if the files have not changed."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        try:
            self._stamp = files.stamp()
        except OSError as error:
            raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
        self.first = _read_files(files)

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            configuration = _read_files(self._files)
        except (OSError, UnusableCertificate) as error:
            log.error("the new TLS files cannot be used; the old ones stay", extra={"problem": str(error)})
            return None
        log.info("reloaded the TLS files")
        return configuration


def _read_files(files: _Files) -> grpc.ServerCertificateConfiguration:
    """Return the content of the files after validating it.

    Raises: UnusableCertificate.
    """
    try:
        private_key = read_private_file(files.private_key)
        certificate = read_regular_file(files.certificate)
        client_ca = read_regular_file(files.client_ca) if files.client_ca else None
    except OSError as error:
        raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
    except ExposedFile as error:
        raise UnusableCertificate(str(error)) from None
    _check_pair(files, certificate, private_key)
    if client_ca is not None:
        _parse_certificates(files.client_ca, client_ca)
    return grpc.ssl_server_certificate_configuration([(private_key, certificate)], root_certificates=client_ca)


def _check_pair(files: _Files, certificate: bytes, private_key: bytes) -> None:
    leaf = _parse_certificates(files.certificate, certificate)[0]
    try:
        key = load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableCertificate(f"{files.private_key}: contains no PEM private key without a password") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise UnusableCertificate(f"{files.private_key} is not the key of {files.certificate}")


def _parse_certificates(path: Path | None, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UnusableCertificate(f"{path}: contains no PEM certificates") from None


def read_server_names(path: Path) -> list[str]:
    """Return the host names and addresses of a certificate file, without wildcards; empty if it has none.

    Raises: OSError, ValueError.
    """
    leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if "*" not in str(name.value)]


def allows_usage(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    """Return whether a certificate's extended key usage allows a usage. Without the extension, any usage is allowed."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages
