"""Resource usage of a server: of its process and of all processes below it, such as workers."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.support.processes import ServerProcess

T = TypeVar("T")
LOOP_ROUNDS, LOOP_MS = 100_000, 6.5
"""The fixed loop of `measure_slowness`, and its CPU time on the idle host."""
PROCESS_CLOCK = 2
"""The clock of a process that counts what its scheduler gave it, in the lowest bits of the clock's id on Linux."""


def memory_mib(server: ServerProcess) -> float:
    """Return the resident memory of all its processes."""
    return sum(_measure_each(server, _read_memory_kib)) / 1024


def cpu_s(server: ServerProcess) -> float:
    """Return the CPU time of all its processes, and of those that they have reaped."""
    return sum(_measure_each(server, _read_ticks)) / os.sysconf("SC_CLK_TCK")


def read_cpu_ms(process_id: int) -> float:
    """Return the CPU time of one process in ms, to the nanosecond: its CPU clock (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~process_id << 3) | PROCESS_CLOCK) / 1e6


def measure_slowness() -> float:
    """Return how many times longer a fixed loop takes now than on an idle host (2.4 GHz, AMD EPYC); at least 1.

    Other load on a shared core and its caches inflates the CPU time of all that runs beside it.
    """
    return max(1.0, min(_time_loop() for _ in range(3)) / LOOP_MS)


def _time_loop() -> float:
    began_ns, total = time.thread_time_ns(), 0
    for number in range(LOOP_ROUNDS):
        total += number
    return (time.thread_time_ns() - began_ns) / 1e6


def threads(server: ServerProcess) -> int:
    """Return the number of threads of all its processes."""
    return sum(_measure_each(server, lambda process: len(os.listdir(process / "task"))))


def descriptors(server: ServerProcess) -> int:
    """Return the number of file descriptors of all its processes."""
    return sum(_measure_each(server, lambda process: len(os.listdir(process / "fd"))))


def list_processes(server: ServerProcess) -> list[int]:
    """Return the ids of its processes, the first one first."""
    ids = [server.process.pid]
    for process_id in ids:
        for task in _list_tasks(process_id):
            with contextlib.suppress(OSError):  # the thread has ended
                ids += map(int, (task / "children").read_text().split())
    return ids


def _list_tasks(process_id: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{process_id}/task").iterdir())
    except OSError:  # the process has ended
        return []


def _measure_each(server: ServerProcess, measure: Callable[[Path], T]) -> list[T]:
    """Measure each process. A child may end meanwhile; the server itself must not.

    Raises: OSError if the server has ended.
    """
    first, *children = list_processes(server)
    values = [measure(Path(f"/proc/{first}"))]
    for child in children:
        with contextlib.suppress(OSError, StopIteration):  # a zombie has no memory
            values.append(measure(Path(f"/proc/{child}")))
    return values


def _read_memory_kib(process: Path) -> int:
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _read_ticks(process: Path) -> int:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))
