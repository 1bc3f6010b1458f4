"""Fixtures of the service tests: a shop on the file's server, its records, and separate installations."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.transport.executors import CallExecutor, CallPool, CooperativeExecutor
from tests.support.concurrent_clients import open_shops
from tests.support.databases import Database
from tests.support.installations import Caller, Installation
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.routes import TIMEOUT_S
from tests.support.shops import Shop


@pytest.fixture(scope="module")
def shop(server: ServerProcess, channel: grpc.Channel) -> Shop:
    """Connect the administrator's stubs to the server of this file."""
    return Shop(channel, api_key=server.admin_key)


@pytest.fixture(scope="module")
def shops(server: ServerProcess) -> Iterator[list[Shop]]:
    """Connect several shops on separate connections."""
    with open_shops(server) as opened:
        yield opened


@pytest.fixture(scope="module")
def records(server: ServerProcess) -> Records:
    """Open the database of the server of this file."""
    return Records(server.database)


@pytest.fixture(params=[CallPool, CooperativeExecutor])
def pool(request: pytest.FixtureRequest) -> Iterator[CallExecutor]:
    """Create an executor for calls that a test serves itself, one of each kind."""
    made = request.param(2, name="test", admission=AdmissionController(WRITES, length_max=1_000, wait_max_s=TIMEOUT_S))
    yield made
    made.shutdown(wait=False)


@pytest.fixture
def installation(database: Database) -> Iterator[Installation]:
    """Serve a database of the test in this process, so that the test can reach behind the services."""
    made = Installation(database)
    server = made.serve()
    yield made
    server.stop(grace=0).wait(timeout=60)
    made.store.close()


@pytest.fixture
def nobody(installation: Installation) -> Iterator[Caller]:
    """Create a caller of the installation without a token."""
    with grpc.insecure_channel(installation.address) as channel:
        yield Caller(channel)


@pytest.fixture
def admin(installation: Installation, nobody: Caller) -> Caller:
    """Create a caller as the installation's administrator."""
    return nobody.with_key(installation.admin_key)
