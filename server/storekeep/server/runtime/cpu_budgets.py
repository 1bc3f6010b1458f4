"""A budget of CPU time for work that can wait, in a process that is busy with calls."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

WINDOW_S = 1.0
"""Length of the windows in which CPU time is compared, in seconds."""
BUSY_SHARE = 0.5
"""A process is busy if it needed this share of a core in the last window."""
WRITES_PER_COMMIT = 2.0
"""Writes wait for each other if commits have this many of them on average. Then the time for which threads of the
process waited for a processor counts like CPU time, because a crowded host gives a busy process less than a core. It
does not count otherwise: on such a host threads that do little wait, too. A slow disk lets writes wait without it."""
TASKS = Path("/proc/self/task")
NANOS = 1_000_000_000


def _count_nothing() -> tuple[int, int]:
    return 0, 0


def read_waiting_s() -> float:
    """Return for how long the threads of the process have waited for a processor, in seconds.

    Threads that have ended do not count. It takes 0.5 ms of CPU with 60 threads (2026-11-30).

    Returns: 0 on a system that does not tell.
    """
    waiting_ns = 0
    with suppress(OSError):
        for task in os.listdir(TASKS):
            with suppress(OSError):  # it has ended
                waiting_ns += int((TASKS / task / "schedstat").read_bytes().split()[1])
    return waiting_ns / NANOS


class CpuBudget:
    """Limits the share of the CPU time of a busy process that some work takes. Threads may share it.

    Args:
        share_max: the greatest share of the CPU time of a busy process.
        count_commits: returns the numbers of commits and of writes in them since the start of the process.
        read_clock: returns the time in seconds, by a clock that no one sets.
        read_cpu: returns the CPU time of the process in seconds.
        read_waiting: see `read_waiting_s`.
    """

    def __init__(
        self,
        share_max: float,
        *,
        count_commits: Callable[[], tuple[int, int]] = _count_nothing,
        read_clock: Callable[[], float] = time.monotonic,
        read_cpu: Callable[[], float] = time.process_time,
        read_waiting: Callable[[], float] = read_waiting_s,
    ) -> None:
        self._share_max = share_max
        self._count_commits = count_commits
        self._read_clock = read_clock
        self._read_cpu = read_cpu
        self._read_waiting = read_waiting
        self._lock = threading.Lock()
        self._start_s, self._start_cpu_s = read_clock(), read_cpu()
        self._start_commits, self._start_waiting_s = count_commits(), read_waiting()
        self._spent_s = 0.0
        self._is_busy = False

    def spend(self, cpu_s: float) -> None:
        """Count CPU time of the work, in seconds."""
        with self._lock:
            self._spent_s += cpu_s

    def has_room(self) -> bool:
        """Return whether more work may start now. Some may in each window, however busy the process is."""
        with self._lock:
            now_s, cpu_s = self._read_clock(), self._read_cpu()
            elapsed_s, used_s = now_s - self._start_s, cpu_s - self._start_cpu_s
            if elapsed_s >= WINDOW_S:
                needed_s = used_s - self._spent_s + self._measure_waiting()
                self._is_busy = needed_s > (BUSY_SHARE - self._share_max) * elapsed_s
                self._start_s, self._start_cpu_s, self._spent_s, used_s = now_s, cpu_s, 0.0, 0.0
            return not self._is_busy or self._spent_s <= self._share_max * used_s

    def _measure_waiting(self) -> float:
        """Return for how long threads waited for a processor in the last window, in seconds; 0 if no writes waited."""
        (old_commits, old_writes), self._start_commits = self._start_commits, self._count_commits()
        old_waiting_s, self._start_waiting_s = self._start_waiting_s, self._read_waiting()
        commits, writes = self._start_commits
        is_shared = writes - old_writes >= WRITES_PER_COMMIT * (commits - old_commits) > 0
        return max(0.0, self._start_waiting_s - old_waiting_s) if is_shared else 0.0
