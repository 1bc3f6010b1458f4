"""One gateway for each test file, in front of the file's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess


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
    )
    yield process
    process.process.kill()
