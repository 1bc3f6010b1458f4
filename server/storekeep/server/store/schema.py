"""The schema of a database: which migrations it has, which it lacks, and bringing it to the newest.

Refuses a migration file that was edited after it was applied, and a database that a newer release wrote.
Invariant: a migration and its record, with the file's SHA-256, commit together.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import peewee
from playhouse.migrations import Runner
from pysqlite3 import dbapi2 as sqlite

from storekeep.server.store.locks import lock
from storekeep.server.store.sqlite import check_sqlite_version

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_WAIT_S = 60.0
"""How long to wait for another process that migrates the same database."""
HISTORY_TABLE = "schema_migrations"


class SchemaError(Exception):
    """The database's schema is not the one that this release works with."""


class NotMigrated(SchemaError):
    """Migrations are missing.

    Attributes:
        pending: their names, in order.
    """

    def __init__(self, path: Path, *, pending: list[str]) -> None:
        super().__init__(f"{path} lacks {', '.join(pending)}; run: storekeep-server migrate")
        self.pending = pending


class MigrationEdited(SchemaError):
    """A migration's file is not what it was when it was applied."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the migration {name} was edited after it was applied; add a new one instead")
        self.name = name


class UnknownMigration(SchemaError):
    """The database has a migration that this release does not know."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the database has the migration {name}, which this release does not know; use a newer one")
        self.name = name


def migrate(path: Path, *, migrations: Path = MIGRATIONS) -> list[str]:
    """Bring a database to the newest schema; it is made when missing. One process at a time does it.

    Args:
        path: the SQLite file.
        migrations: the folder of the migrations.

    Returns: the names of the migrations that were applied.

    Raises: MigrationEdited, UnknownMigration, DatabaseInUse when another one takes longer than a minute.
    """
    check_sqlite_version()
    with lock(path, purpose="migrate", wait_s=LOCK_WAIT_S):
        database = _open(path)
        try:
            runner = _Runner(database, migrations)
            runner.check()
            return list(runner.up())
        finally:
            database.close()


def check_schema(path: Path, *, migrations: Path = MIGRATIONS) -> None:
    """Refuse a database that this release cannot serve.

    Raises: NotMigrated, MigrationEdited, UnknownMigration.
    """
    pending = pending_migrations(path, migrations=migrations)
    if pending:
        raise NotMigrated(path, pending=pending)


def pending_migrations(path: Path, *, migrations: Path = MIGRATIONS) -> list[str]:
    """The migrations that a database lacks, in order. Does not make the database.

    Raises: MigrationEdited, UnknownMigration.
    """
    if not path.exists():
        return [migration.name for migration in _migrations(migrations)]
    database = _open(path)
    try:
        runner = _Runner(database, migrations)
        runner.check()
        return [migration.name for migration in runner.status() if not migration.applied]
    finally:
        database.close()


class _Runner(Runner):  # type: ignore[misc]  # playhouse comes without types
    """Playhouse's runner, which also records what each file was."""

    def __init__(self, database: peewee.SqliteDatabase, directory: Path) -> None:
        super().__init__(database, str(directory), table_name=HISTORY_TABLE)

        class History(self.History):  # type: ignore[name-defined,misc]
            checksum = peewee.CharField(max_length=64)

            class Meta:
                table_name = HISTORY_TABLE

        self.History = History

    def check(self) -> None:
        """Refuse what was edited and what is unknown."""
        if not self.History.table_exists():
            return
        files = {migration.name: migration.path for migration in self.migrations()}
        for row in self.History.select().order_by(self.History.name):
            if row.name not in files:
                raise UnknownMigration(row.name)
            if row.checksum != _checksum(files[row.name]):
                raise MigrationEdited(row.name)

    def _run(self, name: str, module: Any, direction: str, fake: bool = False) -> None:
        with self.migrator.migration_context(getattr(module, "atomic", True)):
            module.up(self.migrator, self.database)
            self.History.create(name=name, checksum=_checksum(module.__file__))


def _migrations(directory: Path) -> list[Any]:
    return list(_Runner(peewee.SqliteDatabase(None), directory).migrations())


def _open(path: Path) -> peewee.SqliteDatabase:
    database = peewee.SqliteDatabase(
        str(path), pragmas=[("journal_mode", "wal"), ("synchronous", "full"), ("foreign_keys", 1)], timeout=LOCK_WAIT_S
    )
    try:
        database.connect()
    except (peewee.DatabaseError, sqlite.Error) as error:
        raise SchemaError(f"{path} cannot be opened as a database: {error}") from None
    return database


def _checksum(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
