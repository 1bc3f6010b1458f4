"""What is measured: Storekeep, its floors and its peer, each started on the servers' core in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.databases import Database, SqliteFile
from benchmarks.machine import APART, ROOT, SERVER_CORE, Placement, Server, free_address, serving
from benchmarks.peers.fastapi_shop import setup
from storekeep.v1 import auth_pb2, auth_pb2_grpc

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep-server")
ROOTS = ("generated", "server", "clients")
"""The folders of a checkout in which the program is."""
RUN_SOURCE = "from storekeep.server.command import main; main()"
PEER = "benchmarks.peers.fastapi_shop"
PEER_SETTINGS = ("--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log")
MIGRATION_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 30.0
TOKEN_LIFE_S = 240.0
"""After so long a new token is taken, well within the 10 minutes that one lasts."""


@dataclass
class Storekeep:
    """A running Storekeep.

    Attributes:
        server: its process.
        database: where it keeps everything.
        channel: to it, for whatever is not measured.
    """

    server: Server
    database: Database
    channel: grpc.Channel
    api_key: str
    _token: str = ""
    _renew_at: float = 0.0

    def token(self) -> str:
        """An access token that is good for at least a round."""
        if time.monotonic() > self._renew_at:
            request = auth_pb2.IssueTokenRequest(api_key=self.api_key)
            issued = auth_pb2_grpc.AuthServiceStub(self.channel).IssueToken(
                request, timeout=CALL_TIMEOUT_S, wait_for_ready=True
            )
            self._token, self._renew_at = issued.access_token, time.monotonic() + TOKEN_LIFE_S
        return self._token

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call needs to be let in."""
        return (("authorization", f"Bearer {self.token()}"),)


@contextlib.contextmanager
def storekeep(
    folder: Path,
    *,
    name: str = "storekeep",
    database: Database | None = None,
    placement: Placement = APART,
    workers: int = 1,
    source: Path | None = None,
) -> Iterator[Storekeep]:
    """Storekeep with its defaults, on a database that is made when missing.

    Args:
        folder: of its data.
        database: a SQLite file in the folder when not given.
        workers: its processes; a single one stays on the servers' core, several choose cores of their own.
        source: a checkout of another commit, to serve that program; this one when not given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address, database = free_address(), database or SqliteFile(folder / "storekeep.db")
    env = {
        "STOREKEEP_DATA_DIR": str(folder),
        "STOREKEEP_DATABASE_URL": database.storekeep_url,
        "STOREKEEP_LISTEN": address,
        "STOREKEEP_PIN_CPU": str(SERVER_CORE) if workers == 1 else "",
    }
    program = [str(COMMAND)]
    if source is not None:
        program = [sys.executable, "-c", RUN_SOURCE]
        env["PYTHONPATH"] = os.pathsep.join([*(str(source / root) for root in ROOTS), str(ROOT)])
    _migrate(program, env)
    command = [*program, "serve", *(["--workers", str(workers)] if workers > 1 else [])]
    log = folder / "server.log"
    with (
        serving(name, command, address=address, log=log, env=env, placement=placement) as server,
        grpc.insecure_channel(address) as channel,
    ):
        yield Storekeep(server, database, channel, (folder / "admin.key").read_text().strip())


def _migrate(program: list[str], env: dict[str, str]) -> None:
    """Make the tables, or bring them up to date. Raises: RuntimeError."""
    command = [*program, "migrate"]
    result = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=MIGRATION_TIMEOUT_S
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr[-2000:]}")


@contextlib.contextmanager
def echo(folder: Path, product: bytes, *, placement: Placement = APART) -> Iterator[Server]:
    """The bare gRPC server that answers this product."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "product"
    file.write_bytes(product)
    address = free_address()
    command = [sys.executable, "-m", "benchmarks.floors.echo", "--listen", address, "--product", str(file)]
    log = folder / "echo.log"
    with serving("grpcio echo", command, address=address, log=log, placement=placement) as server:
        yield server


@dataclass
class Peer:
    """The running peer."""

    server: Server
    database: Database
    token: str


@contextlib.contextmanager
def peer(
    folder: Path, *, tuning: str, database: Database | None = None, placement: Placement = APART
) -> Iterator[Peer]:
    """The FastAPI service, on an empty database that gets the same catalogue.

    Args:
        folder: of its files; a SQLite file there is the database when none is given.
        tuning: `usual` or `tuned`.
    """
    database = database or SqliteFile(folder / "shop.db")
    token = setup.set_up(folder, database.sqlalchemy_url)
    address = free_address()
    host, _, port = address.rpartition(":")
    command = [sys.executable, "-m", "uvicorn", f"{PEER}.{tuning}:app", "--host", host, "--port", port, *PEER_SETTINGS]
    env, log = setup.environment(folder, database.sqlalchemy_url), folder / "peer.log"
    with serving(f"FastAPI, {tuning}", command, address=address, log=log, env=env, placement=placement) as server:
        yield Peer(server, database, token)
