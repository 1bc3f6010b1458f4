"""Checks of the host: files and their modes, the secret, free disk, the clock, and certificates."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.process.doctor.findings import Finding, Installation, Severity, quote
from storekeep.server.process.inspections import (
    inspect_admin_key,
    inspect_certificates,
    inspect_files,
    inspect_listeners,
    inspect_revocation_lists,
)
from storekeep.server.process.signals import STARTUP_ERRORS, describe_error
from storekeep.server.runtime.file_modes import check_data_dir
from storekeep.server.runtime.secrets import (
    SERVER_SECRET,
    KmsFailed,
    SecretFiles,
    WeakSecret,
    load_secrets,
)
from storekeep.server.store.urls import parse_sqlite_path
from storekeep.server.transport.tls import UnusableCertificate, load_tls_credentials
from storekeep.server.wiring.data_keys import make_kek_files

MIB = 1024 * 1024
FREE_BYTES_MIN = 128 * MIB
"""Free disk below which writes will soon fail with STORAGE_FULL."""
FREE_BYTES_NOTICE = 1024 * MIB
"""Smallest free disk without a warning; more if the database is larger, because backup and restore copy it."""
TIME_ERROR = 5
"""What adjtimex(2) returns for a clock that no time service keeps."""
CREATED_BY_THE_FIRST_START = "the first start of a new installation creates it"
"""Why a key may be absent; wrong if the database has data that needs the key."""
TIMEX_BYTES = 512
"""More than the size of `struct timex`. Zeroed, it asks for nothing to be changed."""


def has_no_room(folder: Path) -> bool:
    """Return whether nothing can be written to a file system: it is full or read-only."""
    status = os.statvfs(folder)
    return bool(status.f_flag & os.ST_RDONLY) or status.f_bavail * status.f_frsize < MIB


def check_files(installation: Installation) -> Iterator[Finding]:
    """Check the data directory and who may use private files."""
    data_dir = installation.settings.data_dir
    if not data_dir.is_dir():
        why = "the server keeps its secret, and on SQLite its database, in it"
        yield Finding("files", Severity.ERROR, f"{data_dir} is no directory", why, "storekeep-server migrate")
        return
    if os.statvfs(data_dir).f_flag & os.ST_RDONLY:
        what, remedy = f"{data_dir} is on a read-only file system", f"mount -o remount,rw {quote(data_dir)}; see dmesg"
        yield Finding("files", Severity.ERROR, what, "the server does not start, or its changes fail", remedy)
    elif not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        owner = data_dir.stat().st_uid
        what = f"this user ({os.geteuid()}) cannot write to {data_dir}, which belongs to user {owner}"
        remedy = f"run this command as the server's user, or: chown {os.geteuid()} {quote(data_dir)}"
        yield Finding("files", Severity.ERROR, what, "the server cannot start as this user", remedy)
    with contextlib.suppress(OSError):
        yield from _check_data_dir(data_dir)
    why = "anyone who reads a private file can act as the server or as its administrator"
    yield from _convert("files", inspect_files(installation.loaded), why, "give the file to the server's user")


def _check_data_dir(data_dir: Path) -> Iterator[Finding]:
    try:
        check_data_dir(data_dir)
    except STARTUP_ERRORS as error:
        what, _, remedy = describe_error(error).partition("; run: ")
        yield Finding("files", Severity.ERROR, what, "the server does not start in such a directory", remedy)


def check_listeners(installation: Installation) -> Iterator[Finding]:
    """Check which addresses are open without TLS."""
    why = "anyone who reaches the address reads keys or sales figures"
    yield from _convert("listeners", inspect_listeners(installation.settings), why, "limit access with a firewall")


def check_certificates(installation: Installation) -> Iterator[Finding]:
    """Check that the TLS files work together and how long they are valid."""
    try:
        load_tls_credentials(installation.settings)
    except (UnusableCertificate, OSError, ValueError) as error:
        why = "the server does not start, or keeps the previous pair"
        remedy = "mend the file that the message names, or correct STOREKEEP_TLS_*"
        yield Finding("certificates", Severity.ERROR, describe_error(error), why, remedy)
    why_late = "certificates that were revoked since are accepted"
    yield from _convert("certificates", inspect_revocation_lists(installation.settings), why_late, "")
    why = "clients refuse a certificate that has expired or has the wrong usage"
    for finding in _convert("certificates", inspect_certificates(installation.settings), why, ""):
        is_broken = "expired at" in finding.what or "not for servers" in finding.what
        severity = Severity.ERROR if is_broken else Severity.WARNING
        remedy = finding.remedy or "renew the certificate, such as with: certbot renew. The server reloads the file"
        yield Finding(finding.area, severity, finding.what, finding.why, remedy)


def explain_absent_certificates(installation: Installation) -> str:
    """Return why there are no TLS files to check; empty if TLS is on."""
    return "" if installation.settings.uses_tls else "TLS is off"


def check_admin_key(installation: Installation) -> Iterator[Finding]:
    """Check whether the first administrator's key still lies in the data directory."""
    why = "the file gives full access to anyone who can read the data directory or a copy of it"
    yield from _convert("admin key", inspect_admin_key(installation.settings), why, "storekeep-server config check")


