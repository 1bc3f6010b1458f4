"""Programs that start fast: `storekeep-server` and `storekeep` as forks of a process that has only imported them.

Imports are most of the time of a start. A program is a process of its own, with its own arguments, environment,
working directory and output, and a child of this process. The tests of the entry point, of the installation and
of the README start programs from nothing.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
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
from typing import IO

REQUEST_BYTES_MAX = 1 << 20
START_TIMEOUT_S = 120.0
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


class _ForkServer:
    """The process that forks one program. It ends with this one, when its socket closes."""

    def __init__(self, program: str) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(START_TIMEOUT_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={name: value for name, value in os.environ.items() if not name.startswith("STOREKEEP_")},
            )

    def fork(self, request: bytes, outputs: Sequence[int]) -> int:
        """Fork a program and return its process id."""
        libc = ctypes.CDLL(None)
        with self._lock:
            libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._socket, [request], outputs)
                return int(self._socket.recv(64))
            finally:
                libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


_lock = threading.Lock()
_servers: dict[str, _ForkServer] = {}


def start_fork(
    command: Sequence[str | Path], *, environment: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
) -> Fork:
    """Start a program.

    Args:
        command: Path of the program, and its arguments.
        environment: The whole environment.
        stdout, stderr: Files for the output.
    """
    name = Path(command[0]).name
    with _lock:
        server = _servers.get(name) or _servers.setdefault(name, _ForkServer(name))
    request = {
        "arguments": [str(argument) for argument in command],
        "environment": dict(environment),
        "folder": os.getcwd(),
    }
    return Fork(server.fork(json.dumps(request).encode(), [stdout.fileno(), stderr.fileno()]))


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
        request, outputs = _receive(requests)
        if not request:
            os._exit(0)
        ours, theirs = os.pipe()
        parent = os.fork()
        if parent:
            os.close(theirs)
            for descriptor in outputs:
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
        return _become(json.loads(request), outputs)


def _receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    size = socket.CMSG_SPACE(2 * array.array("i").itemsize)
    request, ancillary, _, _ = requests.recvmsg(REQUEST_BYTES_MAX, size)
    outputs = array.array("i")
    for _, _, content in ancillary:
        outputs.frombytes(content)
    return request, list(outputs)


def _become(request: Mapping[str, object], outputs: Sequence[int]) -> None:
    for descriptor, output in zip(outputs, (1, 2), strict=True):
        os.dup2(descriptor, output)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["arguments"]


if __name__ == "__main__":
    if sys.argv[1] == "storekeep-server":
        import storekeep.server.command
        import storekeep.server.store.postgresql.driver
        from storekeep.server.__main__ import main
    elif sys.argv[1] == "storekeep-gateway":
        import storekeep.gateway.command
        from storekeep.gateway.__main__ import main
    else:
        import storekeep.cli.app  # noqa: F401 - imported by `main`
        from storekeep.cli.__main__ import main

    serve_forks(socket.socket(fileno=int(sys.argv[2])))
    main()
