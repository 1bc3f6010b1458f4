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
    """

    database: str
    folder: str
    interval_s: float
    time_of_day: str
    keep: int
    keep_days: float


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
        newest_s: time of the newest verified backup, in seconds since 1970; 0 if there is none.
        size_bytes: its size.
        failures: number of failed backups since the process started.
        duration_s: duration of the last backup that this process made, in seconds; 0 before the first.
    """

    newest_s: float = 0.0
    size_bytes: int = 0
    failures: int = 0
    duration_s: float = 0.0


def list_backups(folder: Path) -> list[Path]:
    """Return the verified backups in a directory, the newest first; empty if there is no such directory."""
    with contextlib.suppress(OSError):
        return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)
    return []


def parse_backup_time(path: Path) -> float:
    """Return the time in the name of a backup, in seconds since 1970; 0 for an impossible one."""
    try:
        return float(calendar.timegm(time.strptime(path.name, NAME_FORMAT)))
    except (ValueError, OverflowError):
        return 0.0


def find_expired(backups: list[Path], *, keep: int, keep_days: float, now_s: float) -> Iterator[Path]:
    """Yield the backups to delete, never the newest.

    Args:
        backups: the newest first.
        keep, keep_days: see `BackupPlan`.
        now_s: seconds since 1970.
    """
    for number, path in enumerate(backups):
        is_old = keep_days > 0 and parse_backup_time(path) < now_s - keep_days * DAY_S
        if number and (number >= keep or is_old):
            yield path


def is_due(plan: BackupPlan, *, newest_s: float, now_s: float) -> bool:
    """Return whether a backup is due.

    Args:
        newest_s, now_s: time of the newest backup and now, in seconds since 1970. A backup from the future, as after a
            clock was set back, does not count.
    """
    if newest_s > now_s:
        return True
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
    """

    def __init__(self, plan: BackupPlan, *, list_secrets: Callable[[], tuple[bytes, ...]]) -> None:
        super().__init__(
            "backups",
            interval_s=min(CHECK_INTERVAL_S, plan.interval_s or CHECK_INTERVAL_S),
            success_message="backed up",
            failure_message="no backup was made",
        )
        self._plan = plan
        self._list_secrets = list_secrets
        self._folder = Path(plan.folder)
        self._retry_at_s = 0.0
        self._failures = 0
        self._duration_s = 0.0

    def run_once(self) -> int:
        """Make a backup if one is due.

        Returns: 0, because the job logs what it did itself.
        """
        if time.monotonic() >= self._retry_at_s and is_due(
            self._plan, newest_s=self._find_newest_s(), now_s=time.time()
        ):
            self._make_backup()
        return 0

    def _find_newest_s(self) -> float:
        backups = list_backups(self._folder)
        return parse_backup_time(backups[0]) if backups else 0.0

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
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "storekeep.server.jobs.backup_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stdin is not None  # noqa: S101 - for the type checker
            assert process.stdout is not None  # noqa: S101 - for the type checker
            assert process.stderr is not None  # noqa: S101 - for the type checker
            secrets = tuple(secret.decode() for secret in self._list_secrets())
            process.stdin.write(msgspec.json.encode(BackupRequest(self._plan, secrets)))
            process.stdin.close()
            while process.poll() is None and not self._stop.wait(POLL_S):
                pass
            process.kill()
            output, errors = process.stdout.read(), process.stderr.read()
        problem = errors.decode(errors="replace").strip().rpartition("\n")[2]
        return (problem or f"exit code {process.returncode}") if process.returncode else "", output.decode().strip()

    def count_backups(self) -> BackupCounts:
        """Return the counts so far."""
        backups = list_backups(self._folder)
        with contextlib.suppress(OSError):
            if backups:
                newest_s, size_bytes = parse_backup_time(backups[0]), backups[0].stat().st_size
                return BackupCounts(newest_s, size_bytes, self._failures, self._duration_s)
        return BackupCounts(failures=self._failures, duration_s=self._duration_s)
