"""What tests of a running server share. One serves a whole test file, because setting up a shop takes a while.

Every test with a database runs on each engine, except those of clients. `@pytest.mark.engine("sqlite", reason=...)`
names the one engine that a test is about.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from storekeep.client import Storekeep
from tests.support import postgres
from tests.support.databases import ENGINES, Database, new_database
from tests.support.processes import ServerProcess

pytest_plugins = ["tests.support.services", "tests.support.cpu_times"]

CLIENTS = ("cli", "gateway")
"""Folders of tests that see only what a server replies, which is the same on each engine: other tests prove that."""
MakeServer = Callable[..., ServerProcess]
CALL_TIMEOUT_S = 60.0
"""Deadline of the client library's calls if a test chooses none: on a busy host, some take longer than its 10 s."""

LONGEST = (
    "gateway/test_openapi_cases.py",
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
    "telemetry/test_otel.py",
    "console/test_browser.py",
    "console/test_every_page.py",
    "domain/access/test_server_secrets.py",
    "domain/integrity/test_verify_columns.py",
)
"""Files that take a minute or so, and folders of such: they begin first, so that none is left alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marks mean, let calls take longer, and choose where the run's PostgreSQL is going to be."""
    config.addinivalue_line("markers", "engine(name, *, reason): the one engine that a test is about, and why")
    config.addinivalue_line("markers", "fast_path: a test of limits that gRPC's own way of serving calls does not have")
    Storekeep.__init__.__kwdefaults__["timeout_s"] = CALL_TIMEOUT_S
    if not hasattr(config, "workerinput"):
        postgres.begin_run()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Load the tests without garbage collection, and leave them out of later ones: they stay until the end.

    Passes over them took a third of the CPU: 1.9 of 5.7 s for 6,800 tests, in each process (2026-11-30).
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's PostgreSQL."""
    if not hasattr(config, "workerinput"):
        postgres.end_run()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files to the beginning, and skip the tests of the fast path if it is switched off."""
    if os.environ.get("STOREKEEP_GRPC_FAST_PATH") == "off":
        for item in items:
            if item.get_closest_marker("fast_path") is not None:
                item.add_marker(pytest.mark.skip(reason="the limit belongs to the fast path, which is switched off"))
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith(LONGEST))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that has a database on every engine, those of clients on one, and others as they are marked."""
    if "engine" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("engine")
        assert mark is None or mark.kwargs["reason"], "a test that is for one engine says why"
        engines = ENGINES[:1] if metafunc.definition.path.parent.name in CLIENTS else ENGINES
        metafunc.parametrize("engine", engines if mark is None else mark.args, indirect=True, scope="module")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a server in this process does to the logging: the next test would miss records below its level."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


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
