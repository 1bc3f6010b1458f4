"""Scheduled backups of a SQLite database: when one is due, and the job of the leader that starts them.

The files themselves tell when the last one was made, so a restart or another leader neither repeats nor omits one.
A backup is made and verified by a process of its own, `jobs.backup_process`, which takes no time from the server.
"""

from __future__ import annotations

import calendar
import contextlib
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from storekeep.server.jobs.periodic import PeriodicJob
from storekeep.server.telemetry.status import Gauge

CHECK_INTERVAL_S = 10.0
"""Interval at which the job checks whether a backup is due."""
RETRY_AFTER_S = 600.0
"""Pause after a failed backup, in seconds; less if backups are due more often."""
POLL_S = 0.1
PROCESS_TIMEOUT_S = 21_600.0
"""Default time for the process of a backup to end. One that takes longer hangs."""
DAY_S = 86_400
NAME_FORMAT = "storekeep-%Y%m%dT%H%M%SZ.db"
NAME = re.compile(r"storekeep-\d{8}T\d{6}Z\.db")
"""Names of scheduled backups. Other files in the directory are never touched."""

log = logging.getLogger("storekeep.jobs")


class BackupPlan(msgspec.Struct, frozen=True):
    """When and where scheduled backups are made.

    Attributes:
        database: path of the database.
        folder: directory of the backups.
        interval_s: seconds from one backup to the next; 0 if they are made at a time of day.
        time_of_day: UTC, such as `03:30`; empty if they are made at an interval.
        keep: number of backups to keep.
        keep_days: maximum age of kept backups in days; 0 for any. The newest is always kept.
        keep_keys_days: maximum age of kept keys files in days. The newest is always kept.
    """

    database: str
    folder: str
    interval_s: float
    time_of_day: str
    keep: int
    keep_days: float
    keep_keys_days: float = 7.0


class BackupRequest(msgspec.Struct, frozen=True):
    """What the process of a backup reads.

    Attributes:
        plan: the plan.
        secrets: the server's secrets, which the verification needs; newest first.
    """

    plan: BackupPlan
    secrets: tuple[str, ...]


class BackupCounts(msgspec.Struct, frozen=True):
    """Scheduled backups so far.

    Attributes:
        newest_s: time of the newest verified backup that is not from the future, in seconds since 1970; 0 without one.
        size_bytes: its size.
        failures: number of failed backups since the process started.
        duration_s: duration of the last backup that this process made, in seconds; 0 before the first.
    """

    newest_s: float = 0.0
    size_bytes: int = 0
    failures: int = 0
    duration_s: float = 0.0


def list_backups(folder: Path) -> list[Path]:
    """Return the verified backups in a directory, the newest first; empty if there is no such directory.

    A file whose name has an impossible time, such as the month 13, is none.
    """
    with contextlib.suppress(OSError):
        named = (path for path in folder.iterdir() if NAME.fullmatch(path.name) and parse_backup_time(path))
        return sorted(named, reverse=True)
    return []


def parse_backup_time(path: Path) -> float:
    """Return the time in the name of a backup, in seconds since 1970; 0 for an impossible one."""
    try:
        return float(calendar.timegm(time.strptime(path.name, NAME_FORMAT)))
    except (ValueError, OverflowError):
        return 0.0


def find_future(backups: list[Path], *, now_s: float) -> list[Path]:
    """Return the backups whose time is yet to come: the clock was set back, or it was wrong when they were made.

    Args:
        now_s: seconds since 1970.
    """
    return [path for path in backups if parse_backup_time(path) > now_s]


def find_newest(backups: list[Path], *, now_s: float) -> Path | None:
    """Return the newest backup that is not from the future; None if there is none.

    Args:
        backups: the newest first.
        now_s: seconds since 1970.
    """
    return next((path for path in backups if parse_backup_time(path) <= now_s), None)


def find_expired(backups: list[Path], *, keep: int, keep_days: float, now_s: float) -> Iterator[Path]:
    """Yield the backups to delete: never the newest, and none while one is from the future.

    A backup from the future shows that the clock is or was wrong, so no age and no order can be trusted.

    Args:
        backups: the newest first.
        keep, keep_days: see `BackupPlan`.
        now_s: seconds since 1970.
    """
    if find_future(backups, now_s=now_s):
        return
    for number, path in enumerate(backups):
        is_old = keep_days > 0 and parse_backup_time(path) < now_s - keep_days * DAY_S
        if number and (number >= keep or is_old):
            yield path


def find_expired_keys(folder: Path, *, keep_days: float, now_s: float) -> Iterator[Path]:
    """Yield the keys files that are no longer kept: the newest one restores every backup.

    Args:
        keep_days: maximum age in days. The newest is always kept.
        now_s: seconds since 1970.
    """
    files = sorted(folder.glob("storekeep-*.keys"), reverse=True)
    for path in files[1:]:
        if parse_backup_time(path.with_suffix(".db")) < now_s - keep_days * DAY_S:
            yield path


