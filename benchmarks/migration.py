"""Time `migrate` of a database in clear with many customers, on one core, killed in the middle and continued."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from benchmarks import catalogue, stocking, subjects
from benchmarks.machine import SERVER_CORE, STOP_TIMEOUT_S, pin_to_cores
from benchmarks.results import Bar, Figure, Section
from benchmarks.rounds import Spread
from storekeep.server.domain.personal_data.existing_data import FILES, STEPS

KILLED_STEPS = ("customers", "audit_entries")
"""The long steps; a run is killed within each."""
COUNTED = ("customers", "audit_entries WHERE resource LIKE 'customers/%'")
"""The rows that have personal data."""
ROWS_PER_S_MIN = 5_000
MEMORY_MAX_MB = 400.0
POLL_S = 0.05
TIMEOUT_S = 3_600


@dataclass(frozen=True)
class Run:
    """What one run of `migrate` took.

    Attributes:
        wall_s, cpu_s: its time and its processor time, start included, in seconds.
        peak_mb: the largest resident memory.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure_migration(folder: Path, *, customers: int) -> Section:
    """Encrypt a database with so many customers, with a kill within each long step.

    Raises: RuntimeError if a run fails or is too fast to be killed, if a value is left in clear, or `verify` complains.
    """
    _store_in_clear(folder, customers)
    rows = _count_rows(folder)
    runs = [_migrate(folder, kill_within=step) for step in (*KILLED_STEPS, "")]
    idle = [_migrate(folder) for _ in runs]
    wall_s, cpu_s = (sum(getattr(run, name) for run in runs) for name in ("wall_s", "cpu_s"))
    idle_s = sum(run.cpu_s for run in idle)
    peak_mb = max(run.peak_mb for run in runs)
    _check(folder)
    columns = {
        "rows": f"{rows:,}",
        "time, s": f"{wall_s:,.0f}",
        "CPU, s": f"{cpu_s:,.0f}",
        "rows/s": f"{rows / wall_s:,.0f}",
        "memory, MB": f"{peak_mb:.0f}",
    }
    bars = [
        Bar("rows/s of CPU that migrate encrypts", Spread.from_numbers([rows / (cpu_s - idle_s)]), ROWS_PER_S_MIN),
        Bar("resident memory of migrate, MB", Spread.from_numbers([peak_mb]), MEMORY_MAX_MB, at_most=True),
    ]
    notes = (f"Killed within {' and '.join(KILLED_STEPS)}, then continued; nothing in clear, `verify` clean.",)
    return Section(f"Encryption of {customers:,} customers", [Figure("migrate", columns)], bars, notes)


def _store_in_clear(folder: Path, customers: int) -> None:
    """Create the customers in a database in clear, and list the steps that encrypt one of an older release."""
    with subjects.run_storekeep(folder, program=subjects.CLEAR_PROGRAM) as shop:
        stocking.create_many_persons(shop, customers)
    with contextlib.closing(apsw.Connection(str(folder / "storekeep.db"))) as connection:
        connection.executemany("INSERT INTO encryption_steps VALUES (?, ?, '')", enumerate((*STEPS, FILES), start=1))


def _count_rows(folder: Path) -> int:
    with contextlib.closing(apsw.Connection(str(folder / "storekeep.db"))) as connection:
        return sum(connection.execute(f"SELECT COUNT(*) FROM {rows}").get for rows in COUNTED)


def _migrate(folder: Path, *, kill_within: str = "") -> Run:
    """Run `migrate` on one core.

    Args:
        kill_within: the step to kill it in, after its first batch. Default: until the end.

    Raises: RuntimeError if it fails, or ends before it is killed.
    """
    with _start(folder, "migrate") as process:
        began_s = time.monotonic()
        if kill_within:
            _wait_until(process, lambda: _is_within(folder, kill_within))
            process.kill()
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not kill_within:
        raise RuntimeError(f"migrate failed: {(folder / 'migrate.log').read_text()[-2000:]}")
    return Run(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


@contextlib.contextmanager
def _start(folder: Path, command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command on one core; it is stopped if the block fails."""
    env = os.environ | {"STOREKEEP_DATA_DIR": str(folder)}
    with (folder / f"{command}.log").open("wb") as log:
        pinned = pin_to_cores((SERVER_CORE,), (str(subjects.COMMAND), command))
        process = subprocess.Popen(pinned, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            process.wait(STOP_TIMEOUT_S)


def _wait_until(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """Wait until a condition is true.

    Raises: RuntimeError if the process ends before, or after an hour.
    """
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) or time.monotonic() > end_s:
            raise RuntimeError("migrate was not within the step in time")
        time.sleep(POLL_S)


def _is_within(folder: Path, step: str) -> bool:
    """Return whether a batch of this step is complete."""
    with contextlib.closing(apsw.Connection(str(folder / "storekeep.db"), flags=apsw.SQLITE_OPEN_READONLY)) as reader:
        reader.set_busy_timeout(1_000)
        row = reader.execute("SELECT name, position FROM encryption_steps ORDER BY number LIMIT 1").fetchone()
    return row is not None and row[0] == step and row[1] != ""


def _check(folder: Path) -> None:
    """Check that no value is in clear and that the audit log is valid.

    Raises: RuntimeError.
    """
    with (folder / "storekeep.db").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        if data.find(catalogue.NAME.encode()) >= 0:
            raise RuntimeError("a name is in clear after migrate")
    with _start(folder, "verify") as process:
        if process.wait(TIMEOUT_S):
            raise RuntimeError(f"verify complains: {(folder / 'verify.log').read_text()[-2000:]}")
