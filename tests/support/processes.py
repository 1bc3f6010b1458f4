"""A real server process on a free port and with its own data directory, for tests to call and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.support.databases import Database, new_database
from tests.support.forks import Fork, run_fork, start_fork

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep-server")
# Generous limits: they cost nothing unless something is broken, and the machine may be busy.
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 300.0
LOG_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 300.0
OF_THE_INTERPRETER = ("LD_", "PYTHON", "MALLOC_", "GLIBC_", "GRPC_")
"""Beginnings of variables that matter before a program runs, so that it cannot be a fork."""
NO_BALANCER = {"STOREKEEP_DRAIN_NOTICE_S": "0"}
PATIENT_SETTINGS = {"queue_wait_max_s": "3600"}
"""Settings of every test server: waiting calls are no overload, however slow the machine is. Overload tests override
them."""


def server_environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a `storekeep-server`, without this process's own settings except the fast path.

    So `STOREKEEP_GRPC_FAST_PATH=off` applies to a whole test run, as CI does with some files.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STOREKEEP_") or name == "STOREKEEP_GRPC_FAST_PATH"
    }
    made = {f"STOREKEEP_{name.upper()}": value for name, value in settings.items()}
    return inherited | {"STOREKEEP_DATA_DIR": str(data_dir), "STOREKEEP_LISTEN": "127.0.0.1:0"} | NO_BALANCER | made


def run_command(*arguments: str, data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a `storekeep-server` command to its end."""
    environment = server_environment(data_dir, **settings)
    return run_fork([COMMAND, *arguments], environment=environment, timeout_s=COMMAND_TIMEOUT_S)


class ServerProcess:
    """A server process.

    Args:
        environment: Environment of the process, in addition to its settings.

    Attributes:
        address: Listening address; `restart` keeps it.
        data_dir: Directory of its keys and of a SQLite database.
        database: Database that it serves.
        process: Running process.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database: Database | None = None,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        **settings: str,
    ) -> None:
        self.data_dir = data_dir
        self.database = database or new_database("sqlite", data_dir)
        self.address = ""
        self._arguments = arguments
        self._environment = environment
        self._settings = {"database_url": self.database.url} | PATIENT_SETTINGS | settings
        self._address_file = data_dir / "address"
        self.log_file = data_dir / "server.log"
        self.output_file = data_dir / "server.out"
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.start()

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run another `storekeep-server` command with the same settings, to its end."""
        return run_command(*arguments, data_dir=self.data_dir, **self._settings | settings)

    @property
    def admin_key(self) -> str:
        """API key that the first start created."""
        return (self.data_dir / "admin.key").read_text().strip()

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self._address_file.unlink(missing_ok=True)
        settings = self._settings | ({"listen": self.address} if self.address else {})
        command = [COMMAND, "serve", "--address-file", str(self._address_file), *self._arguments]
        environment = server_environment(self.data_dir, **settings) | self._environment
        with self.log_file.open("ab") as log, self.output_file.open("ab") as output:
            self.process: Fork | subprocess.Popen[bytes]
            if any(name.startswith(OF_THE_INTERPRETER) for name in self._environment):
                self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=log)
            else:
                self.process = start_fork(command, environment=environment, stdout=output, stderr=log)
        self._await_address()

    def _await_address(self) -> None:
        give_up = time.monotonic() + START_TIMEOUT_S
        while not self._address_file.exists():
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.process.kill()
                raise AssertionError(f"the server did not start:\n{self.log()[-4000:]}")
            time.sleep(0.01)
        self.address = self._address_file.read_text().strip()

    def log(self) -> str:
        """Return its log so far."""
        return self.log_file.read_text(errors="replace")

    def await_log(self, text: str) -> None:
        """Wait until the log contains a text.

        Raises: TimeoutError.
        """
        give_up = time.monotonic() + LOG_TIMEOUT_S
        while text not in self.log():
            if time.monotonic() > give_up:
                raise TimeoutError(f"not logged: {text}")
            time.sleep(0.02)

    def output(self) -> str:
        """Return its console output."""
        return self.output_file.read_text()

    def kill(self) -> None:
        """Kill the server as a power cut would, and reap it."""
        self.process.kill()
        self.process.wait(timeout=STOP_TIMEOUT_S)

    def signal_until_exit(self) -> int:
        """Send stop signals until the server ends, and return its exit code."""
        give_up_s = time.monotonic() + STOP_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < give_up_s:
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        return self.process.wait(timeout=0)

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop the server; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> None:
        """Kill the server if it runs and start it again, on the same port and data."""
        if self.process.poll() is None:
            self.stop()
        self.start()