def is_due(plan: BackupPlan, *, newest_s: float, now_s: float) -> bool:
    """Return whether a backup is due.

    Args:
        newest_s, now_s: time of the newest backup that is not from the future, and now, in seconds since 1970.
    """
    if plan.interval_s:
        return now_s - newest_s >= plan.interval_s
    hours, minutes = map(int, plan.time_of_day.split(":"))
    last_s = now_s - (now_s - hours * 3_600 - minutes * 60) % DAY_S
    return newest_s < last_s


def measure_backups(counts: BackupCounts) -> list[Gauge]:
    """Return the gauges of scheduled backups."""
    return [
        Gauge("storekeep_backup_newest_timestamp_seconds", "", counts.newest_s),
        Gauge("storekeep_backup_size_bytes", "", counts.size_bytes),
        Gauge("storekeep_backup_duration_seconds", "", counts.duration_s),
    ]


class BackupJob(PeriodicJob):
    """Makes backups when they are due.

    Args:
        plan: when and where.
        list_secrets: returns the server's secrets, newest first.
        timeout_s: time in seconds after which the process of a backup is killed, and the backup has failed.
    """

    def __init__(
        self,
        plan: BackupPlan,
        *,
        list_secrets: Callable[[], tuple[bytes, ...]],
        timeout_s: float = PROCESS_TIMEOUT_S,
    ) -> None:
        super().__init__(
            "backups",
            interval_s=min(CHECK_INTERVAL_S, plan.interval_s or CHECK_INTERVAL_S),
            success_message="backed up",
            failure_message="no backup was made",
        )
        self._plan = plan
        self._list_secrets = list_secrets
        self._timeout_s = timeout_s
        self._folder = Path(plan.folder)
        self._retry_at_s = 0.0
        self._failures = 0
        self._duration_s = 0.0

    def run_once(self) -> int:
        """Make a backup if one is due.

        Returns: 0, because the job logs what it did itself.
        """
        now_s = time.time()
        backups = list_backups(self._folder)
        newest = find_newest(backups, now_s=now_s)
        newest_s = parse_backup_time(newest) if newest else 0.0
        if time.monotonic() >= self._retry_at_s and is_due(self._plan, newest_s=newest_s, now_s=now_s):
            if future := find_future(backups, now_s=now_s):
                log.warning("a backup is from the future, so none is deleted", extra={"file": str(future[0])})
            self._make_backup()
        return 0

    def _make_backup(self) -> None:
        began_s = time.monotonic()
        try:
            problem, output = self._run_process()
        except OSError as error:
            problem, output = str(error), ""
        if self._stop.is_set():
            return
        self._duration_s = time.monotonic() - began_s
        if not problem:
            log.info("backup made and verified", extra={"file": output, "duration_s": round(self._duration_s, 3)})
            return
        self._failures += 1
        self._retry_at_s = time.monotonic() + min(RETRY_AFTER_S, self._plan.interval_s or RETRY_AFTER_S)
        log.error("the scheduled backup failed", extra={"problem": problem, "folder": self._plan.folder})

    def _run_process(self) -> tuple[str, str]:
        """Run the process that makes a backup. Return the problem, empty for success, and the path of the backup.

        Raises: OSError.
        """
        secrets = tuple(secret.decode() for secret in self._list_secrets())
        request: bytes | None = msgspec.json.encode(BackupRequest(self._plan, secrets))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "storekeep.server.jobs.backup_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        give_up_s = time.monotonic() + self._timeout_s
        while True:
            try:
                output, errors = process.communicate(request, timeout=POLL_S)  # reads meanwhile: a pipe holds 64 KiB
                break
            except subprocess.TimeoutExpired:
                request = None  # it is sent once
            is_late = time.monotonic() >= give_up_s
            if is_late or self._stop.is_set():
                process.kill()
                process.communicate()
                return f"its process did not end within {self._timeout_s:g} s" if is_late else "stopped", ""
        problem = errors.decode(errors="replace").strip().rpartition("\n")[2]
        return (problem or f"exit code {process.returncode}") if process.returncode else "", output.decode().strip()

    def count_backups(self) -> BackupCounts:
        """Return the counts so far."""
        backups = list_backups(self._folder)
        with contextlib.suppress(OSError):
            if newest := find_newest(backups, now_s=time.time()):
                newest_s, size_bytes = parse_backup_time(newest), newest.stat().st_size
                return BackupCounts(newest_s, size_bytes, self._failures, self._duration_s)
        return BackupCounts(failures=self._failures, duration_s=self._duration_s)
