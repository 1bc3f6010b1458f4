"""Migrations: they make what the models say, once, one process at a time, and never another file than was applied."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import peewee
import pytest
from playhouse.schema_diff import diff_models
from pysqlite3 import dbapi2 as sqlite

import storekeep.server.store
from storekeep.server.store.database import Table, database
from storekeep.server.store.locks import DatabaseInUse, lock
from storekeep.server.store.schema import (
    MIGRATIONS,
    MigrationEdited,
    NotMigrated,
    SchemaError,
    UnknownMigration,
    check_schema,
    migrate,
    pending_migrations,
)

SECOND = "def up(migrator, database):\n    database.execute_sql('CREATE TABLE seconds (id INTEGER PRIMARY KEY)')\n"


def models() -> list[type[Table]]:
    """Every table of the store."""
    for module in pkgutil.iter_modules(storekeep.server.store.__path__, "storekeep.server.store."):
        importlib.import_module(module.name)
    return peewee.sort_models(Table.__subclasses__())


def definitions(path: Path) -> dict[str, str]:
    """Name -> SQL of every table and index, without the whitespace."""
    with closing(sqlite.connect(str(path))) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: "".join(sql.split()) for name, sql in rows}


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    path = tmp_path / "storekeep.db"
    migrate(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Migrations that can be edited."""
    copy = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def opened(migrated: Path) -> Iterator[peewee.SqliteDatabase]:
    before = database.obj
    connection = peewee.SqliteDatabase(str(migrated))
    database.initialize(connection)
    yield connection
    connection.close()
    database.initialize(before)


def test_models_and_migrations_agree(opened):
    assert not diff_models(opened, models()), str(diff_models(opened, models()))


def test_migrations_make_exactly_what_the_models_declare(opened, migrated, tmp_path):
    made = tmp_path / "models.db"
    declared = peewee.SqliteDatabase(str(made))
    with declared.bind_ctx(models()):
        declared.create_tables(models(), safe=False)
    declared.close()
    have = definitions(migrated)
    assert {name: have.get(name) for name in definitions(made)} == definitions(made)


def test_migrate_twice_does_nothing_the_second_time(migrated):
    assert migrate(migrated) == []
    assert pending_migrations(migrated) == []


def test_main_location_is_there_from_the_start(migrated):
    with closing(sqlite.connect(str(migrated))) as connection:
        assert connection.execute("SELECT id FROM locations").fetchall() == [("main",)]


def test_pending_of_a_missing_database_does_not_make_it(tmp_path):
    assert pending_migrations(tmp_path / "none.db") == ["0001_initial"]
    assert not (tmp_path / "none.db").exists()


def test_database_behind_is_refused(migrated, folder):
    (folder / "0002_second.py").write_text(SECOND)
    with pytest.raises(NotMigrated, match=r"0002_second.*storekeep-server migrate"):
        check_schema(migrated, migrations=folder)
    assert migrate(migrated, migrations=folder) == ["0002_second"]
    check_schema(migrated, migrations=folder)


def test_edited_migration_is_refused(migrated, folder):
    with (folder / "0001_initial.py").open("a") as file:
        file.write("# an afterthought\n")
    with pytest.raises(MigrationEdited, match="0001_initial"):
        check_schema(migrated, migrations=folder)
    with pytest.raises(MigrationEdited):
        migrate(migrated, migrations=folder)


def test_database_of_a_newer_release_is_refused(migrated, folder):
    (folder / "0002_second.py").write_text(SECOND)
    migrate(migrated, migrations=folder)
    with pytest.raises(UnknownMigration, match="0002_second"):
        check_schema(migrated)


def test_failing_migration_leaves_nothing(migrated, folder):
    (folder / "0002_second.py").write_text(SECOND + "    raise RuntimeError('half way')\n")
    with pytest.raises(RuntimeError):
        migrate(migrated, migrations=folder)
    assert "seconds" not in definitions(migrated)
    (folder / "0002_second.py").write_text(SECOND)
    assert migrate(migrated, migrations=folder) == ["0002_second"]


def test_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "storekeep.db").write_text("not a database, but long enough to be one" * 100)
    with pytest.raises(SchemaError, match="cannot be opened"):
        check_schema(tmp_path / "storekeep.db")


def _migrate_at_once(path: Path, start: object, answers: object) -> None:
    start.wait(30)
    answers.put(migrate(path))


def test_two_processes_at_once_migrate_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "storekeep.db", start, answers)
    processes = [context.Process(target=_migrate_at_once, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(answers.get(timeout=60) for _ in processes) == [[], ["0001_initial"]]
    for process in processes:
        process.join(timeout=30)


def test_lock_of_another_is_waited_for_no_longer_than_asked(tmp_path):
    path = tmp_path / "storekeep.db"
    with lock(path, purpose="migrate"), pytest.raises(DatabaseInUse), lock(path, purpose="migrate", wait_s=0.05):
        pass
    with lock(path, purpose="migrate"):
        pass
