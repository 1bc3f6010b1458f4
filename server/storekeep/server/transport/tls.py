"""TLS from files, read again when they change: each handshake has the newest pair that is sound.

A new pair that is not sound, such as a certificate whose key is still to come, is logged, and the old one stays.
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
from storekeep.server.runtime.file_modes import ExposedFile, require_private

LOOK_INTERVAL_S = 1.0
"""How often the file of revoked certificates is looked at."""
CERTIFICATES_KNOWN_MAX = 10_000
"""Client certificates whose judgement is remembered; one takes about 1 KiB."""
PEM_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)

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
        return tuple((stat.st_ino, stat.st_ctime_ns, stat.st_size) for stat in stats)


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


class RevokedCertificates:
    """Tells which client certificates were revoked, by lists (CRL) that are read again when they change.

    A new file that is not sound, or gone, is logged, and the old lists stay in force.

    Args:
        file: PEM lists, one behind the other.

    Raises: UnusableCertificate.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._looked_s = time.monotonic()
        self._known: dict[bytes, bool] = {}
        self._stamp = self._read_stamp()
        if self._stamp is None:
            raise UnusableCertificate(f"{file}: cannot be read")
        self._revoked = _read_revoked(file)

    def __call__(self, pem: bytes) -> bool:
        """Return whether a certificate is in the lists."""
        if time.monotonic() - self._looked_s >= LOOK_INTERVAL_S:
            self._look()
        known = self._known.get(pem)
        return self._judge(pem) if known is None else known

    def _judge(self, pem: bytes) -> bool:
        certificate = x509.load_pem_x509_certificate(pem)
        with self._lock:
            revoked = (certificate.issuer, certificate.serial_number) in self._revoked
            if len(self._known) >= CERTIFICATES_KNOWN_MAX:
                self._known.clear()
            self._known[pem] = revoked
        return revoked

    def _look(self) -> None:
        """Read the lists again where the file has changed."""
        with self._lock:
            self._looked_s = time.monotonic()
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
            log.info("the list of revoked certificates was read again", extra={"certificates": len(self._revoked)})

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_ctime_ns, found.st_size


def _read_revoked(file: Path) -> frozenset[tuple[x509.Name, int]]:
    """Return issuer and serial number of every certificate in the lists of a file.

    Raises: UnusableCertificate.
    """
    try:
        lists = [x509.load_pem_x509_crl(pem) for pem in PEM_LIST.findall(file.read_bytes())]
    except OSError as error:
        raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
    except ValueError:
        lists = []
    if not lists:
        raise UnusableCertificate(f"{file}: no PEM list of revoked certificates (X509 CRL)")
    return frozenset((crl.issuer, entry.serial_number) for crl in lists for entry in crl)


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
        require_private(files.private_key)
        certificate = files.certificate.read_bytes()
        private_key = files.private_key.read_bytes()
        client_ca = files.client_ca.read_bytes() if files.client_ca else None
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
        raise UnusableCertificate(f"{files.private_key}: no PEM private key without a password") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise UnusableCertificate(f"{files.private_key} is not the key of {files.certificate}")


def _parse_certificates(path: Path | None, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UnusableCertificate(f"{path}: no PEM certificates") from None


def allows_usage(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    """Return whether a certificate is for this use: by its extended key usage, and for any without one."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages
