"""`make test ARGS=--cpu` prints how much CPU time each test file takes, with the programs that it starts.

The time does not depend on how busy the host is. That of PostgreSQL, which all files share, is a row of its own.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support import postgres

SHOWN_MAX = 60
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TIMES = slice(11, 15)
"""Fields after the name in /proc/PID/stat: user and system time, then those of the children that have ended."""


def read_cpu_s(root: int, *, without: int = 0) -> float:
    """Return the CPU time of a process and its descendants, except those of `without`."""
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(status.parent.name)
        children[int(fields[1])].append(pid)
        ticks[pid] = sum(map(int, fields[TIMES]))
    left, total = [root], 0
    while left:
        pid = left.pop()
        if pid != without:
            total += ticks.get(pid, 0)
            left += children[pid]
    return total / TICKS_PER_S


class CpuTimes:
    """Counts the CPU time of each file in one test process, and adds up those of all at the end of the run."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()
        self._read_s = 0.0
        self._count("start and collection")
        self._begun_s = self._read_s

    def _count(self, name: str) -> None:
        now_s = read_cpu_s(os.getpid(), without=postgres.find_watcher())
        self._times[name] += now_s - self._read_s
        self._read_s = now_s

    @pytest.hookimpl
    def pytest_collection_finish(self) -> None:
        """Count what has only been loaded."""
        self._count("start and collection")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Count a file after its last test, when the programs of its fixtures have ended."""
        if nextitem is None or nextitem.path != item.path:
            self._count(item.nodeid.partition("::")[0])

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the times of this process to the one that began the run."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["cpu_times"] = dict(self._times)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the times of a test process that has ended."""
        self._times.update(getattr(node, "workeroutput", {}).get("cpu_times", {}))

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the files that take most."""
        if watcher := postgres.find_watcher():
            self._times["PostgreSQL"] += read_cpu_s(watcher)
        if terminalreporter.config.getoption("numprocesses"):
            own = os.times()
            self._times["start and collection"] += own.user + own.system - self._begun_s
        terminalreporter.section(f"CPU time: {self._times.total():.0f} s")
        for name, seconds in self._times.most_common(SHOWN_MAX):
            terminalreporter.write_line(f"{seconds:8.1f} s  {name}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--cpu", action="store_true", help="print the CPU time of each test file")


def pytest_configure(config: pytest.Config) -> None:
    """Count, if the option is there."""
    if config.getoption("--cpu"):
        config.pluginmanager.register(CpuTimes(), "cpu-times")
