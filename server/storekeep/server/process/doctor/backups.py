"""Checks of the backups of a SQLite database: whether there are any, their age, and copies that failed a check."""

from __future__ import annotations

import time
from collections.abc import Iterator

from storekeep.server.jobs.backup_process import UNVERIFIED
from storekeep.server.jobs.backups import DAY_S, find_future, find_newest, list_backups, parse_backup_time
from storekeep.server.process.doctor.findings import Finding, Installation, Severity, quote
from storekeep.server.process.obstacles import check_backup_dir
from storekeep.server.process.signals import describe_error
from storekeep.server.store.urls import parse_sqlite_path

VERIFICATION_MAX_S = 3_600.0
"""Age in seconds at which a copy is no longer one that is still being verified."""
LATE_FACTOR = 2.0
"""A backup is late at this multiple of the time between two."""


def check_backups(installation: Installation) -> Iterator[Finding]:
    """Check the scheduled backups."""
    settings = installation.settings
    try:
        check_backup_dir(settings)
    except OSError as error:
        remedy = "set STOREKEEP_BACKUP_DIR to a directory that the server's user can write to"
        yield Finding("backups", Severity.ERROR, describe_error(error), "no backup can be made", remedy)
        return
    database = parse_sqlite_path(settings.database)
    if database is None or not database.exists():
        return
    folder = settings.backups_dir
    period_s = settings.backup_interval_s or (DAY_S if settings.backup_time else 0)
    backups = list_backups(folder)
    now_s = time.time()
    newest, future = find_newest(backups, now_s=now_s), find_future(backups, now_s=now_s)
    why = "a lost disk or a mistake loses every change since the last backup"
    if not period_s:
        what, remedy = "no backups are scheduled", "set STOREKEEP_BACKUP_TIME=03:30 and STOREKEEP_BACKUP_DIR"
        yield Finding("backups", Severity.WARNING, what, why, remedy)
    elif newest is None:
        remedy = "start the server, which makes one, and see its log"
        yield Finding("backups", Severity.WARNING, f"{folder} has no backup yet", why, remedy)
    else:
        age_s = now_s - parse_backup_time(newest)
        if age_s > LATE_FACTOR * period_s:
            what = f"the newest backup, {newest}, is {age_s / 3_600:.0f} hours old"
            remedy = "see `the scheduled backup failed` in the server's log"
            yield Finding("backups", Severity.ERROR, what, why, remedy)
    if future:
        what, why_future = f"the backup {future[0]} is from the future", "no backup is deleted until that is mended"
        remedy = "set the clock; if it is right, rename or delete the backup"
        yield Finding("backups", Severity.ERROR, what, why_future, remedy)
    for copy in sorted(folder.glob(f"*{UNVERIFIED}")) if folder.is_dir() else ():
        if now_s - copy.stat().st_mtime > VERIFICATION_MAX_S:
            what, why_bad = f"the copy {copy} failed a check", "the database itself may be damaged"
            remedy = f"storekeep-server verify; then delete {quote(copy)}"
            yield Finding("backups", Severity.ERROR, what, why_bad, remedy)
    if period_s and folder.is_dir() and folder.stat().st_dev == database.parent.stat().st_dev:
        what, why_same = f"{folder} is on the same disk as the database", "a lost disk loses both"
        remedy = "set STOREKEEP_BACKUP_DIR to another disk, or copy the backups to another host"
        yield Finding("backups", Severity.WARNING, what, why_same, remedy)


def explain_absent_backups(installation: Installation) -> str:
    """Return why there are no backups to check; empty if there is a SQLite database."""
    path = parse_sqlite_path(installation.settings.database)
    if path is None:
        return "PostgreSQL is backed up by its own programs"
    return "" if path.exists() else "no database"
