"""The example configurations of docs/operations with other addresses, passwords and folders: two PostgreSQL servers
under Patroni, PgBouncer, HAProxy and two Storekeep hosts. Each host dies once, and no acknowledged order is lost.

Requires patroni[etcd3,psycopg3] from PyPI, and Debian's etcd-server, haproxy and pgbouncer on the PATH; skipped
otherwise.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import psycopg
import pytest

from storekeep.server.store.schema import migrate
from tests.support.buyers import open_shop
from tests.support.databases import PostgresDatabase
from tests.support.failovers import OrderCallers
from tests.support.postgres import SERVER_USER, Postgres, binary, free_port, unprivileged
from tests.support.processes import ServerProcess

PROGRAMS = ("patroni", "etcd", "haproxy", "pgbouncer")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
TIMEOUT_S = 60.0
"""Patroni waits 30 s for a primary before a failover."""
EXAMPLES = Path(__file__).parents[2] / "docs" / "operations"
SECRET = "9b1c40f7d2e35a86e07f4c1d93b2a658-of-tests"
PASSWORDS = {name: f"{name.lower()}-of-tests" for name in ("SUPERUSER", "REPLICATION", "REWIND")}
NAMES = ("a", "b")
pytestmark = [
    pytest.mark.engine("postgresql", reason="SQLite has no replica that could take over"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


class Site:
    """All hosts, as processes on this machine.

    Attributes:
        ports: the local port of each address in the examples.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        addresses = ["etcd.example:2379", "127.0.0.1:5000", "127.0.0.1:6432", "grpc.example:50051"]
        addresses += [f"db-{name}.example:{port}" for name in NAMES for port in (5432, 8008)]
        addresses += ["storekeep-a.example:50051", "storekeep-b.example:50051", "metrics-a:1", "metrics-b:1"]
        self.ports = {address: free_port() for address in addresses}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def port(self, address: str) -> int:
        return self.ports[address]

    def adapt(self, example: str, *others: tuple[str, str]) -> str:
        """Return an example adapted to this machine.

        Args:
            others: pairs of old and new text. Each old text must occur.
        """
        text = (EXAMPLES / example).read_text()
        for old, new in others:
            assert old in text, f"{example} has no {old}"
            text = text.replace(old, new)
        for address, port in self.ports.items():
            text = text.replace(address, f"127.0.0.1:{port}")
        assert ".example" not in text, re.findall(r"\S+\.example\S*", text)
        return text

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        shutil.chown(path, SERVER_USER)
        return path

    def start(self, name: str, command: Sequence[Any]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*unprivileged(), *command],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"HOME": str(self.folder)},
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill a process and its children."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def await_true(self, holds: Callable[[], Any], what: str) -> None:
        """Wait until a condition holds. On timeout, fail with `what` and the ends of all logs."""
        deadline = time.monotonic() + TIMEOUT_S
        while not holds():
            assert time.monotonic() < deadline, "\n".join([what, *self.logs()])
            time.sleep(0.1)

    def logs(self) -> Iterator[str]:
        for log in sorted(self.folder.glob("**/*.log")):
            yield f"-- {log.name}\n{log.read_text()[-3000:]}"

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        for name in NAMES:
            postmaster = self.postmaster(name)
            if postmaster:
                os.kill(postmaster, signal.SIGKILL)

    # -- the database's hosts

    def start_etcd(self) -> None:
        url, peers = f"http://127.0.0.1:{self.port('etcd.example:2379')}", f"http://127.0.0.1:{free_port()}"
        command = ["etcd", "--data-dir", self.folder / "etcd", "--name", "etcd", "--listen-client-urls", url]
        command += ["--advertise-client-urls", url, "--listen-peer-urls", peers]
        command += ["--initial-advertise-peer-urls", peers, "--initial-cluster", f"etcd={peers}"]
        self.start("etcd", command)

    def start_database_host(self, name: str) -> None:
        """Start Patroni on one host, which starts PostgreSQL."""
        other = [("db-a", f"db-{name}")] if name != "a" else []
        text = self.adapt(
            "patroni.yml",
            *other,
            ("/var/lib/postgresql/storekeep", str(self.folder / f"data-{name}")),
            ("/usr/lib/postgresql/18/bin", str(binary("postgres").parent)),
            ("mode: required", "mode: 'off'"),
            *((f"{word}-PASSWORD", password) for word, password in PASSWORDS.items()),
            ("samenet", "127.0.0.1/32"),
        )
        text += "  # here\n"
        text = text.replace(
            "postgresql:\n  listen:",
            f"postgresql:\n  parameters: {{unix_socket_directories: {self.folder}}}\n  listen:",
        )
        self.start(f"db-{name}", ["patroni", self.write(f"patroni-{name}.yml", text)])

    def postmaster(self, name: str) -> int:
        pid_file = self.folder / f"data-{name}" / "postmaster.pid"
        pid = int(pid_file.read_text().split()[0]) if pid_file.exists() else 0
        return pid if pid and Path(f"/proc/{pid}").exists() else 0

    def kill_database_host(self, name: str) -> None:
        """Kill Patroni and PostgreSQL, like a power failure."""
        postmaster = self.postmaster(name)
        self.kill(f"db-{name}")
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True).stdout.split()
        for pid in [postmaster, *map(int, children)]:
            os.kill(pid, signal.SIGKILL)

    def superuser(self, name: str, database: str = "postgres") -> psycopg.Connection:
        port = self.port(f"db-{name}.example:5432")
        url = f"postgresql://postgres:{PASSWORDS['SUPERUSER']}@127.0.0.1:{port}/{database}"
        return psycopg.connect(url, autocommit=True, connect_timeout=5)

    def is_primary(self, name: str) -> bool:
        try:
            with self.superuser(name) as connection:
                return connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,)
        except psycopg.OperationalError:
            return False

    def is_synchronous(self, name: str) -> bool:
        """Whether Patroni reports a host as the synchronous replica, which it requires for a failover."""
        page = f"http://127.0.0.1:{self.port(f'db-{name}.example:8008')}/synchronous"
        try:
            with urllib.request.urlopen(page, timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False

    # -- the proxies and Storekeep

    def start_haproxy(self) -> None:
        text = self.adapt(
            "haproxy.cfg",
            ("check port 8008", f"check port {self.port('db-a.example:8008')}"),
            ("port 8009", f"port {self.port('db-b.example:8008')}"),
            ("port 9464", f"port {self.port('metrics-a:1')}"),
            ("port 9465", f"port {self.port('metrics-b:1')}"),
        )
        self.start("haproxy", ["haproxy", "-f", self.write("haproxy.cfg", text)])

    def start_pgbouncer(self) -> None:
        users = self.write("userlist.txt", '"storekeep" "PASSWORD"\n')
        text = self.adapt(
            "pgbouncer.ini",
            ("/etc/pgbouncer/userlist.txt", str(users)),
            ("port=5000", f"port={self.port('127.0.0.1:5000')}"),
            ("listen_port = 6432", f"listen_port = {self.port('127.0.0.1:6432')}"),
        )
        self.start("pgbouncer", ["pgbouncer", self.write("pgbouncer.ini", text)])

    def storekeep(self, name: str, *, pooled: bool) -> ServerProcess:
        """Return a Storekeep host with the settings of the example."""
        folder = self.folder / f"storekeep-{name}"
        others = [
            ("storekeep-a.example:9464", f"127.0.0.1:{self.port(f'metrics-{name}:1')}"),
            ("STOREKEEP_DATA_DIR", "# STOREKEEP_DATA_DIR"),
            ("THE-SAME-SECRET-ON-EVERY-HOST", SECRET),
        ]
        if name != "a":
            others.insert(0, ("storekeep-a.example:50051", f"storekeep-{name}.example:50051"))
        if pooled:
            direct = "STOREKEEP_DATABASE_URL=postgresql://storekeep:PASSWORD@db"
            others += [(direct, f"# {direct}"), ("# STOREKEEP_DATABASE_POOLER", "STOREKEEP_DATABASE_POOLER")]
            others += [("# STOREKEEP_DATABASE_URL=postgresql://storekeep:PASSWORD@127", direct[:-2] + "127")]
        settings = dict(
            line.removeprefix("STOREKEEP_").split("=", 1)
            for line in self.adapt("storekeep.env", *others).splitlines()
            if line.startswith("STOREKEEP_")
        )
        database = PostgresDatabase(Postgres(folder), "storekeep")
        return ServerProcess(folder, database=database, **{key.lower(): value for key, value in settings.items()})


def answers(server: Any) -> bool:
    """Whether a server accepts calls."""
    try:
        with open_shop(server):
            return True
    except grpc.RpcError:
        return False


@pytest.fixture
def site(engine: str) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="sk"))
    folder.chmod(0o755)
    shutil.chown(folder, SERVER_USER)
    site = Site(folder)
    yield site
    site.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_every_host_dies_once_and_no_acknowledged_order_is_lost(site: Site):
    site.start_etcd()
    site.start_database_host("a")
    site.await_true(lambda: site.is_primary("a"), "the first host is not primary")
    site.start_database_host("b")
    site.await_true(lambda: site.is_synchronous("b"), "there is no synchronous replica")
    with site.superuser("a") as connection:
        connection.execute("CREATE USER storekeep PASSWORD 'PASSWORD'")
        connection.execute("CREATE DATABASE storekeep OWNER storekeep ENCODING UTF8 TEMPLATE template0")
    direct = site.adapt("storekeep.env", ("storekeep-a.example:9464", ""))
    migrate(re.findall(r"^STOREKEEP_DATABASE_URL=(.*)$", direct, re.MULTILINE)[0])
    site.start_haproxy()
    site.start_pgbouncer()
    with ExitStack() as stack:
        servers = []
        for name in NAMES:
            servers.append(site.storekeep(name, pooled=name == "b"))
            stack.callback(servers[-1].kill)
        entrance = SimpleNamespace(
            address=f"127.0.0.1:{site.port('grpc.example:50051')}", admin_key=servers[0].admin_key, run=servers[0].run
        )
        site.await_true(lambda: answers(entrance), "the load balancer forwards no calls")
        orderers = OrderCallers(entrance)  # type: ignore[arg-type]  # the part of a server that it uses
        with orderers.ordering():
            orderers.await_orders()
            for dying, other in (("a", "b"), ("b", "a")):
                site.kill_database_host(dying)
                begun = time.monotonic()
                site.await_true(lambda: site.is_primary(other), "no host took over")  # noqa: B023 - called at once
                orderers.await_orders()
                print(f"\ndb-{dying} died; orders went on after {time.monotonic() - begun:.0f} s")  # noqa: T201
                site.start_database_host(dying)
                site.await_true(lambda: site.is_synchronous(dying), "the dead host did not come back")  # noqa: B023
            for server in servers:
                server.kill()
                orderers.await_orders()
                server.start()
                time.sleep(3)
        orderers.check()
