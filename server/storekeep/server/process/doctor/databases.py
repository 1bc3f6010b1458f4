"""Checks of the database: reachable, migrated, known secret, log, replicas, and PostgreSQL's settings."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator

from storekeep.server.domain.audit.checkpoints import find_latest_checkpoint
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.process.doctor.findings import Finding, Installation, Severity
from storekeep.server.process.doctor.hosts import has_no_room
from storekeep.server.process.signals import STARTUP_ERRORS, describe_error
from storekeep.server.runtime.file_modes import ExposedFile
from storekeep.server.runtime.secrets import WeakSecret
from storekeep.server.store.engine import Store
from storekeep.server.store.postgresql.server_settings import find_weak_settings, read_clock_us
from storekeep.server.store.schema import NotOpened, SchemaError, check_schema, list_tables
from storekeep.server.store.urls import hide_password, parse_sqlite_path
from storekeep.server.wiring.data_keys import check_data_keys
from storekeep.server.wiring.keyrings import read_keyring

LOG_BYTES_MAX = 128 * 1024 * 1024
"""Length of SQLite's write-ahead log that no load explains: the writer copies it at 64 MiB."""
CLOCK_DIFFERENCE_MAX_S = 2.0
REPLICA_WAIT_S = 5.0
"""How long to wait for the first answer of a replica."""
STALENESS_MAX_S = 60.0
POSTGRESQL_REMEDY = "check that PostgreSQL runs, and STOREKEEP_DATABASE_URL; a newer database needs a newer release"
US = 1_000_000


def check_database(installation: Installation) -> Iterator[Finding]:
    """Check that the database answers and has the schema of this release, and everything that reading it shows."""
    url = installation.settings.database
    path = parse_sqlite_path(url)
    if path is not None and not path.exists():
        what = f"the database {path} does not exist"
        remedy = "storekeep-server migrate; or, for an existing shop: storekeep-server restore BACKUP"
        yield Finding("database", Severity.ERROR, what, "the server does not start without it", remedy)
        return
    try:
        check_schema(url)
        with installation.open_store() as store:
            yield from _check_open(installation, store)
    except SchemaError as error:
        remedy = error.remedy.removeprefix("run: ")
        if isinstance(error, NotOpened) and path is None:
            remedy = "check that PostgreSQL runs, and STOREKEEP_DATABASE_URL"
        if path is not None and has_no_room(path.parent):
            remedy = "make room on its disk, or remount it for writing"
        remedy = remedy or "mend what the message names, or: storekeep-server restore BACKUP"
        yield Finding("database", Severity.ERROR, error.what, "the server does not start", remedy)
    except STARTUP_ERRORS as error:
        remedy = POSTGRESQL_REMEDY if path is None else "storekeep-server verify"
        why = "the server does not start, or answers with STORAGE_UNAVAILABLE"
        yield Finding("database", Severity.ERROR, describe_error(error), why, remedy)


def _check_open(installation: Installation, store: Store) -> Iterator[Finding]:
    latest = find_latest_checkpoint(store)
    yield from _check_secret(installation, store, is_new=latest is None)
    yield from _check_kek(installation, store)
    if latest is not None and latest.create_time_us > (time.time() + CLOCK_DIFFERENCE_MAX_S) * US:
        why = "new entries of the audit log would be older than those before them"
        what = "the audit log was signed at a time that is still to come: the clock went back"
        yield Finding("clock", Severity.ERROR, what, why, "timedatectl status; then set the clock")
    if parse_sqlite_path(installation.settings.database) is None:
        yield from _check_postgresql(installation, store)


def _check_secret(installation: Installation, store: Store, *, is_new: bool) -> Iterator[Finding]:
    why = "the server does not start, and with another secret no API key is valid"
    try:
        try:
            keyring = read_keyring(installation.settings)
        except FileNotFoundError as error:
            if is_new:
                return
            keyring, why = Keyring.from_secret(secrets.token_bytes()), f"{error.filename} does not exist: {why}"
        store.read(keyring.read_current)
    except STARTUP_ERRORS as error:
        if _is_about_file(error):
            return
        what = describe_error(error).partition(": put the right secret.key")[0]
        remedy = (
            "restore secret.key from its backup; if it is lost: storekeep-server bootstrap-admin --force --new-secret"
        )
        yield Finding("secret", Severity.ERROR, what, why, remedy)


