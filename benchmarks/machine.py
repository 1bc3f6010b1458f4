"""Processes placed on cores, and what they use of them.

Where a server can be measured by itself it has one core and the load has the other, so that neither takes from what is
measured. Where that is not possible, both share two cores, and nothing else runs on more.
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
    """Which cores a server may use, and which its load."""

    server: tuple[int, ...]
    load: tuple[int, ...]


APART = Placement(server=(SERVER_CORE,), load=(LOAD_CORE,))
"""The server and its load have a core each."""
TOGETHER = Placement(server=CORES, load=CORES)
"""All share both cores: for a server of several processes."""
ONE_OF_BOTH = Placement(server=(SERVER_CORE,), load=CORES)
"""The server stays on one core, as a single process of Python does best; its database and its load may use that one
too. Nobody has a core to itself."""


def free_address() -> str:
    """A loopback HOST:PORT that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass(frozen=True)
class Server:
    """A server under load.

    Attributes:
        name: what the results call it.
        address: HOST:PORT.
        pid: the process that was started; it may have children.
        placement: the cores that it may use, and those of its load.
    """

    name: str
    address: str
    pid: int
    placement: Placement = APART

    def pids(self) -> list[int]:
        """The process and all below it."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (task / "children").read_text().split())
        return found

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used since it began, with children that have ended."""
        return sum(_cpu_s(pid, with_ended=True) for pid in self.pids())

    def worker(self) -> int:
        """The process that does the work: the one that has used the most processor time."""
        return max(self.pids(), key=_cpu_s)

    def rss_mb(self) -> float:
        """Resident memory of the worker, in 10^6 bytes."""
        status = Path(f"/proc/{self.worker()}/status").read_text()
        kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        return kib * 1024 / 1e6

    def check_pinned(self) -> None:
        """Refuse to measure a server that can run on a core other than its own.

        Raises: RuntimeError.
        """
        cores = set(self.placement.server)
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                if not os.sched_getaffinity(int(task.name)) <= cores:
                    raise RuntimeError(f"{self.name}: thread {task.name} may leave the cores {sorted(cores)}")


def threads_cpu_s(pid: int) -> dict[int, float]:
    """Seconds of processor time that each thread of a process has used."""
    return {int(task.name): _cpu_s(f"{pid}/task/{task.name}") for task in Path(f"/proc/{pid}/task").iterdir()}


def _cpu_s(process: int | str, *, with_ended: bool = False) -> float:
    """Processor time of a process or thread (proc(5)), on demand with that of children it has waited for."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / TICKS_PER_S


def on_cores(cores: Sequence[int], command: Sequence[str]) -> list[str]:
    """A command that runs on these cores alone."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


@contextlib.contextmanager
def serving(
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
        log: file that gets all its output.
        env: variables besides those of this process.
        placement: its cores, and those of its load.

    Raises: RuntimeError when it does not listen within `START_TIMEOUT_S`, or does not end when told to.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            on_cores(placement.server, command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(env or {}),
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


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """That of this process, in which a child finds the benchmarks as a package, wherever it is started."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def _await_listener(process: subprocess.Popen[bytes], name: str, address: str, log: Path) -> None:
    host, _, port = address.rpartition(":")
    give_up = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{name} does not listen on {address}: {log.read_text()[-2000:]}")


def run_pinned(command: Sequence[str], *, cores: Sequence[int], timeout_s: float) -> tuple[str, float]:
    """Run a program on some cores to its end.

    Returns: what it printed, and the seconds of processor time that it used.

    Raises: RuntimeError when it fails, with what it said.
    """
    before = os.times()
    result = subprocess.run(
        on_cores(cores, command),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=_environment({}),
    )
    after = os.times()
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {result.stderr[-2000:] or result.stdout[-2000:]}")
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return result.stdout, used
