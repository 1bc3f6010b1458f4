"""Programs that start fast: `storekeep-server` and `storekeep` as forks of a process that has only imported them.

Imports are most of the time of a start, and much of the rest is the same in each. A program is a process of its own,
with its own arguments, environment, working directory and output, and a child of this process. It inherits ignored
signals. So it is with the workers of a server. The tests of the entry point, of the installation and of the README
start programs from nothing.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

REQUEST_BYTES_MAX = 1 << 20
DESCRIPTORS_MAX = 4
CONTROL = 50
"""Descriptor of a worker's control socket, beyond those that it is forked with."""
START_TIMEOUT_S = 300.0
SET_CHILD_SUBREAPER = 36
"""An operation of prctl(2): orphaned descendants become children of this process."""


class Fork:
    """A running program, with the names of `subprocess.Popen`.

    Args:
        pid: Its process id.

    Attributes:
        pid: As given.
        returncode: Its exit code, negative for a signal; None until `poll` or `wait` has seen its end.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return the exit code; None while the program runs."""
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
                    os.close(self._descriptor)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the program has ended.

        Raises: subprocess.TimeoutExpired.
        """
        give_up = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left_s = 1.0 if give_up is None else min(1.0, give_up - time.monotonic())
            if left_s <= 0:
                raise subprocess.TimeoutExpired("storekeep-server", timeout or 0.0)
            with contextlib.suppress(OSError):  # another thread may have seen the end
                select.select([self._descriptor], [], [], left_s)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the program."""
        self.send_signal(signal.SIGKILL)


class _Forks:
    """Asks a process for forks of itself, which become children of this process.

    Args:
        connection: Connection to the process, which runs `serve_forks` at the other end, and ends when it closes.
        process: The process, if `subprocess` has started it.
    """

    def __init__(self, connection: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self._lock = threading.Lock()
        self._process = process
        self._connection = connection
        self._connection.settimeout(START_TIMEOUT_S)

    def fork(self, arguments: Sequence[str], *, environment: Mapping[str, str], descriptors: Mapping[int, int]) -> Fork:
        """Start a program.

        Args:
            arguments, environment: Those of the program.
            descriptors: Its descriptors, each with the one of this process that it is a copy of.
        """
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": os.getcwd(),
            "descriptors": list(descriptors),
            "ignored": [int(one) for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN],
        }
        libc = ctypes.CDLL(None)
        with self._lock:
            libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._connection, [json.dumps(request).encode()], list(descriptors.values()))
                return Fork(int(self._connection.recv(64)))
            finally:
                libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _start_forks(program: str) -> _Forks:
    """Start the process that forks one program."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, program, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")},
        )
    return _Forks(ours, process)


_lock = threading.Lock()
_servers: dict[str, _Forks] = {}


def start_fork(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    stdout: IO[Any] | int,
    stderr: IO[Any] | int,
    stdin: IO[Any] | int | None = None,
) -> Fork:
    """Start a program.

    Args:
        command: Path of the program, and its arguments.
        environment: The whole environment.
        stdout, stderr: Files for the output, or their descriptors.
        stdin: File for the input; default: that of this process.
    """
    name = Path(command[0]).name
    with _lock:
        server = _servers.get(name) or _servers.setdefault(name, _start_forks(name))
    files = {0: stdin, 1: stdout, 2: stderr}
    descriptors = {
        number: file if isinstance(file, int) else file.fileno() for number, file in files.items() if file is not None
    }
    return server.fork([str(argument) for argument in command], environment=environment, descriptors=descriptors)


def run_fork(
    command: Sequence[str | Path], *, environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and capture its output.

    Args:
        command, environment: See `start_fork`.
        timeout_s: Longest time for it; then it is killed.

    Raises: subprocess.TimeoutExpired.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        program = start_fork(command, environment=environment, stdout=output, stderr=errors)
        try:
            code = program.wait(timeout=timeout_s)
        finally:
            program.kill()
        return subprocess.CompletedProcess(command, code, _read_all(output), _read_all(errors))


def _read_all(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


# -- the process that forks


def serve_forks(requests: socket.socket) -> None:
    """Fork a program for each request, until the other side is gone. Returns in each program, ready to run."""
    while True:
        request, received = _receive(requests)
        if not request:
            os._exit(0)
        ours, theirs = os.pipe()
        parent = os.fork()
        if parent:
            os.close(theirs)
            for descriptor in received:
                os.close(descriptor)
            with open(ours, "rb") as pids:
                pid = pids.read()
            os.waitpid(parent, 0)
            requests.send(pid)
            continue
        program = os.fork()
        if program:  # the program becomes a child of the process that asked
            os.write(theirs, str(program).encode())
            os._exit(0)
        os.close(ours)
        os.close(theirs)
        requests.close()
        return _become(json.loads(request), received)


def _receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    size = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)
    request, ancillary, _, _ = requests.recvmsg(REQUEST_BYTES_MAX, size)
    received = array.array("i")
    for _, _, content in ancillary:
        received.frombytes(content)
    return request, list(received)


def _become(request: Mapping[str, Any], received: Sequence[int]) -> None:
    for descriptor, wanted in zip(received, request["descriptors"], strict=True):
        if descriptor != wanted:
            os.dup2(descriptor, wanted)
            os.close(descriptor)
    for ignored in request["ignored"]:
        signal.signal(ignored, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["arguments"]


# -- workers


def has_workers() -> bool:
    """Return whether this program is a server that may start workers."""
    return "--workers" in sys.argv or os.environ.get("STOREKEEP_WORKERS", "1") != "1"


def fork_workers() -> None:
    """Let this program start its workers as forks, of a process that it forks now, while it has no threads.

    Tests of signals at the start and of a closed terminal, and those with a faulty disk, start them from nothing.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        ours.close()
        serve_forks(theirs)
        os.setpgid(0, 0)
        worker.main()
        sys.exit()
    theirs.close()
    forks = _Forks(ours)

    def start_process(descriptor: int) -> Fork:
        with open(os.devnull, "rb") as nothing:
            descriptors = {0: nothing.fileno(), 1: 1, 2: 2, CONTROL: descriptor}
            return forks.fork([worker.__file__, str(CONTROL)], environment=os.environ, descriptors=descriptors)

    spawning.start_process = start_process