def _check_kek(installation: Installation, store: Store) -> Iterator[Finding]:
    try:
        check_data_keys(installation.settings, store)
    except STARTUP_ERRORS as error:
        if _is_about_file(error):
            return
        what = describe_error(error).partition(": put the right kek.key")[0]
        why = "the server does not start, and without the key all personal data is lost"
        remedy = "restore kek.key from its backup; if it is lost: storekeep-server give-up-keys"
        yield Finding("kek", Severity.ERROR, what, why, remedy)


def _is_about_file(error: Exception) -> bool:
    """Return whether the file of a key cannot be read as it is, which `hosts.check_secret` and `check_kek` report."""
    is_unreadable = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    return is_unreadable or isinstance(error, ExposedFile | WeakSecret)


def _check_postgresql(installation: Installation, store: Store) -> Iterator[Finding]:
    settings = installation.settings
    connections = settings.workers * (settings.database_pool_size + 1)
    weak = store.read(lambda tx: list(find_weak_settings(tx.connection, connections=connections, tables=list_tables())))
    for setting in weak:
        severity = Severity.ERROR if setting.is_error else Severity.WARNING
        yield Finding("postgresql", severity, setting.what, setting.why, setting.remedy)
    before_us = time.time() * US
    difference_s = abs(store.read(lambda tx: read_clock_us(tx.connection)) - (before_us + time.time() * US) / 2) / US
    if difference_s > CLOCK_DIFFERENCE_MAX_S:
        what = f"the clocks of this host and of PostgreSQL differ by {difference_s:.0f} s"
        yield Finding("clock", Severity.WARNING, what, "expiries come early or late", "timedatectl set-ntp true")


def check_log(installation: Installation) -> Iterator[Finding]:
    """Check the length of SQLite's write-ahead log."""
    path = parse_sqlite_path(installation.settings.database)
    log = None if path is None else path.with_name(f"{path.name}-wal")
    if log is None or not log.exists() or log.stat().st_size <= LOG_BYTES_MAX:
        return
    what = f"the write-ahead log {log} has {log.stat().st_size // 1024**2} MiB"
    why = "something reads the database without end, or the disk fails; reads become slow and the disk fills up"
    yield Finding("log", Severity.WARNING, what, why, f"find the reader with: fuser -v {path}")


def explain_absent_log(installation: Installation) -> str:
    """Return why there is no write-ahead log to check; empty if there is a SQLite database."""
    path = parse_sqlite_path(installation.settings.database)
    if path is None:
        return "PostgreSQL keeps its own log"
    return "" if path.exists() else "no database"


def check_replicas(installation: Installation) -> Iterator[Finding]:
    """Check that each replica answers, and its age."""
    urls = installation.settings.database_replica_urls
    if not urls:
        return
    try:
        with installation.open_store(with_replicas=True) as store:
            give_up_s = time.monotonic() + REPLICA_WAIT_S
            while any(math.isinf(state.staleness_s) for state in store.list_replica_states()):
                if time.monotonic() > give_up_s:
                    break
                time.sleep(installation.settings.database_replica_interval_s)
            states = store.list_replica_states()
    except STARTUP_ERRORS as error:
        what = f"{len(urls)} replicas cannot be compared with {hide_password(installation.settings.database)}"
        yield Finding("replicas", Severity.WARNING, what, describe_error(error), "mend the database first")
        return
    for state in states:
        if state.staleness_s > STALENESS_MAX_S:
            age = state.problem or f"it is {state.staleness_s:.0f} s behind"
            why = "the primary answers the reads that it should answer"
            remedy = "on the replica: SELECT pg_is_wal_replay_paused(); SELECT * FROM pg_stat_wal_receiver;"
            yield Finding("replicas", Severity.WARNING, f"{state.name}: {age}", why, remedy)


def explain_absent_replicas(installation: Installation) -> str:
    """Return why there are no replicas to check; empty if some are configured."""
    return "" if installation.settings.database_replica_urls else "none configured"
