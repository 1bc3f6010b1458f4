"""Fixtures for hostile tests: real server processes, one per file, and attackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.support.databases import new_database
from tests.support.hostile.accounts import IMPERSONAL, make_account, sign_in
from tests.support.hostile.wire import Attacker
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.shops import Shop

Attack = Callable[..., Attacker]


@pytest.fixture(scope="module")
def server(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server with long queue limits, because the machine may be busy with more than the attack.

    How long honest callers wait is measured by themselves.
    """
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, queue_wait_max_s="5")
    yield process
    process.kill()
    database.remove()


@pytest.fixture(scope="module")
def admin(server: ServerProcess, channel: grpc.Channel) -> Shop:
    """Sign in as the administrator."""
    return Shop(channel, api_key=server.admin_key)


@pytest.fixture(scope="module")
def records(server: ServerProcess) -> Records:
    """Open the records of the database."""
    return Records(server.database)


@pytest.fixture(scope="module")
def impersonal(channel: grpc.Channel, admin: Shop) -> Shop:
    """Sign in with all permissions but the one for personal data."""
    return sign_in(channel, admin, make_account(admin, permissions=IMPERSONAL))


@pytest.fixture
def attack(server: ServerProcess) -> Iterator[Attack]:
    """Connect attackers to the file's server; they disconnect at the end of the test."""
    attackers: list[Attacker] = []

    def connect(**options: object) -> Attacker:
        attackers.append(Attacker(server.address, **options))  # type: ignore[arg-type]
        return attackers[-1]

    yield connect
    for attacker in attackers:
        attacker.close()