def _convert(area: str, lines: Iterator[str], why: str, remedy: str) -> Iterator[Finding]:
    """Yield warnings for the lines of an inspection, whose remedy follows a semicolon."""
    for line in lines:
        what, _, own_remedy = line.partition("; ")
        yield Finding(area, Severity.WARNING, what, why, own_remedy.removeprefix("run: ") or remedy)


def check_secret(installation: Installation) -> Iterator[Finding]:
    """Check that the secret can be used, and that no rotation was forgotten."""
    settings = installation.settings
    yield from _check_key("secret", settings, SERVER_SECRET, settings.configured_secrets, "rotate-secret")


def check_kek(installation: Installation) -> Iterator[Finding]:
    """Check that the key-encryption key can be used, and that no rotation was forgotten."""
    settings = installation.settings
    yield from _check_key("kek", settings, make_kek_files(settings), settings.configured_keks, "rotate-kek")


def _check_key(
    area: str, settings: Settings, files: SecretFiles, configured: tuple[bytes, ...], command: str
) -> Iterator[Finding]:
    path = settings.data_dir / files.current
    try:
        load_secrets(configured, data_dir=settings.data_dir, files=files)
    except FileNotFoundError:
        what = f"{path} does not exist yet"
        yield Finding(area, Severity.WARNING, what, CREATED_BY_THE_FIRST_START, "storekeep-server serve")
    except WeakSecret as error:
        why, remedy = "the server does not start with it", f"restore {quote(path)} from its backup"
        yield Finding(area, Severity.ERROR, describe_error(error), why, remedy)
    except KmsFailed as error:
        remedy = "check that the service runs, STOREKEEP_KMS_URL, STOREKEEP_KMS_KEY and the token"
        yield Finding(area, Severity.ERROR, str(error), "the server does not start without it", remedy)
    except STARTUP_ERRORS as error:
        what, _, remedy = describe_error(error).partition("; run: ")
        remedy = remedy or f"mend what the message names, or restore {quote(path)} from its backup"
        yield Finding(area, Severity.ERROR, what, "the server does not start with it", remedy)
    if len(configured) > 1 or (settings.data_dir / files.previous).exists():
        what = f"a rotation of the {'secret' if area == 'secret' else 'key-encryption key'} is not finished"
        why = "the previous one is still valid until then"
        yield Finding(area, Severity.WARNING, what, why, f"storekeep-server {command} --finish")


def check_disk(installation: Installation) -> Iterator[Finding]:
    """Check the free space of the disks that the server writes to."""
    settings = installation.settings
    database = parse_sqlite_path(settings.database)
    needed_bytes = FREE_BYTES_NOTICE
    folders = {settings.data_dir}
    if database is not None and database.is_file():
        folders.add(database.parent)
        needed_bytes = max(needed_bytes, 2 * database.stat().st_size)
    if settings.log_file is not None:
        folders.add(settings.log_file.parent)
    if settings.backups_dir.is_dir():
        folders.add(settings.backups_dir)
    for folder in sorted(folder for folder in folders if folder.is_dir()):
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes >= needed_bytes:
            continue
        severity = Severity.ERROR if free_bytes < FREE_BYTES_MIN else Severity.WARNING
        what = f"{free_bytes // MIB} MiB are free for {folder}"
        why = "writes fail with STORAGE_FULL when the disk is full; a backup needs the size of the database"
        yield Finding("disk", severity, what, why, f"free {needed_bytes // MIB} MiB, or move {quote(folder)}")


def check_clock(_installation: Installation) -> Iterator[Finding]:
    """Check whether a time service keeps the clock of this host."""
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)) == TIME_ERROR:
        why = "tokens, expiries and audit entries use the clock; hosts whose clocks differ refuse each other's tokens"
        what = "no time service keeps this host's clock, or the kernel does not know of it"
        yield Finding("clock", Severity.WARNING, what, why, "timedatectl set-ntp true, or install chrony")
