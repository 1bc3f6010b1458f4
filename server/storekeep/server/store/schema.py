"""Schema migrations: checks which are applied and applies the pending ones.

Rejects a migration file that was edited after it was applied, and a database that a newer release wrote.
Invariant: a migration and its record, with the SHA-256 of its file, commit together.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase, DateTimeField
from playhouse.migrations import Runner

from storekeep.server.store.locks import DatabaseInUse, lock
from storekeep.server.store.sqlite.driver import check_sqlite_version, create_database_file
from storekeep.server.store.sqlite.page_checksums import (
    NoPageChecksums,
    add_page_checksums,
    describe_wrong_checksum,
    has_page_checksums,
    load_page_checksums,
)
from storekeep.server.store.urls import hide_password, parse_sqlite_path

MIGRATIONS = Path(__file__).parent / "migrations"
INSUFFICIENT_PRIVILEGE = "42501"
"""PostgreSQL's error code for a role without the right that a statement needs."""
USE_OWNER = "connect as the role that owns the tables"
RUN_MIGRATE = "run: storekeep-server migrate"
LOCK_WAIT_S = 60
"""How long to wait for another process that migrates the same database, in seconds."""
CONNECT_TIMEOUT_S = 10
"""Timeout of a connection attempt to PostgreSQL, in seconds."""
MIGRATION_LOCK = int.from_bytes(b"Migrates", "big")
"""Key of the PostgreSQL advisory lock that a migration holds."""
OLDER_CHECK_S = 0.05
"""How often to look whether older transactions have ended, in seconds."""
OLDER_TRANSACTION = """
    SELECT 1 WHERE pg_snapshot_xmin(pg_current_snapshot()) < CAST(%s AS xid8) OR EXISTS (
        SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
          AND age(backend_xmin) > age(CAST(CAST(%s AS xid8) AS xid))
    )
    """
"""Finds a transaction that began before another: a write, also in another database of the server, because snapshots
are the same for all, or a read of this database. VACUUM does not keep deleted rows."""
HISTORY_TABLE = "schema_migrations"
RIGHTS = f"""
    SELECT current_user, current_schema(), COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE), (
        SELECT tableowner FROM pg_tables
        WHERE schemaname = current_schema() AND tablename = '{HISTORY_TABLE}' AND NOT pg_has_role(tableowner, 'USAGE')
    )
    """  # noqa: S608 - the name of a table
"""The role, the schema of new tables, whether the role can create some there, and the owner of the existing tables if
the role cannot change them."""


class SchemaError(Exception):
    """The database cannot be used: its schema does not match this release, or it refuses to be read or changed.

    Attributes:
        what: the problem.
        remedy: what to do; empty if the problem shows it.
    """

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class NotOpened(SchemaError):
    """The database cannot be opened: PostgreSQL does not answer or refuses the connection, or the file is none."""


class NotMigrated(SchemaError):
    """The database has pending migrations, or does not exist yet.

    Attributes:
        pending: names of the pending migrations, in order.
    """

    def __init__(self, url: str, *, pending: list[str], is_new: bool) -> None:
        problem = "has no tables yet" if is_new else f"has pending migrations: {', '.join(pending)}"
        path = parse_sqlite_path(url)
        if path is not None and not path.exists():
            problem = "does not exist yet"
        super().__init__(f"the database {hide_password(url)} {problem}", remedy=RUN_MIGRATE)
        self.pending = pending


class MigrationEdited(SchemaError):
    """A migration file was edited after it was applied."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the migration {name} of this release is not the one that was applied",
            remedy="use the release that applied it; migrations are never edited",
        )
        self.name = name


class UnknownMigration(SchemaError):
    """The database has a migration that this release does not know."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the database has the migration {name}, unknown to this release",
            remedy="use the release that last served it, or a newer one",
        )
        self.name = name


def migrate(url: str, *, migrations: Path = MIGRATIONS, page_checksums: bool = False) -> list[str]:
    """Apply all pending migrations. A missing SQLite file is created. Only one process migrates at a time.

    Args:
        migrations: the directory of the migrations.
        page_checksums: whether a SQLite file that is created gets page checksums.

    Returns: the names of the applied migrations.

    Raises: MigrationEdited, UnknownMigration, SchemaError (cannot be opened or changed), DatabaseInUse (another
        migration took longer than `LOCK_WAIT_S`).
    """
    with _hold_migration_lock(url), _open(url, page_checksums=page_checksums) as database:
        runner = _Runner(database, migrations)
        runner.check()
        if parse_sqlite_path(url) is None and any(not migration.applied for migration in runner.status()):
            _check_rights(database, url)
        return list(runner.up())


