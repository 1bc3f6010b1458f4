"""The databases of the tests, of every engine that Storekeep serves: made fast, and looked into from outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import apsw
import psycopg

from storekeep.server.store.postgresql.driver import WRITE_LOCK
from storekeep.server.store.schema import migrate
from storekeep.server.store.urls import sqlite_url
from tests.support import postgres

ENGINES = ("sqlite", "postgresql")
Row = tuple[Any, ...]


class Session(Protocol):
    """A connection of the test's own; places of values are `?`."""

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """The rows of one statement."""

    def run(self, sql: str, *values: Any) -> int:
        """Run one statement; gives the number of rows that it changed."""


class Database(Protocol):
    """A database of one test, or of one file of tests.

    Attributes:
        engine: its name.
        url: as a server takes it.
    """

    engine: str
    url: str

    def opened(self) -> Any:
        """A context with a `Session` that commits each statement."""

    def write_lock(self) -> Any:
        """A context in which somebody else has the turn to write."""

    def everything(self) -> dict[str, list[Row]]:
        """All rows of all tables: equal before and after what must change nothing."""

    def unguarded(self) -> Any:
        """A context with a `Session` that may break what the database itself holds to."""

    def copy(self, folder: Path) -> Database:
        """Another database with the same rows; nobody may use this one meanwhile."""

    def remove(self) -> None:
        """Make room."""


def new_database(engine: str, folder: Path, *, migrated: bool = True) -> Database:
    """A database; one of SQLite is in that folder."""
    if engine == "postgresql":
        server = postgres.of_run()
        return PostgresDatabase(server, server.create(migrated=migrated))
    database = SqliteDatabase(folder / "storekeep.db")
    if migrated:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        migrate(database.url)
    return database


# -- SQLite


class SqliteSession:
    """A `Session` with SQLite."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        self._connection.execute(sql, values)
        return self._connection.changes()


class SqliteDatabase:
    """A file."""

    engine = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = sqlite_url(path)

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
        """It goes with its folder."""


# -- PostgreSQL


class PostgresSession:
    """A `Session` with PostgreSQL."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def _execute(self, sql: str, values: Sequence[Any]) -> psycopg.Cursor:
        return self.connection.execute(sql.replace("%", "%%").replace("?", "%s"), values)

    def rows(self, sql: str, *values: Any) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        return self._execute(sql, values).rowcount


class PostgresDatabase:
    """One of the databases of the run's PostgreSQL."""

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
        """Without triggers, those of foreign keys too, and without CHECKs."""
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
        self.server.run(f"CREATE DATABASE {name} TEMPLATE {self.name}")
        return PostgresDatabase(self.server, name)

    def remove(self) -> None:
        self.server.drop(self.name)
