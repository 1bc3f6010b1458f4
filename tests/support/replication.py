"""A PostgreSQL with streaming replicas, for tests with a late, lost or promoted replica."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.support.databases import PostgresDatabase, Row
from tests.support.postgres import TEMPLATE, Postgres, binary, new_folder, unprivileged

TIMEOUT_S = 300.0
DATABASE = "storekeep"


class Replication:
    """A primary and its replicas.

    Args:
        folder: Folder with a short path, for the sockets.
        settings: Settings of the primary, such as `synchronous_standby_names`, once its replicas exist.
    """

    def __init__(self, folder: Path, *, replicas: int, settings: dict[str, str]) -> None:
        self.folder = folder
        self.primary = Postgres(folder / "p")
        self.primary.make()
        self.primary.start()
        self.primary.copy(TEMPLATE, DATABASE)
        self.replicas = [make_replica(self.primary, folder / f"r{number}") for number in range(replicas)]
        self._settings = settings
        self._set()

    def _set(self) -> None:
        """Apply the settings of the primary, once its replicas exist."""
        for name, value in self._settings.items():
            self.primary.run(f"ALTER SYSTEM SET {name} = '{value}'")
        self.primary.run("SELECT pg_reload_conf()")
        for replica in self.replicas:
            self.await_replay(replica)

    def fail_over(self) -> None:
        """Kill the primary as a power cut would and promote its replica; the dead server takes the replica's role."""
        self.primary.kill()
        (replica,) = self.replicas
        promote(replica)
        self.primary, self.replicas = replica, [self.primary]

    def rebuild(self) -> None:
        """Recreate the dead replica from the primary, as an operator does with a former primary."""
        (dead,) = self.replicas
        port = dead.port
        dead.remove()
        self.replicas = [make_replica(self.primary, dead.folder, port=port)]
        self._set()

    @property
    def database(self) -> PostgresDatabase:
        """Return the primary's database."""
        return PostgresDatabase(self.primary, DATABASE)

    def url(self, *servers: Postgres) -> str:
        """Return one URL for several servers, over TCP."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        return f"postgresql://postgres@{hosts}/{DATABASE}"

    def await_replay(self, replica: Postgres) -> None:
        """Wait until a replica has replayed everything that the primary has now."""
        ((end,),) = ask(self.primary, "SELECT pg_current_wal_flush_lsn()")
        await_true(lambda: ask(replica, f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == [(True,)])

    def close(self) -> None:
        """Stop all servers."""
        for server in (*self.replicas, self.primary):
            server.stop()
            server.remove()


@contextmanager
def run_replication(*, replicas: int = 1, **settings: str) -> Iterator[Replication]:
    """Start a primary with replicas; stop them at the end of the context."""
    folder = new_folder()
    made = Replication(folder, replicas=replicas, settings=settings)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def make_replica(primary: Postgres, folder: Path, *, port: int = 0) -> Postgres:
    """Copy a running server and start the copy as a streaming replica."""
    replica = Postgres(folder)
    replica.make_folder()
    replica.port = port or replica.port
    source = f"host={primary.folder} port={primary.port} user=postgres application_name={folder.name}"
    command = [*unprivileged(), binary("pg_basebackup"), "-D", replica.data, "-d", source, "-R", "-X", "stream"]
    subprocess.run([*command, "-c", "fast", "--no-sync"], check=True, capture_output=True, cwd=folder)
    replica.start()
    return replica


def promote(replica: Postgres) -> None:
    """Promote a replica to primary, as an operator does."""
    command = [*unprivileged(), binary("pg_ctl"), "promote", "-D", replica.data, "-w", "-t", str(round(TIMEOUT_S))]
    subprocess.run(command, check=True, capture_output=True, cwd=replica.folder)


def ask(server: Postgres, sql: str, *, database: str = DATABASE) -> list[Row]:
    """Return the rows of a statement."""
    with psycopg.connect(server.url(database), autocommit=True, connect_timeout=60) as connection:
        return connection.execute(sql).fetchall()


def await_true(condition: Any) -> None:
    """Wait until a condition is true.

    Raises: TimeoutError.
    """
    give_up = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError
        time.sleep(0.02)
