"""Obstacles: what would keep `serve` from starting or from its backups, with valid settings, found without starting it.

Each is one line, in the words of `serve`. Only what depends on a running server is not checked: locks and taken ports.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from storekeep.server.config import UNIX, LoadedSettings, Settings
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.process.signals import STARTUP_ERRORS, describe_error, pin_to_core
from storekeep.server.runtime.file_modes import check_data_dir
from storekeep.server.runtime.input_files import open_regular_file
from storekeep.server.runtime.ports import AddressTaken, find_free_addresses
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import check_schema
from storekeep.server.store.urls import parse_sqlite_path
from storekeep.server.telemetry.logs import open_log_file
from storekeep.server.transport.tls import RevokedCertificates, load_tls_credentials
from storekeep.server.wiring.data_keys import check_data_keys
from storekeep.server.wiring.keyrings import read_keyring
from storekeep.server.wiring.otel import check_otel


def find_obstacles(loaded: LoadedSettings) -> list[str]:
    """Return a line for each check that fails, in the order of `serve`. Leaves nothing behind."""
    settings = loaded.settings
    checks: tuple[Callable[[Settings], object], ...] = (
        _check_cpu,
        _check_data_dir,
        _check_log_file,
        check_backup_dir,
        load_tls_credentials,
        _check_revocation_lists,
        check_otel,
        _check_database_and_secret,
    )
    obstacles = []
    for check in checks:
        try:
            check(settings)
        except STARTUP_ERRORS as error:
            obstacles.append(describe_error(error))
    return [*obstacles, *_check_addresses(settings)]


def _check_cpu(settings: Settings) -> None:
    """Raise OSError if the process cannot be pinned to its core."""
    if settings.pin_cpu is None:
        return
    before, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    try:
        pin_to_core(settings.pin_cpu)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"the core {settings.pin_cpu} (STOREKEEP_PIN_CPU)") from None
    finally:
        os.sched_setaffinity(0, before)
        os.sched_setscheduler(0, policy, os.sched_param(0))


def _check_data_dir(settings: Settings) -> None:
    """Raise ExposedFile or OSError if the data directory cannot be used or created."""
    _require_writable_dir(settings.data_dir)
    if settings.data_dir.exists():
        check_data_dir(settings.data_dir)


def _check_log_file(settings: Settings) -> None:
    """Raise OSError if the log file cannot be appended to or created."""
    if settings.log_file is None:
        return
    if settings.log_file.exists():
        os.close(open_log_file(settings.log_file))
    else:
        _require_writable_dir(settings.log_file.parent)


def check_backup_dir(settings: Settings) -> None:
    """Raise OSError if backups of a SQLite database are configured and their directory cannot be used or created."""
    is_configured = settings.backup_dir or settings.backup_interval_s or settings.backup_time
    if not is_configured or parse_sqlite_path(settings.database) is None:
        return
    try:
        _require_writable_dir(settings.backups_dir)
    except OSError as error:
        folder = f"{error.filename} (for STOREKEEP_BACKUP_DIR={settings.backups_dir})"
        raise OSError(error.errno, error.strerror, folder) from None


def _require_writable_dir(path: Path) -> None:
    """Raise OSError unless a directory exists and can be written to, or can be created."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise NotADirectoryError(None, "Not a directory", str(existing))
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(None, "Permission denied", str(existing))
    try:  # root passes the check above even where nothing can be created, such as in /proc
        os.rmdir(tempfile.mkdtemp(prefix=".storekeep-", dir=existing))
    except OSError as error:
        raise OSError(error.errno, "Nothing can be created in it", str(existing)) from None


def _check_revocation_lists(settings: Settings) -> None:
    if settings.tls_client_crl_file is not None:
        RevokedCertificates(settings.tls_client_crl_file)


def _check_database_and_secret(settings: Settings) -> None:
    """Raise one of `STARTUP_ERRORS` if the database or the secret cannot be used, or they do not belong together."""
    try:
        keyring = read_keyring(settings)
    except FileNotFoundError:  # `serve` creates one
        keyring = Keyring.from_secret(secrets.token_bytes())
    path = parse_sqlite_path(settings.database)
    if path is not None and path.exists():
        os.close(open_regular_file(path))
    check_schema(settings.database)
    with closing(open_store(settings.database, limits=replace(settings.database_limits, pool_size=1))) as store:
        store.read(keyring.read_current)
        check_data_keys(settings, store)


def _check_addresses(settings: Settings) -> Iterator[str]:
    """Yield a line for each address that is not of this machine. Whether its port is free does not matter."""
    for name in ("listen", "metrics_listen"):
        address: str = getattr(settings, name)
        if not address or address.startswith(UNIX):
            continue
        try:
            find_free_addresses(f"{address.rpartition(':')[0]}:0")
        except AddressTaken:
            yield f"STOREKEEP_{name.upper()}: {address} is not an address of this machine"
