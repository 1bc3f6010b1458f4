"""A real server in a process of its own, on a free port and a data directory of its own, for tests to call and kill."""

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

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep-server")
# A limit costs nothing until something is broken; a machine that is busy with other things takes its time.
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
LOG_TIMEOUT_S = 60.0
PATIENT = {"queue_wait_max_s": "3600"}
"""Settings of every server of tests: calls that wait are no overload, however slow the machine is. A test of overload
sets its own."""


def server_environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a `storekeep-server`, with nothing of this process's own settings but the fast path.

    So a whole run of the tests can be made with `STOREKEEP_GRPC_FAST_PATH=off`, as CI does with some.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STOREKEEP_") or name == "STOREKEEP_GRPC_FAST_PATH"
    }
    made = {f"STOREKEEP_{name.upper()}": value for name, value in settings.items()}
    return inherited | {"STOREKEEP_DATA_DIR": str(data_dir), "STOREKEEP_LISTEN": "127.0.0.1:0"} | made


def run_command(*arguments: str, data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one `storekeep-server` command to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        env=server_environment(data_dir, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )


class ServerProcess:
    """One server.

    Args:
        environment: of the process, beside its settings.

    Attributes:
        address: where it listens; the same again after `restart`.
        data_dir: where its keys are, and a database of SQLite.
        database: what it serves.
        process: the running process.
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
        self._settings = {"database_url": self.database.url} | PATIENT | settings
        self._address_file = data_dir / "address"
        self.log_file = data_dir / "server.log"
        self.output_file = data_dir / "server.out"
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.start()

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run another `storekeep-server` command with its settings, to its end."""
        return run_command(*arguments, data_dir=self.data_dir, **self._settings | settings)

    @property
    def admin_key(self) -> str:
        """The API key that the first start left."""
        return (self.data_dir / "admin.key").read_text().strip()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._address_file.unlink(missing_ok=True)
        settings = self._settings | ({"listen": self.address} if self.address else {})
        with self.log_file.open("ab") as log, self.output_file.open("ab") as output:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--address-file", str(self._address_file), *self._arguments],
                env=server_environment(self.data_dir, **settings) | self._environment,
                stdout=output,
                stderr=log,
            )
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
        """What it has logged so far."""
        return self.log_file.read_text(errors="replace")

    def await_log(self, text: str) -> None:
        """Wait until it has logged this.

        Raises: TimeoutError.
        """
        give_up = time.monotonic() + LOG_TIMEOUT_S
        while text not in self.log():
            if time.monotonic() > give_up:
                raise TimeoutError(f"not logged: {text}")
            time.sleep(0.02)

    def output(self) -> str:
        """What it has said to who started it."""
        return self.output_file.read_text()

    def kill(self) -> None:
        """End it as a power cut would, and reap it."""
        self.process.kill()
        self.process.wait(timeout=STOP_TIMEOUT_S)

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask it to stop; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> None:
        """Start it again, on the same port and data, after ending it if it runs."""
        if self.process.poll() is None:
            self.stop()
        self.start()
