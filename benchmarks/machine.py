"""Processes pinned to cores, and their processor time and memory.

If possible, a server has one core and its load has the other, so that they do not disturb each other. Otherwise both
share the two cores.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE = 0
LOAD_CORE = 1
CORES = (SERVER_CORE, LOAD_CORE)
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Placement:
    """The cores that a server may use, and those of its load."""

    server: tuple[int, ...]
    load: tuple[int, ...]


APART = Placement(server=(SERVER_CORE,), load=(LOAD_CORE,))
"""The server and its load have one core each."""
TOGETHER = Placement(server=CORES, load=CORES)
"""Everything shares both cores, for a server with several processes."""
ONE_OF_BOTH = Placement(server=(SERVER_CORE,), load=CORES)
"""The server stays on one core, which is fastest for a single Python process. Its database and its load may use both
cores."""


def find_free_address() -> str:
    """Return a loopback HOST:PORT on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass(frozen=True)
class Server:
    """A server under load.

    Attributes:
        name: name in the results.
        address: HOST:PORT.
        pid: the started process, which may have children.
        placement: cores of the server and of its load.
    """

    name: str
    address: str
    pid: int
    placement: Placement = APART

    def list_pids(self) -> list[int]:
        """Return the process and all its descendants."""
        pids, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            pids.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    queue += map(int, (task / "children").read_text().split())
        return pids

    def read_cpu_s(self) -> float:
        """Return the processor time used since the start in seconds, including ended children."""
        return sum(_read_cpu_s(pid, with_ended=True) for pid in self.list_pids())

    def find_worker(self) -> int:
        """Return the pid of the worker: the process with the most processor time."""
        return max(self.list_pids(), key=_read_cpu_s)

    def read_rss_mb(self) -> float:
        """Return the resident memory of the worker, in 10^6 bytes."""
        status = Path(f"/proc/{self.find_worker()}/status").read_text()
        kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        return kib * 1024 / 1e6

    def check_pinned(self) -> None:
        """Check that the server can run only on its own cores.

        Raises: RuntimeError if a thread may use another core.
        """
        cores = set(self.placement.server)
        for pid in self.list_pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                if not os.sched_getaffinity(int(task.name)) <= cores:
                    raise RuntimeError(f"{self.name}: thread {task.name} is not pinned to the cores {sorted(cores)}")


def read_threads_cpu_s(pid: int) -> dict[int, float]:
    """Return the processor time of each thread of a process, in seconds by thread id."""
    return {int(task.name): _read_cpu_s(f"{pid}/task/{task.name}") for task in Path(f"/proc/{pid}/task").iterdir()}


def _read_cpu_s(process: int | str, *, with_ended: bool = False) -> float:
    """Return the processor time of a process or thread in seconds (proc(5)), optionally with that of ended children."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / TICKS_PER_S


def pin_to_cores(cores: Sequence[int], command: Sequence[str]) -> list[str]:
    """Return the command pinned to these cores."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


@contextlib.contextmanager
def run_server(
    name: str,
    command: Sequence[str],
    *,
    address: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    placement: Placement = APART,
) -> Iterator[Server]:
    """Run a server on its cores until the block ends.

    Args:
        log: file for all output of the server.
        env: environment variables in addition to those of this process.
        placement: cores of the server and of its load.

    Raises: RuntimeError if it does not listen within `START_TIMEOUT_S`, or does not stop within `STOP_TIMEOUT_S`.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            pin_to_cores(placement.server, command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_build_environment(env or {}),
        )
    try:
        _await_listener(process, name, address, log)
        server = Server(name, address, process.pid, placement)
        server.check_pinned()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{name} did not stop; see {log}") from None


def _build_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process with `more`, and with the benchmarks on Python's path."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def _await_listener(process: subprocess.Popen[bytes], name: str, address: str, log: Path) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{name} does not listen on {address}: {log.read_text()[-2000:]}")


def run_pinned(command: Sequence[str], *, cores: Sequence[int], timeout_s: float) -> tuple[str, float]:
    """Run a program on some cores and wait for its end.

    Returns: its output, and the processor time that it used in seconds.

    Raises: RuntimeError with the end of its output if it fails.
    """
    before = os.times()
    result = subprocess.run(
        pin_to_cores(cores, command),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=_build_environment({}),
    )
    after = os.times()
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {result.stderr[-2000:] or result.stdout[-2000:]}")
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return result.stdout, used
