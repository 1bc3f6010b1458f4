"""Inspections of valid settings: file permissions, expiring certificates and open listeners.

Each finding is one line that says what to do. Inspections change nothing and never keep a server from starting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from storekeep.server.config import NON_FILE_ORIGINS, LoadedSettings, Settings
from storekeep.server.domain.access.api_keys import count_other_keys, parse_lookup_id
from storekeep.server.domain.access.roles import ADMIN
from storekeep.server.process.console import ADMIN_KEY_FILE
from storekeep.server.process.signals import STARTUP_ERRORS
from storekeep.server.runtime.file_modes import ROOT, find_exposure
from storekeep.server.runtime.input_files import read_regular_file
from storekeep.server.runtime.ports import is_loopback
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import check_schema
from storekeep.server.store.urls import parse_sqlite_path
from storekeep.server.transport.tls import UnusableCertificate, allows_usage, read_revocation_lists

EXPIRY_NOTICE = timedelta(days=30)
"""Warn this long before a certificate expires: when 90-day certificates of Let's Encrypt are due for renewal."""
FILES_MAX = 1_000
"""Maximum number of files of the data directory to inspect."""


def inspect(loaded: LoadedSettings) -> list[str]:
    """Return every finding, the most severe first."""
    settings = loaded.settings
    return [
        *inspect_listeners(settings),
        *inspect_files(loaded),
        *inspect_certificates(settings),
        *inspect_revocation_lists(settings),
        *inspect_admin_key(settings),
    ]


def inspect_listeners(settings: Settings) -> Iterator[str]:
    """Yield a finding for each listener that is open to more than it should be."""
    unix = settings.listen.startswith("unix")
    if not (settings.uses_tls or unix or is_loopback(settings.listen)):
        yield f"STOREKEEP_LISTEN: {settings.listen} is plaintext; only a proxy that terminates TLS should reach it"
    if settings.metrics_listen and not is_loopback(settings.metrics_listen):
        yield f"STOREKEEP_METRICS_LISTEN: {settings.metrics_listen} is open; only your monitoring should reach it"


def inspect_files(loaded: LoadedSettings) -> Iterator[str]:
    """Yield a finding for each private file that others can use or own."""
    for path in _find_private_files(loaded):
        try:
            exposure = find_exposure(path)
            owner = path.stat().st_uid
            server = loaded.settings.data_dir.stat().st_uid if loaded.settings.data_dir.is_dir() else owner
        except OSError as error:
            yield f"{path}: {error.strerror}"
            continue
        if exposure:
            yield exposure
        if owner not in (ROOT, server):
            yield f"{path} belongs to user {owner}, not to the owner of {loaded.settings.data_dir}"


def _find_private_files(loaded: LoadedSettings) -> list[Path]:
    """Return paths that only the server should read: data directory, backups, files, keys, settings with secrets."""
    settings = loaded.settings
    paths = [settings.data_dir, *sorted(settings.data_dir.glob("*"))[:FILES_MAX]] if settings.data_dir.is_dir() else []
    database = parse_sqlite_path(settings.database)
    if database is not None:
        paths += [path for path in (database, database.with_name(f"{database.name}-wal")) if path.exists()]
        paths += [settings.backups_dir, *sorted(settings.backups_dir.glob("storekeep-*"))[:FILES_MAX]]
    paths += [path for path in (settings.tls_private_key_file, settings.kms_token_file) if path is not None]
    for name in ("secret", "secret_previous", "kek", "kek_previous", "database_url", "database_replica_urls"):
        if loaded.origins[name] not in NON_FILE_ORIGINS:
            paths.append(Path(loaded.origins[name]))
    folders = (settings.data_dir, settings.backups_dir)
    private = [path for path in paths if path.is_file() or (path in folders and path.is_dir())]
    return list(dict.fromkeys(private))


def inspect_certificates(settings: Settings) -> Iterator[str]:
    """Yield a finding for each certificate that clients reject, now or soon."""
    for name in ("tls_certificate_file", "tls_client_ca_file"):
        path: Path | None = getattr(settings, name)
        if path is None:
            continue
        try:
            certificates = x509.load_pem_x509_certificates(read_regular_file(path))
        except (OSError, ValueError):
            continue  # `obstacles` reports it
        for certificate in certificates:
            yield from _inspect_lifetime(path, certificate)
        if name == "tls_certificate_file" and not allows_usage(certificates[0], ExtendedKeyUsageOID.SERVER_AUTH):
            yield f"{path}: the certificate is not for servers (extended key usage), so clients reject it"


def _inspect_lifetime(path: Path, certificate: x509.Certificate) -> Iterator[str]:
    now, end = datetime.now(UTC), certificate.not_valid_after_utc
    subject = certificate.subject.rfc4514_string()
    if end < now:
        yield f"{path}: {subject} expired at {end:%Y-%m-%d %H:%M:%SZ}"
    elif end < now + EXPIRY_NOTICE:
        yield f"{path}: {subject} expires at {end:%Y-%m-%d %H:%M:%SZ}"
    if certificate.not_valid_before_utc > now:
        yield f"{path}: {subject} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%SZ}"


def inspect_revocation_lists(settings: Settings) -> Iterator[str]:
    """Yield a finding for each list of revoked certificates that should have been replaced by now."""
    path = settings.tls_client_crl_file
    if path is None:
        return
    with contextlib.suppress(UnusableCertificate):  # `obstacles` reports it
        for crl in read_revocation_lists(path):
            end = crl.next_update_utc
            if end is not None and end < datetime.now(UTC):
                issuer = crl.issuer.rfc4514_string()
                yield f"{path}: the list of {issuer} was to be replaced by {end:%Y-%m-%d %H:%M:%SZ}; openssl ca -gencrl"


def inspect_admin_key(settings: Settings) -> Iterator[str]:
    """Yield a finding if `admin.key` still exists although another administrator has a key."""
    path = settings.data_dir / ADMIN_KEY_FILE
    if not path.is_file():
        return
    try:
        lookup_id = parse_lookup_id(path.read_text().strip())
        check_schema(settings.database)
        with closing(open_store(settings.database, limits=settings.database_limits)) as store:
            others = count_other_keys(store, lookup_id, role_id=ADMIN)
    except STARTUP_ERRORS:
        yield f"{path} still exists, and the database does not tell whether it is needed; mend the database first"
        return
    if others:
        yield f"{path}: still exists although other administrators have keys; move it to your secret store"
