"""Checks of the host: files and their modes, the secret, free disk, the clock, and certificates."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from storekeep.server.process.doctor.findings import Finding, Installation, Severity, quote
from storekeep.server.process.inspections import (
    inspect_admin_key,
    inspect_certificates,
    inspect_files,
    inspect_listeners,
)
from storekeep.server.process.signals import STARTUP_ERRORS, describe_error
from storekeep.server.runtime.file_modes import check_data_dir
from storekeep.server.runtime.secrets import PREVIOUS_FILE, SECRET_FILE, WeakSecret, load_secrets
from storekeep.server.store.urls import parse_sqlite_path
from storekeep.server.transport.tls import UnusableCertificate, load_tls_credentials

MIB = 1024 * 1024
FREE_BYTES_MIN = 128 * MIB
"""Free disk below which writes will soon fail with STORAGE_FULL."""
FREE_BYTES_NOTICE = 1024 * MIB
"""Smallest free disk without a warning; more if the database is larger, because backup and restore copy it."""
TIME_ERROR = 5
"""What adjtimex(2) returns for a clock that no time service keeps."""
TIMEX_BYTES = 512
"""More than the size of `struct timex`. Zeroed, it asks for nothing to be changed."""


def check_files(installation: Installation) -> Iterator[Finding]:
    """Check the data directory and who may use private files."""
    data_dir = installation.settings.data_dir
    if not data_dir.is_dir():
        why = "the server keeps its secret, and on SQLite its database, in it"
        yield Finding("files", Severity.ERROR, f"{data_dir} is no directory", why, "storekeep-server migrate")
        return
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
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
        why, remedy = "the server does not start, or keeps the previous pair", "storekeep-server config check"
        yield Finding("certificates", Severity.ERROR, describe_error(error), why, remedy)
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
    path = settings.data_dir / SECRET_FILE
    try:
        load_secrets(settings.configured_secrets, data_dir=settings.data_dir)
    except FileNotFoundError:
        what, why = f"{path} does not exist yet", "the first start of a new installation creates it"
        yield Finding("secret", Severity.WARNING, what, why, "storekeep-server serve")
    except WeakSecret as error:
        why, remedy = "the server does not start with it", f"restore {quote(path)} from its backup"
        yield Finding("secret", Severity.ERROR, describe_error(error), why, remedy)
    except STARTUP_ERRORS as error:
        what, _, remedy = describe_error(error).partition("; run: ")
        yield Finding("secret", Severity.ERROR, what, "the server does not start with it", remedy or "see the message")
    if settings.secret_previous.get_secret_value() or (settings.data_dir / PREVIOUS_FILE).exists():
        what = "a rotation of the secret is not finished"
        why = "the previous secret is still valid until then"
        yield Finding("secret", Severity.WARNING, what, why, "storekeep-server rotate-secret --finish")


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
