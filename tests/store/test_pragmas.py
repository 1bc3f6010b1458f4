"""Tests of the settings of every connection to a SQLite database, so that acknowledged commits survive."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from storekeep.server.store import schema
from storekeep.server.store.opening import open_store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.sqlite import driver
from storekeep.server.store.urls import make_sqlite_url
from tests.support.databases import Database

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL's settings are its operator's; they are read at the start")
FULL = 2
SETTINGS = {"synchronous": FULL, "foreign_keys": 1, "journal_mode": "wal", "wal_autocheckpoint": 0}


@pytest.mark.parametrize(("pragma", "value"), SETTINGS.items())
def test_each_connection_of_a_store_is_set_so(database: Database, pragma: str, value: object):
    def setting(tx: Transaction) -> object:
        return tx.connection.execute(f"PRAGMA {pragma}").fetchone()[0]

    with closing(open_store(database.url)) as store, ThreadPoolExecutor(1) as another_thread:
        for run in (store.write, store.read, store.snapshot):
            assert run(setting) == value
            assert another_thread.submit(run, setting).result() == value


@pytest.mark.parametrize(("pragma", "value"), SETTINGS.items())
def test_connection_that_migrates_is_set_so(database: Database, pragma: str, value: object):
    with schema._open(database.url) as opened:
        assert opened.execute_sql(f"PRAGMA {pragma}").fetchone()[0] == value


def test_unsafe_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "SQLITE_VERSION_MIN", (99, 0, 0))
    with pytest.raises(driver.UnsafeSqlite):
        open_store(make_sqlite_url(tmp_path / "notes.db"))
    assert not (tmp_path / "notes.db").exists()