def check_schema(url: str, *, migrations: Path = MIGRATIONS) -> None:
    """Check that this release can serve a database.

    Raises: NotMigrated, MigrationEdited, UnknownMigration, SchemaError (cannot be opened).
    """
    pending = list_pending_migrations(url, migrations=migrations)
    if pending:
        known = sum(1 for _ in migrations.glob("[0-9]*.py"))
        raise NotMigrated(url, pending=pending, is_new=len(pending) == known)
    if has_encryption_steps(url):
        raise SchemaError(f"{hide_password(url)}: the personal data is not encrypted completely", remedy=RUN_MIGRATE)


def list_pending_migrations(url: str, *, migrations: Path = MIGRATIONS) -> list[str]:
    """Return the names of the pending migrations of a database, in order. Does not create the database.

    Raises: MigrationEdited, UnknownMigration, SchemaError (cannot be opened).
    """
    path = parse_sqlite_path(url)
    if path is not None and not path.exists():
        return [migration.name for migration in _Runner(APSWDatabase(None), migrations).migrations()]
    with _open(url) as database:
        runner = _Runner(database, migrations)
        runner.check()
        return [migration.name for migration in runner.status() if not migration.applied]


def has_encryption_steps(url: str) -> bool:
    """Return whether personal data of an older release waits for its encryption.

    Raises: SchemaError (cannot be opened).
    """
    with _open(url) as database:
        return database.execute_sql("SELECT 1 FROM encryption_steps LIMIT 1").fetchone() is not None


def rewrite_tables(url: str, tables: Sequence[str]) -> None:
    """Write tables anew, so that no freed space has values that they had before. SQLite writes the whole file anew.

    Raises: SchemaError (cannot be opened, refuses that, or has transactions that read the old values for a minute).
    """
    with _open(url) as database:
        if parse_sqlite_path(url) is None:
            _await_older_transactions(database, url)
            for table in tables:
                database.execute_sql(f'VACUUM FULL "{table}"')
            return
        database.execute_sql("VACUUM")
        database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _await_older_transactions(database: peewee.Database, url: str) -> None:
    """Wait until the transactions that run now have ended: VACUUM FULL copies deleted rows that they may still read.

    Raises: SchemaError after `LOCK_WAIT_S`.
    """
    (now,) = database.execute_sql("SELECT CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT)").fetchone()
    give_up_s = time.monotonic() + LOCK_WAIT_S
    while database.execute_sql(OLDER_TRANSACTION, (now, now)).fetchone() is not None:
        if time.monotonic() > give_up_s:
            raise SchemaError(
                f"{hide_password(url)}: its tables cannot be written anew, because a transaction of another session "
                "is open",
                remedy="end it, then run: storekeep-server migrate",
            )
        time.sleep(OLDER_CHECK_S)


