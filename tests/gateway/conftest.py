"""One gateway for each test file, in front of the file's server, and the server of the walk through all operations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.walk.users import get_provider
from tests.support.databases import new_database
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess
from tests.support.providers import wait_for_keys


@pytest.fixture(scope="module")
def gateway(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve HTTP in front of the file's server, with limits that tests can reach."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    process = GatewayProcess(
        folder,
        server_address=server.address,
        api_key=server.admin_key,
        body_size_max_bytes="65536",
        header_timeout_s="3",
        body_timeout_s="1",
        cors_origins="https://shop.example",
        console="off",
    )
    yield process
    process.process.kill()


@pytest.fixture(scope="module")
def walk_server(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that trusts the identity provider of the walk."""
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, **get_provider().get_settings())
    wait_for_keys(process.address)
    yield process
    process.kill()
    database.remove()
