"""What tests of a running server share. One serves a whole test file, because setting up a shop takes a while.

Every test with a database runs on each engine; `@pytest.mark.engine("sqlite", reason=...)` says of which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from storekeep.client import Storekeep
from tests.support import postgres
from tests.support.databases import ENGINES, Database, new_database
from tests.support.processes import ServerProcess

pytest_plugins = ["tests.support.services"]

MakeServer = Callable[..., ServerProcess]

LONGEST = (
    "supervision/test_supervisor.py",
    "store/test_outages.py",
    "store/test_held_rows.py",
    "hostile/",
    "house/test_install.py",
    "house/test_run.py",
    "process/test_command.py",
    "scenarios/",
    "process/test_drain.py",
    "process/test_healthcheck.py",
    "process/test_inspections.py",
    "store/test_lost_files.py",
    "store/test_postgresql.py",
    "domain/access/test_server_secrets.py",
    "domain/integrity/test_verify_columns.py",
)
"""Files that take a minute or so, and folders of such: they begin first, so that none is left alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marks mean, and where the run's PostgreSQL is going to be."""
    config.addinivalue_line("markers", "engine(name, *, reason): the one engine that a test is about, and why")
    if not hasattr(config, "workerinput"):
        postgres.begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's PostgreSQL."""
    if not hasattr(config, "workerinput"):
        postgres.end_run()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files to the beginning."""
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith(LONGEST))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that has a database on every engine, or on the one that it is marked with."""
    if "engine" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("engine")
        assert mark is None or mark.kwargs["reason"], "a test that is for one engine says why"
        metafunc.parametrize("engine", ENGINES if mark is None else mark.args, indirect=True, scope="module")


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    """The engine that the test runs on."""
    return str(request.param)


@pytest.fixture
def database(engine: str, tmp_path: Path) -> Iterator[Database]:
    """A migrated database of the test's own."""
    made = new_database(engine, tmp_path)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def server(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with an empty catalogue, shared by the tests of one file."""
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database)
    yield process
    process.kill()
    database.remove()


@pytest.fixture
def make_server(engine: str, tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers with settings of their own: `make_server(drain_s="1")`. They end with the test.

    Servers with the same `data_dir` have the same database.
    """
    made: list[ServerProcess] = []
    databases: dict[Path, Database] = {}

    def make(*arguments: str, data_dir: Path | None = None, **settings: Any) -> ServerProcess:
        where = data_dir or tmp_path / f"server-{len(made)}"
        if where not in databases:
            databases[where] = new_database(engine, where)
        made.append(ServerProcess(where, database=databases[where], arguments=arguments, **settings))
        return made[-1]

    yield make
    for process in made:
        process.kill()
    for database in databases.values():
        database.remove()


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