@cache
def build_sqlite_schema() -> tuple[tuple[str, str, str], ...]:
    """Return the type, name and definition of all that a new SQLite database of this release has."""
    database = APSWDatabase(":memory:")
    database.connect()
    try:
        list(_Runner(database, MIGRATIONS).up())
        rows = database.execute_sql("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    finally:
        database.close()
    return tuple((kind, name, sql) for kind, name, sql in rows if not name.startswith("sqlite_"))


@cache
def list_tables() -> frozenset[str]:
    """Return the names of all tables of this release, on any engine."""
    return frozenset(name for kind, name, _ in build_sqlite_schema() if kind == "table")


class _Runner(Runner):  # type: ignore[misc]  # playhouse comes without types
    """Playhouse's runner, extended to record the checksum of each file."""

    def __init__(self, database: peewee.Database, directory: Path) -> None:
        super().__init__(database, str(directory), table_name=HISTORY_TABLE)

        class History(self.History):  # type: ignore[name-defined,misc]
            applied = DateTimeField(default=datetime.datetime.now)  # as text: apsw cannot bind a datetime
            checksum = peewee.CharField(max_length=64)

            class Meta:
                table_name = HISTORY_TABLE

        self.History = History

    def check(self) -> None:
        """Check that each applied migration is known and unchanged.

        Raises: UnknownMigration, MigrationEdited.
        """
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
def _hold_migration_lock(url: str) -> Iterator[None]:
    """Hold the migration lock of a database.

    Raises: DatabaseInUse.
    """
    path = parse_sqlite_path(url)
    if path is not None:
        check_sqlite_version()
        with lock(path, purpose="migrate", wait_s=LOCK_WAIT_S):
            yield
        return
    with _open(url) as database, database.atomic():
        # The lock lasts as long as this transaction, so it also works through a pooler in transaction mode.
        database.execute_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'")
        database.execute_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        try:
            database.execute_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        except peewee.OperationalError:
            raise DatabaseInUse(hide_password(url), holder="") from None
        yield


@contextmanager
def _open(url: str, *, page_checksums: bool = False) -> Iterator[peewee.Database]:
    """Open a database.

    Args:
        page_checksums: whether a SQLite file that is created gets page checksums.

    Raises: SchemaError if it cannot be opened, is not suitable, or refuses a statement of the body.
    """
    path = parse_sqlite_path(url)
    database = _make_postgresql(url) if path is None else _make_sqlite(path, page_checksums=page_checksums)
    try:
        database.connect()
        if path is not None:
            has_page_checksums(database.connection())  # raises if nobody can compute them
    except NoPageChecksums as error:
        database.close()
        raise SchemaError(f"{path}: {error}") from None
    except (apsw.Error, peewee.PeeweeException) as error:
        reason = describe_wrong_checksum(error) or " ".join(str(error).split())
        raise NotOpened(f"{hide_password(url)} cannot be opened as a database: {reason}") from None
    try:
        if path is None:
            _check_encoding(database, url)
        yield database
    except peewee.PeeweeException as error:
        reason = describe_wrong_checksum(error) or " ".join(str(error).partition("\nLINE ")[0].split())
        is_denied = getattr(error.__context__, "sqlstate", "") == INSUFFICIENT_PRIVILEGE
        raise SchemaError(f"{hide_password(url)}: {reason}", remedy=USE_OWNER if is_denied else "") from error
    finally:
        database.close()


def _check_encoding(database: peewee.Database, url: str) -> None:
    """Raise SchemaError unless PostgreSQL stores text as UTF-8."""
    (encoding,) = database.execute_sql("SHOW server_encoding").fetchone()
    if encoding != "UTF8":
        raise SchemaError(
            f"{hide_password(url)}: the encoding of the database is {encoding}",
            remedy="create it with: createdb --encoding UTF8 --template template0",
        )


def _check_rights(database: peewee.Database, url: str) -> None:
    """Check that the role can create tables, and change those of earlier migrations.

    Raises: SchemaError.
    """
    role, schema, may_create, foreign = database.execute_sql(RIGHTS).fetchone()
    if not may_create:
        where = f"in the schema {schema}" if schema else "in any schema of its search path"
        raise SchemaError(
            f"{hide_password(url)}: the role {role} cannot create tables {where}",
            remedy=f"run as a superuser: GRANT USAGE, CREATE ON SCHEMA {schema or 'public'} TO {role}",
        )
    if foreign:
        raise SchemaError(
            f"{hide_password(url)}: the tables belong to the role {foreign}, and {role} cannot change them",
            remedy=f"migrate as {foreign}",
        )


def _make_sqlite(path: Path, *, page_checksums: bool) -> peewee.Database:
    load_page_checksums()
    create_database_file(path)
    if page_checksums and not path.stat().st_size:
        try:
            add_page_checksums(path)
        except NoPageChecksums as error:
            raise SchemaError(f"{path}: {error}") from None
    # The last connection to close copies the log. `Checkpoints` explains why others must not copy it without a sync.
    pragmas = [("journal_mode", "wal"), ("synchronous", "full"), ("foreign_keys", 1), ("wal_autocheckpoint", 0)]
    database: peewee.Database = APSWDatabase(str(path), pragmas=pragmas, timeout=LOCK_WAIT_S)
    return database


def _make_postgresql(url: str) -> peewee.Database:
    # Prepared statements do not work through a pooler, which may send the next statement to another connection.
    return peewee.PostgresqlDatabase(
        url, prefer_psycopg3=True, connect_timeout=CONNECT_TIMEOUT_S, prepare_threshold=None
    )


def _checksum(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