def compile_rules() -> None:
    """Compile the rules of all requests, which a server does at its start or for the first request of a type."""
    from storekeep.server.interceptors.validation import VALIDATOR
    from storekeep.server.interceptors.violations import Violations
    from storekeep.server.interceptors.wire_bounds import WireBounds
    from storekeep.server.transport.contract import read_contract
    from storekeep.server.transport.personal_data import has_personal_data

    for method in read_contract().methods.values():
        VALIDATOR.collect_violations(method.request_type(), fail_fast=True)
        Violations(method.request_type.DESCRIPTOR, VALIDATOR)
        WireBounds(method.request_type.DESCRIPTOR)
        has_personal_data(method.request_type.DESCRIPTOR)
        has_personal_data(method.response_type.DESCRIPTOR)


if __name__ == "__main__":
    if sys.argv[1] == "storekeep-server":
        import storekeep.server.commands.errors
        import storekeep.server.process.inspections
        import storekeep.server.process.obstacles
        import storekeep.server.store.postgresql.driver
        from storekeep.server.__main__ import main
        from storekeep.server.command import COMMANDS
        from storekeep.server.supervision import spawning, worker

        for command in COMMANDS.values():
            command.load()
        compile_rules()
    elif sys.argv[1] == "storekeep-gateway":
        import storekeep.gateway.command
        import storekeep.gateway.serving
        from storekeep.gateway.__main__ import main
    else:
        import storekeep.cli.app  # noqa: F401 - imported by `main`
        from storekeep.cli.__main__ import main

    gc.collect()
    gc.freeze()  # a program that collects its garbage passes over what it did not make
    program = sys.argv[1]
    serve_forks(socket.socket(fileno=int(sys.argv[2])))
    if program == "storekeep-server" and has_workers():
        fork_workers()
    main()
