"""Servers under attack: real processes, one for all tests of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.databases import new_database
from tests.support.hostile.wire import Attacker
from tests.support.processes import ServerProcess

Attack = Callable[..., Attacker]


@pytest.fixture(scope="module")
def server(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that lets calls wait for their turn, as the machine may be busy with other things than the attack.

    How long honest callers wait is measured by themselves.
    """
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, queue_wait_max_s="5")
    yield process
    process.kill()
    database.remove()


@pytest.fixture
def attack(server: ServerProcess) -> Iterator[Attack]:
    """Makes attackers of the file's server; they hang up at the end of the test."""
    made: list[Attacker] = []

    def connect(**how: object) -> Attacker:
        made.append(Attacker(server.address, **how))  # type: ignore[arg-type]
        return made[-1]

    yield connect
    for attacker in made:
        attacker.close()
