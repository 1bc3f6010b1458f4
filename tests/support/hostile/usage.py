"""Resource usage of a server process."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.processes import ServerProcess


def memory_mib(server: ServerProcess) -> float:
    """Return its resident memory."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def cpu_s(server: ServerProcess) -> float:
    """Return its CPU time."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(server: ServerProcess) -> int:
    """Return its number of threads."""
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def descriptors(server: ServerProcess) -> int:
    """Return its number of file descriptors."""
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))
