"""Tests of backups: consistent under load, never overwriting, restored only if intact and while no server runs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from storekeep.client import Storekeep
from storekeep.server.store.backups import BackupRefused, back_up, restore
from storekeep.server.store.locks import DatabaseInUse, lock
from storekeep.server.store.schema import UnknownMigration, migrate
from storekeep.server.store.urls import make_sqlite_url
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess, run_command

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "storekeep.db"
    migrate(make_sqlite_url(path))
    return path


@contextmanager
def opened(database: Path) -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(str(database))) as connection:
        yield connection


ADD_EVENT = """
    INSERT INTO audit_entries (type, resource, create_time_us, actor, method, request_id, previous_hash, entry_hash)
    VALUES (?, 'x', 0, '', '', '', x'', x'')
    """


def add_event(database: Path, text: str) -> None:
    with opened(database) as connection:
        connection.execute(ADD_EVENT, (text,))


def events(database: Path) -> list[str]:
    with opened(database) as connection:
        return [row[0] for row in connection.execute("SELECT type FROM events")]


def place_orders(server: ServerProcess, stop: threading.Event) -> None:
    with Storekeep(server.address, api_key=server.admin_key) as client:
        while not stop.is_set():
            order = client.orders.place(customer="customers/jonas-lind", lines=[("STRAINER", 1)], currency_code="EUR")
            client.orders.cancel(order.name)


def test_backup_under_load_is_consistent_and_can_be_served(make_server: MakeServer, tmp_path):
    server = make_server("--sample")
    copy = tmp_path / "copy.db"
    with Storekeep(server.address, api_key=server.admin_key) as client:
        client.orders.place(customer="customers/jonas-lind", lines=[("STRAINER", 1)], currency_code="EUR")
    stop = threading.Event()
    callers = [threading.Thread(target=place_orders, args=(server, stop)) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        made = server.run("backup", str(copy))
    finally:
        stop.set()
        for caller in callers:
            caller.join(timeout=60)
    assert made.returncode == 0, made.stderr
    assert "secret.key" in made.stdout
    server.kill()

    other = tmp_path / "other"
    other.mkdir()
    for name in "secret.key", "kek.key":
        shutil.copy(server.data_dir / name, other)
    restored = run_command("restore", str(copy), data_dir=other)
    assert restored.returncode == 0, restored.stderr
    verified = run_command("verify", data_dir=other)
    assert verified.returncode == 0, verified.stdout
    shutil.copy(server.data_dir / "admin.key", other)
    again = make_server(data_dir=other)
    with Storekeep(again.address, api_key=server.admin_key) as client:
        assert list(client.orders.list())


def test_backup_is_one_file(database, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    assert back_up(database, to=folder / "copy.db") == (folder / "copy.db").stat().st_size
    assert [path.name for path in folder.iterdir()] == ["copy.db"]


def test_backup_never_overwrites(database, tmp_path):
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(BackupRefused, match="exists"):
        back_up(database, to=tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_backup_into_a_folder_that_there_is_not_names_the_folder(database, tmp_path):
    with pytest.raises(BackupRefused, match=f"^the folder {tmp_path}/nowhere does not exist$"):
        back_up(database, to=tmp_path / "nowhere" / "copy.db")


def test_backup_can_be_read_by_its_owner_only(database, tmp_path):
    back_up(database, to=tmp_path / "copy.db")
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_backup_of_a_database_that_cannot_be_opened_names_the_reason(database, tmp_path):
    (tmp_path / "storekeep.db-wal").mkdir()
    with pytest.raises(BackupRefused, match="cannot be copied: unable to open database file"):
        back_up(database, to=tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_backup_of_nothing_is_refused(tmp_path):
    with pytest.raises(BackupRefused, match="does not exist"):
        back_up(tmp_path / "none.db", to=tmp_path / "copy.db")


def test_restore_keeps_the_database_that_was_there(database, tmp_path):
    add_event(database, "first")
    back_up(database, to=tmp_path / "copy.db")
    add_event(database, "second")
    kept = restore(tmp_path / "copy.db", database=database).previous
    assert events(database) == ["first"]
    assert kept is not None
    assert events(kept) == ["first", "second"]


def test_restore_keeps_what_stands_in_the_log_of_a_killed_server(database, tmp_path):
    back_up(database, to=tmp_path / "copy.db")
    killed = tmp_path / "killed"
    killed.mkdir()
    with opened(database) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute(ADD_EVENT, ("late",))
        for file in tmp_path.glob("storekeep.db*"):
            shutil.copy(file, killed)
    database = killed / "storekeep.db"
    kept = restore(tmp_path / "copy.db", database=database).previous
    assert events(database) == []
    assert kept is not None
    assert events(kept) == ["late"]


def test_restore_while_a_server_runs_is_refused(database, tmp_path):
    back_up(database, to=tmp_path / "copy.db")
    with lock(database, purpose="serve"), pytest.raises(DatabaseInUse):
        restore(tmp_path / "copy.db", database=database)


def test_restore_of_a_damaged_copy_is_refused(database, tmp_path):
    back_up(database, to=tmp_path / "copy.db")
    damaged = bytearray((tmp_path / "copy.db").read_bytes())
    damaged[4096 * 3 : 4096 * 9] = b"\xff" * 4096 * 6
    (tmp_path / "copy.db").write_bytes(damaged)
    add_event(database, "precious")
    with pytest.raises(BackupRefused, match=r"^copy\.db is not an intact database: .+$"):
        restore(tmp_path / "copy.db", database=database)
    assert events(database) == ["precious"]


@pytest.mark.parametrize("content", [b"", b"hello" * 1000])
def test_restore_of_something_else_is_refused(database, tmp_path, content):
    (tmp_path / "copy.db").write_bytes(content)
    with pytest.raises(BackupRefused):
        restore(tmp_path / "copy.db", database=database)


def test_restore_of_a_newer_release_is_refused(database, tmp_path):
    with opened(database) as connection:
        connection.execute(
            "INSERT INTO schema_migrations (name, applied, checksum) VALUES ('9999_later', '2026-01-01', 'x')"
        )
    back_up(database, to=tmp_path / "copy.db")
    with pytest.raises(UnknownMigration):
        restore(tmp_path / "copy.db", database=database)


def test_restore_of_a_missing_file_is_one_line(tmp_path):
    refused = run_command("restore", str(tmp_path / "none.db"), data_dir=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == f"storekeep-server: the file {tmp_path / 'none.db'} does not exist\n"


def test_backup_of_postgresql_is_refused_in_a_line_that_says_what_does_it(tmp_path):
    url = "postgresql://shop:pa55word@db/shop"
    for command, told in (("backup", "pg_dump"), ("restore", "pg_restore")):
        refused = run_command(command, str(tmp_path / "copy"), data_dir=tmp_path, database_url=url)
        assert refused.returncode == 1
        assert told in refused.stderr
        assert "pa55word" not in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
