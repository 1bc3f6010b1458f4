"""The schema of a database: which migrations it has, which it lacks, and bringing it to the newest.

Refuses a migration file that was edited after it was applied, and a database that a newer release wrote.
Invariant: a migration and its record, with the file's SHA-256, commit together.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
from playhouse.apsw_ext import APSWDatabase, DateTimeField
from playhouse.migrations import Runner

from storekeep.server.store.locks import DatabaseInUse, lock
from storekeep.server.store.sqlite.driver import check_sqlite_version, make_private
from storekeep.server.store.urls import shown, sqlite_path

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_WAIT_S = 60
"""How long to wait for another process that migrates the same database."""
CONNECT_TIMEOUT_S = 10
"""How long to wait for a connection to PostgreSQL."""
MIGRATION_LOCK = int.from_bytes(b"Migrates", "big")
"""The advisory lock of whoever migrates on PostgreSQL."""
HISTORY_TABLE = "schema_migrations"


class SchemaError(Exception):
    """The database's schema is not the one that this release works with."""


class NotMigrated(SchemaError):
    """Migrations are missing.

    Attributes:
        pending: their names, in order.
    """

    def __init__(self, url: str, *, pending: list[str]) -> None:
        super().__init__(f"{shown(url)} lacks {', '.join(pending)}; run: storekeep-server migrate")
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


def migrate(url: str, *, migrations: Path = MIGRATIONS) -> list[str]:
    """Bring a database to the newest schema; a SQLite file is made when missing. One process at a time does it.

    Args:
        migrations: the folder of the migrations.

    Returns: the names of the migrations that were applied.

    Raises: MigrationEdited, UnknownMigration, SchemaError where it cannot be opened, DatabaseInUse when another one
        takes longer than a minute.
    """
    with _migrating(url), _opened(url) as database:
        runner = _Runner(database, migrations)
        runner.check()
        return list(runner.up())


def check_schema(url: str, *, migrations: Path = MIGRATIONS) -> None:
    """Refuse a database that this release cannot serve.

    Raises: NotMigrated, MigrationEdited, UnknownMigration, SchemaError where it cannot be opened.
    """
    pending = pending_migrations(url, migrations=migrations)
    if pending:
        raise NotMigrated(url, pending=pending)


def pending_migrations(url: str, *, migrations: Path = MIGRATIONS) -> list[str]:
    """The migrations that a database lacks, in order. Does not make the database.

    Raises: MigrationEdited, UnknownMigration, SchemaError where it cannot be opened.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        return [migration.name for migration in _Runner(APSWDatabase(None), migrations).migrations()]
    with _opened(url) as database:
        runner = _Runner(database, migrations)
        runner.check()
        return [migration.name for migration in runner.status() if not migration.applied]


class _Runner(Runner):  # type: ignore[misc]  # playhouse comes without types
    """Playhouse's runner, which also records what each file was."""

    def __init__(self, database: peewee.Database, directory: Path) -> None:
        super().__init__(database, str(directory), table_name=HISTORY_TABLE)

        class History(self.History):  # type: ignore[name-defined,misc]
            applied = DateTimeField(default=datetime.datetime.now)  # as text: apsw binds no times
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


@contextmanager
def _migrating(url: str) -> Iterator[None]:
    """Be the only one who migrates the database.

    Raises: DatabaseInUse.
    """
    path = sqlite_path(url)
    if path is not None:
        check_sqlite_version()
        with lock(path, purpose="migrate", wait_s=LOCK_WAIT_S):
            yield
        return
    with _opened(url) as database, database.atomic():
        # The lock lasts as long as this transaction, so that it also holds through a pooler that works by transactions.
        database.execute_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'")
        database.execute_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        try:
            database.execute_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        except peewee.OperationalError:
            raise DatabaseInUse(shown(url), holder="") from None
        yield


@contextmanager
def _opened(url: str) -> Iterator[peewee.Database]:
    path = sqlite_path(url)
    database = _postgresql(url) if path is None else _sqlite(path)
    try:
        database.connect()
    except peewee.PeeweeException as error:
        reason = " ".join(str(error).split())
        raise SchemaError(f"{shown(url)} cannot be opened as a database: {reason}") from None
    try:
        yield database
    finally:
        database.close()


def _sqlite(path: Path) -> peewee.Database:
    make_private(path)
    # Who closes the database last copies the log; see `Checkpoints` for why nobody else does without a sync.
    pragmas = [("journal_mode", "wal"), ("synchronous", "full"), ("foreign_keys", 1), ("wal_autocheckpoint", 0)]
    database: peewee.Database = APSWDatabase(str(path), pragmas=pragmas, timeout=LOCK_WAIT_S)
    return database


def _postgresql(url: str) -> peewee.Database:
    # Nothing is prepared: through a pooler, the next statement may come to another connection.
    return peewee.PostgresqlDatabase(
        url, prefer_psycopg3=True, connect_timeout=CONNECT_TIMEOUT_S, prepare_threshold=None
    )


def _checksum(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
