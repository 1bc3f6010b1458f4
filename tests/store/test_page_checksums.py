"""Page checksums of SQLite: computed in every way in which a file is written, and checked in every read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest
from apsw import sqlite_extra

from storekeep.server.store.backups import BackupRefused, back_up, restore
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import SchemaError, migrate
from storekeep.server.store.sqlite.page_checksums import NoPageChecksums, has_page_checksums, load_page_checksums
from storekeep.server.store.urls import make_sqlite_url, parse_sqlite_path
from tests.conftest import MakeServer
from tests.support.buyers import open_shop
from tests.support.processes import run_command

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL has checksums of its own")
FLIPS = 100


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated database with page checksums."""
    path = tmp_path_factory.mktemp("checked") / "storekeep.db"
    migrate(make_sqlite_url(path), page_checksums=True)
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return a migrated database without page checksums."""
    path = tmp_path / "plain.db"
    migrate(make_sqlite_url(path))
    return path


@contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    load_page_checksums()
    with closing(apsw.Connection(str(path))) as connection:
        yield connection


def has_checksums(path: Path) -> bool:
    with opened(path) as connection:
        return has_page_checksums(connection)


def is_sound(path: Path) -> bool:
    """Read every page of a database and return whether all are intact."""
    try:
        with opened(path) as connection:
            return bool(connection.execute("PRAGMA integrity_check").get == "ok")
    except apsw.Error:
        return False


def test_every_flipped_bit_is_noticed(checked: Path, tmp_path: Path):
    assert has_checksums(checked)
    with opened(checked) as connection:
        connection.execute("VACUUM")  # nothing reads free pages
    assert is_sound(checked)
    sound, copy = checked.read_bytes(), tmp_path / "copy.db"
    chance = random.Random(FLIPS)
    for _ in range(FLIPS):
        flipped = bytearray(sound)
        place = chance.randrange(100, len(sound))  # SQLite reads the 100 bytes of the header before the first page
        flipped[place] ^= 1 << chance.randrange(8)
        copy.write_bytes(flipped)
        assert not is_sound(copy), place


def test_database_has_no_checksums_unless_they_are_asked_for(plain: Path):
    assert not has_checksums(plain)
    assert migrate(make_sqlite_url(plain), page_checksums=True) == []
    assert not has_checksums(plain)


def test_checksums_stay_right_through_restores_writes_kills_and_backups(make_server: MakeServer, tmp_path: Path):
    server = make_server()
    path = parse_sqlite_path(server.database.url)
    assert path is not None
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    assert server.run("backup", str(first)).returncode == 0
    assert server.stop() == 0
    restored = server.run("restore", str(first), sqlite_page_checksums="true")
    assert restored.returncode == 0, restored.stderr
    server.start()
    with open_shop(server) as shop:
        orders = [shop.order() for _ in range(20)]
        assert server.run("backup", str(second)).returncode == 0
    server.kill()
    server.start()
    with open_shop(server) as shop:
        orders.append(shop.order())
    assert server.stop() == 0
    for file in (path, second):
        assert (has_checksums(file), is_sound(file)) == (True, True)
    with opened(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM orders").get == len(orders)
    assert server.run("restore", str(second)).returncode == 0
    assert (has_checksums(path), is_sound(path)) == (True, True)
    assert server.run("verify").returncode == 0


def test_restore_adds_checksums(plain: Path, tmp_path: Path):
    backup, target = tmp_path / "backup.db", tmp_path / "target.db"
    back_up(plain, to=backup)
    restore(backup, database=target, page_checksums=True)
    assert (has_checksums(target), is_sound(target), has_checksums(backup)) == (True, True, False)
    with closing(open_store(make_sqlite_url(target))) as store:
        assert store.driver.dialect.name == "sqlite"


def test_wrong_checksum_is_reported_as_such(checked: Path, tmp_path: Path):
    copy = tmp_path / "copy.db"
    shutil.copyfile(checked, copy)
    content = bytearray(copy.read_bytes())
    content[200] ^= 1
    copy.write_bytes(content)
    with pytest.raises(SchemaError, match="wrong checksum"):
        migrate(make_sqlite_url(copy))
    with pytest.raises(BackupRefused, match="wrong checksum"):
        restore(copy, database=tmp_path / "restored.db")


def test_verify_reports_a_wrong_checksum_of_any_page(checked: Path, tmp_path: Path):
    copy = tmp_path / "copy.db"
    with opened(checked) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'stock_movements'").get
        size = connection.execute("PRAGMA page_size").get
    content = bytearray(checked.read_bytes())
    content[(page - 1) * size + 500] ^= 4
    copy.write_bytes(content)
    copy.chmod(0o600)
    verified = run_command("verify", data_dir=tmp_path / "data", database_url=make_sqlite_url(copy))
    assert (verified.returncode, "wrong checksum" in verified.stdout) == (1, True), verified.stdout + verified.stderr


@pytest.fixture
def without_extension(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make apsw's extensions disappear, as in a build from source."""
    load_page_checksums.cache_clear()
    monkeypatch.setattr(sqlite_extra, "has", lambda _name: None)
    yield
    load_page_checksums.cache_clear()


def test_database_whose_checksums_nobody_can_compute_is_refused(
    checked: Path, plain: Path, tmp_path: Path, without_extension: None
):
    url, before = make_sqlite_url(checked), checked.read_bytes()
    with pytest.raises(NoPageChecksums):
        open_store(url)
    with pytest.raises(SchemaError, match="cksumvfs"):
        migrate(url)
    new = tmp_path / "new.db"
    with pytest.raises(SchemaError, match="cksumvfs"):
        migrate(make_sqlite_url(new), page_checksums=True)
    with pytest.raises(BackupRefused, match="cksumvfs"):
        restore(plain, database=new, page_checksums=True)
    assert checked.read_bytes() == before
    open_store(make_sqlite_url(plain)).close()
