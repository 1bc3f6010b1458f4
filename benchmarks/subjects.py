"""The measured servers: Storekeep, the echo floor and the peer, each with its own folder on the servers' core."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import grpc

from benchmarks.databases import Database, SqliteFile
from benchmarks.machine import APART, ROOT, SERVER_CORE, Placement, Server, find_free_address, run_server
from benchmarks.peers.fastapi_shop import setup
from storekeep.v1 import auth_pb2, auth_pb2_grpc

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep-server")
ROOTS = ("generated", "server", "clients")
"""The folders of a checkout that contain the program."""
RUN_SOURCE = "from storekeep.server.command import main; main()"
CLEAR_PROGRAM = (sys.executable, "-m", "benchmarks.floors.clear_text")
PEER = "benchmarks.peers.fastapi_shop"
PEER_SETTINGS = ("--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log")
MIGRATION_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 30.0
TOKEN_LIFE_S = 240.0
"""Age after which a token is replaced, well below its lifetime of 10 minutes."""


@dataclass
class Storekeep:
    """A running Storekeep.

    Attributes:
        server: its process.
        database: its database.
        channel: channel for calls that are not measured.
    """

    server: Server
    database: Database
    channel: grpc.Channel
    api_key: str
    _token: str = ""
    _renew_at: float = 0.0

    def get_token(self) -> str:
        """Return an access token that is valid for at least one round."""
        if time.monotonic() > self._renew_at:
            request = auth_pb2.IssueTokenRequest(api_key=self.api_key)
            issued = auth_pb2_grpc.AuthServiceStub(self.channel).IssueToken(
                request, timeout=CALL_TIMEOUT_S, wait_for_ready=True
            )
            self._token, self._renew_at = issued.access_token, time.monotonic() + TOKEN_LIFE_S
        return self._token

    def build_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata that authenticates a call."""
        return (("authorization", f"Bearer {self.get_token()}"),)


@contextlib.contextmanager
def run_storekeep(
    folder: Path,
    *,
    name: str = "storekeep",
    database: Database | None = None,
    placement: Placement = APART,
    workers: int = 1,
    source: Path | None = None,
    program: Sequence[str] | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Storekeep]:
    """Run Storekeep with its defaults until the block ends. Its database is created if missing.

    Args:
        folder: its data directory.
        database: default: a SQLite file in the folder.
        workers: number of processes. A single process is pinned to the servers' core, several are not.
        source: a checkout of another commit to run. Default: this checkout.
        program: another command that takes the arguments of `storekeep-server`.
        settings: settings other than the defaults, as environment variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address, database = find_free_address(), database or SqliteFile(folder / "storekeep.db")
    env = {
        "STOREKEEP_DATA_DIR": str(folder),
        "STOREKEEP_DATABASE_URL": database.storekeep_url,
        "STOREKEEP_LISTEN": address,
        "STOREKEEP_PIN_CPU": str(SERVER_CORE) if workers == 1 else "",
        **settings,
    }
    program = list(program or (str(COMMAND),))
    if source is not None:
        program = [sys.executable, "-c", RUN_SOURCE]
        env["PYTHONPATH"] = os.pathsep.join([*(str(source / root) for root in ROOTS), str(ROOT)])
    _migrate(program, env)
    command = [*program, "serve", *(["--workers", str(workers)] if workers > 1 else [])]
    log = folder / "server.log"
    with (
        run_server(name, command, address=address, log=log, env=env, placement=placement) as server,
        grpc.insecure_channel(address) as channel,
    ):
        yield Storekeep(server, database, channel, (folder / "admin.key").read_text().strip())


def _migrate(program: list[str], env: dict[str, str]) -> None:
    """Create or migrate the tables.

    Raises: RuntimeError if the command fails.
    """
    command = [*program, "migrate"]
    result = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=MIGRATION_TIMEOUT_S
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr[-2000:]}")


@contextlib.contextmanager
def run_echo(folder: Path, product: bytes, *, placement: Placement = APART) -> Iterator[Server]:
    """Run the bare gRPC server that returns this product, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "product"
    file.write_bytes(product)
    address = find_free_address()
    command = [sys.executable, "-m", "benchmarks.floors.echo", "--listen", address, "--product", str(file)]
    log = folder / "echo.log"
    with run_server("grpcio echo", command, address=address, log=log, placement=placement) as server:
        yield server


@dataclass
class Peer:
    """The running peer."""

    server: Server
    database: Database
    token: str


@contextlib.contextmanager
def run_peer(
    folder: Path, *, tuning: str, database: Database | None = None, placement: Placement = APART
) -> Iterator[Peer]:
    """Run the FastAPI service until the block ends, on an empty database that is filled with the same catalogue.

    Args:
        folder: folder of its files.
        tuning: `usual` or `tuned`.
        database: default: a SQLite file in the folder.
    """
    database = database or SqliteFile(folder / "shop.db")
    token = setup.set_up(folder, database.sqlalchemy_url)
    address = find_free_address()
    host, _, port = address.rpartition(":")
    command = [sys.executable, "-m", "uvicorn", f"{PEER}.{tuning}:app", "--host", host, "--port", port, *PEER_SETTINGS]
    env, log = setup.build_environment(folder, database.sqlalchemy_url), folder / "peer.log"
    with run_server(f"FastAPI, {tuning}", command, address=address, log=log, env=env, placement=placement) as server:
        yield Peer(server, database, token)
