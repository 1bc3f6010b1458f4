"""Databases for tests, for every engine that Storekeep supports: created fast, and read and changed directly."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import apsw
import psycopg

from storekeep.server.store.postgresql.driver import WRITE_LOCK
from storekeep.server.store.schema import migrate
from storekeep.server.store.urls import make_sqlite_url
from tests.support import postgres

ENGINES = ("sqlite", "postgresql")
Row = tuple[Any, ...]


class Session(Protocol):
    """A connection of the test itself; placeholders are `?`."""

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Run a statement and return its rows."""

    def run(self, sql: str, *values: Any) -> int:
        """Run a statement and return the number of changed rows."""


class Database(Protocol):
    """A database of one test, or of one file of tests.

    Attributes:
        engine: Name of the engine.
        url: URL for the server.
    """

    engine: str
    url: str

    def opened(self) -> Any:
        """Return a context with a `Session` that commits each statement."""

    def write_lock(self) -> Any:
        """Return a context in which another session holds the write lock."""

    def everything(self) -> dict[str, list[Row]]:
        """Return all rows of all tables, to check that nothing changed."""

    def unguarded(self) -> Any:
        """Return a context with a `Session` that may violate the database's constraints."""

    def copy(self, folder: Path) -> Database:
        """Copy the database; no other session may use it meanwhile."""

    def remove(self) -> None:
        """Delete the database."""


def new_database(engine: str, folder: Path, *, migrated: bool = True) -> Database:
    """Create a database; SQLite puts it in the folder, unless there is one, such as a restored one."""
    if engine == "postgresql":
        server = postgres.get_run_postgres()
        return PostgresDatabase(server, server.create(migrated=migrated))
    database = SqliteDatabase(folder / "storekeep.db")
    if migrated and not database.path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(_make_sqlite_template(), database.path)
    return database


@cache
def _make_sqlite_template() -> Path:
    """Create a migrated database for this process, and return its path. A copy takes a tenth of a migration's time."""
    folder = tempfile.mkdtemp(prefix="sk")
    atexit.register(shutil.rmtree, folder)
    template = SqliteDatabase(Path(folder, "template.db"))
    migrate(template.url)
    return template.path


# -- SQLite


class SqliteSession:
    """A `Session` on SQLite."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        self._connection.execute(sql, values)
        return self._connection.changes()


class SqliteDatabase:
    """A SQLite database file."""

    engine = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = make_sqlite_url(path)

    @contextmanager
    def opened(self) -> Iterator[SqliteSession]:
        with closing(apsw.Connection(str(self.path))) as connection:
            connection.set_busy_timeout(10_000)
            yield SqliteSession(connection)

    @contextmanager
    def unguarded(self) -> Iterator[SqliteSession]:
        with self.opened() as session:
            session.run("PRAGMA ignore_check_constraints = ON")
            guards = session.rows("SELECT name, sql FROM sqlite_schema WHERE sql LIKE '%RAISE(ABORT%'")
            for trigger, _ in guards:
                session.run(f"DROP TRIGGER {trigger}")
            yield session
            for _, sql in guards:
                session.run(sql)

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        with self.opened() as session:
            session.run("BEGIN IMMEDIATE")
            yield
            session.run("ROLLBACK")

    def everything(self) -> dict[str, list[Row]]:
        with self.opened() as session:
            session.run("BEGIN")
            tables = session.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            return {name: session.rows(f'SELECT * FROM "{name}"') for (name,) in tables}

    def copy(self, folder: Path) -> SqliteDatabase:
        shutil.copy(self.path, folder / self.path.name)
        return SqliteDatabase(folder / self.path.name)

    def remove(self) -> None:
        """Do nothing: the file is deleted with its folder."""


# -- PostgreSQL


class PostgresSession:
    """A `Session` on PostgreSQL."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def _execute(self, sql: str, values: Sequence[Any]) -> psycopg.Cursor:
        return self.connection.execute(sql.replace("%", "%%").replace("?", "%s"), values)

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        return self._execute(sql, values).rowcount


class PostgresDatabase:
    """A database on the PostgreSQL server of the test run."""

    engine = "postgresql"

    def __init__(self, server: postgres.Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url(name)

    @contextmanager
    def opened(self) -> Iterator[PostgresSession]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=60) as connection:
            yield PostgresSession(connection)

    @contextmanager
    def unguarded(self) -> Iterator[PostgresSession]:
        """Open a session without triggers, including those of foreign keys, and without CHECK constraints."""
        with self.opened() as session:
            checks = session.rows(
                "SELECT CAST(CAST(conrelid AS regclass) AS TEXT), conname FROM pg_constraint WHERE contype = 'c'"
                " AND connamespace = CAST('public' AS regnamespace)"
            )
            for table, check in checks:
                session.run(f'ALTER TABLE {table} DROP CONSTRAINT "{check}"')
            session.run("SET session_replication_role = replica")
            yield session

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        with self.opened() as session, session.connection.transaction():
            session.rows("SELECT pg_advisory_xact_lock(?)", WRITE_LOCK)
            yield

    def everything(self) -> dict[str, list[Row]]:
        with self.opened() as session, session.connection.transaction():
            session.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            tables = session.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
            return {name: sorted(session.rows(f'SELECT * FROM "{name}"'), key=repr) for (name,) in tables}

    def copy(self, _folder: Path) -> PostgresDatabase:
        name = f"{self.name}_copy"
        self.server.drop(name)
        self.server.copy(self.name, name)
        return PostgresDatabase(self.server, name)

    def remove(self) -> None:
        self.server.drop(self.name)
