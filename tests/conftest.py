"""What tests of a running server share. A server costs about a second, so one serves a whole test file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from storekeep.client import Storekeep
from tests.processes import ServerProcess

MakeServer = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with an empty catalogue, shared by the tests of one file."""
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    yield process
    process.kill()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers with settings of their own: `make_server(drain_s="1")`. They end with the test."""
    made: list[ServerProcess] = []

    def make(*arguments: str, data_dir: Path | None = None, **settings: str) -> ServerProcess:
        where = data_dir or tmp_path / f"server-{len(made)}"
        made.append(ServerProcess(where, arguments=arguments, **settings))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    """A bare channel to the server, for what the client library would not send."""
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Storekeep]:
    """The client library, as the administrator."""
    with Storekeep(server.address, api_key=server.admin_key) as opened:
        yield opened
