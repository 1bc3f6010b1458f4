"""Tests of migrations: they create what the models declare, once, one process at a time, and are never edited."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import peewee
import pytest
from playhouse.schema_diff import diff_models

import storekeep.server.store
from storekeep.server.store.locks import DatabaseInUse, lock
from storekeep.server.store.schema import (
    MIGRATIONS,
    MigrationEdited,
    NotMigrated,
    SchemaError,
    UnknownMigration,
    check_schema,
    list_pending_migrations,
    migrate,
)
from storekeep.server.store.sql.transactions import Table, list_tables
from storekeep.server.store.sql.transactions import database as proxy
from tests.support import postgres
from tests.support.databases import Database, new_database

ALL = sorted(path.stem for path in MIGRATIONS.glob("0*.py"))
SECOND = "def up(migrator, database):\n    database.execute_sql('CREATE TABLE seconds (id INTEGER PRIMARY KEY)')\n"


def models() -> list[type[Table]]:
    """Every table of the store."""
    for module in pkgutil.iter_modules(storekeep.server.store.__path__, "storekeep.server.store."):
        importlib.import_module(module.name)
    return peewee.sort_models(list_tables())


def definitions(database: Database) -> dict[str, str]:
    """Return name -> SQL of every table and index, without whitespace; on PostgreSQL, the columns of each.

    The parts of a table of SQLite can be in any order, because columns that are added later follow its constraints.
    """
    with database.opened() as session:
        if database.engine == "sqlite":
            rows = session.rows("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            return {name: sort_definition("".join(sql.split())) for name, sql in rows}
        columns = session.rows(
            """
            SELECT table_name,
                   STRING_AGG(column_name || ' ' || data_type || ' ' || is_nullable, ', ' ORDER BY column_name)
            FROM information_schema.columns WHERE table_schema = 'public' AND data_type <> 'tsvector'
            GROUP BY table_name
            """
        )
        indexes = session.rows("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
        checks = session.rows(
            """
            SELECT CAST(CAST(conrelid AS regclass) AS TEXT),
                   STRING_AGG(pg_get_constraintdef(oid), ', ' ORDER BY pg_get_constraintdef(oid))
            FROM pg_constraint
            WHERE contype IN ('c', 'f') AND connamespace = CAST('public' AS regnamespace) GROUP BY conrelid
            """
        )
    return dict(columns) | dict(indexes) | {f"{table}: held": rules for table, rules in checks}


def sort_definition(sql: str) -> str:
    """Return the SQL of a table with its columns and constraints sorted."""
    if not sql.startswith("CREATETABLE"):
        return sql
    head, _, rest = sql.partition("(")
    body, _, tail = rest.rpartition(")")
    parts = [""]
    for char in body:
        if char == "," and parts[-1].count("(") == parts[-1].count(")"):
            parts.append("")
        else:
            parts[-1] += char
    return f"{head}({','.join(sorted(parts))}){tail}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations that a test can edit."""
    copy = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def empty(engine: str, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    (tmp_path / "empty").mkdir()
    made = new_database(engine, tmp_path / "empty", migrated=False)
    yield made
    made.remove()


def connect_peewee(database: Database) -> peewee.Database:
    """Return Peewee's own connection to a database."""
    if database.engine == "sqlite":
        return peewee.SqliteDatabase(str(database.path))
    return peewee.PostgresqlDatabase(database.url, prefer_psycopg3=True)


@contextmanager
def bind_models(database: Database) -> Iterator[peewee.Database]:
    """Bind the models to a database, which the server never does."""
    connection = connect_peewee(database)
    without_rowid = [model for model in models() if model._meta.without_rowid]
    proxy.initialize(connection)
    for model in without_rowid:
        model._meta.without_rowid = database.engine == "sqlite"  # PostgreSQL has no such tables
    try:
        yield connection
    finally:
        connection.close()
        proxy.initialize(None)
        for model in without_rowid:
            model._meta.without_rowid = True


def test_models_and_migrations_agree(database):
    with bind_models(database) as opened:
        changes = [change for kind in diff_models(opened, models()) for change in kind]
    expressions = ("block_sku", "orders_lower")  # which Peewee cannot compare
    changes = [change for change in changes if not any(name in str(change) for name in expressions)]
    if database.engine == "postgresql":
        changes = [change for change in changes if "words" not in str(change)]  # generated, so not in the model
    assert not changes, str(changes)


def test_migrations_make_exactly_what_the_models_declare(database, empty):
    with bind_models(empty) as opened:
        opened.create_tables(models(), safe=False)
    have, declared = definitions(database), definitions(empty)
    assert {name: have.get(name) for name in declared} == declared


@pytest.mark.engine("postgresql", reason="SQLite compares bytes unless told otherwise")
def test_text_is_compared_by_its_bytes(database):
    with database.opened() as session:
        told = session.rows(
            """
            SELECT table_name, column_name FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name NOT IN ('schema_migrations', 'events')
              AND data_type IN ('text', 'character varying') AND collation_name IS DISTINCT FROM 'C'
            """
        )
    assert told == []


def test_migrate_twice_does_nothing_the_second_time(database):
    assert migrate(database.url) == []
    assert list_pending_migrations(database.url) == []


def test_main_location_is_there_from_the_start(database):
    with database.opened() as session:
        assert session.rows("SELECT id FROM locations") == [("main",)]


@pytest.mark.engine("sqlite", reason="only a file can be made by looking at it")
def test_pending_of_a_missing_database_does_not_make_it(empty):
    assert list_pending_migrations(empty.url) == ALL
    assert not empty.path.exists()


def test_database_behind_is_refused(database, folder):
    (folder / "9999_second.py").write_text(SECOND)
    with pytest.raises(NotMigrated, match=r"9999_second.*storekeep-server migrate"):
        check_schema(database.url, migrations=folder)
    assert migrate(database.url, migrations=folder) == ["9999_second"]
    check_schema(database.url, migrations=folder)


def test_edited_migration_is_refused(database, folder):
    with (folder / "0001_initial.py").open("a") as file:
        file.write("# an afterthought\n")
    with pytest.raises(MigrationEdited, match="0001_initial"):
        check_schema(database.url, migrations=folder)
    with pytest.raises(MigrationEdited):
        migrate(database.url, migrations=folder)


def test_database_of_a_newer_release_is_refused(database, folder):
    (folder / "9999_second.py").write_text(SECOND)
    migrate(database.url, migrations=folder)
    with pytest.raises(UnknownMigration, match="9999_second"):
        check_schema(database.url)


def test_failing_migration_leaves_nothing(database, folder):
    (folder / "9999_second.py").write_text(SECOND + "    raise RuntimeError('half way')\n")
    with pytest.raises(RuntimeError):
        migrate(database.url, migrations=folder)
    assert "seconds" not in definitions(database)
    (folder / "9999_second.py").write_text(SECOND)
    assert migrate(database.url, migrations=folder) == ["9999_second"]


@pytest.mark.engine("sqlite", reason="no file of PostgreSQL is ours")
def test_file_that_is_no_database_is_refused(empty):
    empty.path.write_text("not a database, but long enough to be one" * 100)
    with pytest.raises(SchemaError, match="cannot be opened"):
        check_schema(empty.url)


@pytest.mark.engine("postgresql", reason="a file is always there")
@pytest.mark.parametrize("asked", [check_schema, migrate])
def test_server_that_is_not_there_is_told_in_a_line_without_the_password(asked):
    with pytest.raises(SchemaError, match="cannot be opened") as told:
        asked(f"postgresql://shop:pa55word@127.0.0.1:{postgres.free_port()}/shop")
    assert "pa55word" not in str(told.value)
    assert "\n" not in str(told.value)


def _migrate_at_once(url: str, start: object, answers: object) -> None:
    start.wait(30)
    answers.put(migrate(url))


def test_two_processes_at_once_migrate_once(empty):
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    arguments = (empty.url, start, answers)
    processes = [context.Process(target=_migrate_at_once, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(answers.get(timeout=60) for _ in processes) == [[], ALL]
    for process in processes:
        process.join(timeout=120)


def test_lock_of_another_is_waited_for_no_longer_than_asked(tmp_path):
    path = tmp_path / "storekeep.db"
    with lock(path, purpose="migrate"), pytest.raises(DatabaseInUse), lock(path, purpose="migrate", wait_s=0.05):
        pass
    with lock(path, purpose="migrate"):
        pass


# -- databases that PostgreSQL or Storekeep refuses


@pytest.fixture
def stranger(engine: str, empty: Database) -> Iterator[tuple[str, str]]:
    """Return the name and the URL of a role without any rights in the empty database."""
    role = f"stranger_{uuid.uuid4().hex[:8]}"
    with empty.opened() as session:
        session.run(f"CREATE ROLE {role} LOGIN")
    yield role, re.sub("//[^@/]*@", f"//{role}@", empty.url)
    with empty.opened() as session:
        session.run(f"DROP OWNED BY {role}")
        session.run(f"DROP ROLE {role}")


def count_tables(database: Database) -> int:
    with database.opened() as session:
        return session.rows("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'")[0][0]


@pytest.mark.engine("postgresql", reason="SQLite has no roles")
def test_role_without_rights_is_told_so_in_one_line(empty: Database, stranger: tuple[str, str]):
    role, url = stranger
    with pytest.raises(SchemaError, match=f"cannot create tables in the schema public; .*GRANT .* TO {role}$"):
        migrate(url)
    assert count_tables(empty) == 0
    migrate(empty.url)
    with pytest.raises(
        SchemaError, match=r"^postgresql://[^\n]*: permission denied for table schema_migrations; connect as"
    ):
        check_schema(url)
    with empty.opened() as session:
        session.run("DELETE FROM schema_migrations WHERE name LIKE '0012%'")
        session.run(f"GRANT CREATE ON SCHEMA public TO {role}")
        session.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    with pytest.raises(SchemaError, match=f"belong to the role postgres, and {role} cannot change them"):
        migrate(url)


@pytest.mark.engine("postgresql", reason="SQLite stores UTF-8")
def test_database_in_another_encoding_is_refused_before_anything_is_changed(empty: Database):
    name = f"latin_{uuid.uuid4().hex[:8]}"
    with empty.opened() as session:
        session.run(f"CREATE DATABASE {name} ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'")
        session.run("SELECT 1")
    url = re.sub(r"(//[^/]*/)[^?]+", rf"\g<1>{name}", empty.url)
    for check in (migrate, check_schema):
        with pytest.raises(SchemaError, match="the encoding of the database is LATIN1"):
            check(url)
    with closing(peewee.PostgresqlDatabase(url, prefer_psycopg3=True)) as opened:
        assert opened.get_tables() == []
    with empty.opened() as session:
        session.run(f"DROP DATABASE {name}")
