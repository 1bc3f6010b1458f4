"""Tests of background checkpoints of SQLite's log, with real files and readers that block them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from storekeep.server.store.limits import Limits
from storekeep.server.store.sqlite import checkpoints
from storekeep.server.store.sqlite.checkpoints import LOG_BYTES_MAX, PAGES_MIN
from storekeep.server.store.sqlite.driver import SqliteDriver

TIMEOUT_S = 60.0
TRIES = 5
"""On a busy host, the thread that copies the log may not run for a while."""
ROW = b"x" * 3_000
"""One row fills about one page."""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[SqliteDriver]:
    made = SqliteDriver(tmp_path / "storekeep.db", limits=Limits())
    made.writer().execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, content BLOB)")
    yield made
    made.close()


def write(driver: SqliteDriver, *, pages: int) -> None:
    """Write about this many pages, fifty per commit."""
    connection = driver.writer()
    for _ in range(0, pages, 50):
        driver.begin_write(connection)
        connection.execute_many("INSERT INTO rows (content) VALUES (?)", [(ROW,)] * 50)
        driver.commit(connection)


def read_log_size(driver: SqliteDriver) -> tuple[int, int]:
    """Return the number of pages of the log, and the number of copied ones."""
    _, pages, copied = driver.writer().execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    return pages, copied


def commit_until(driver: SqliteDriver, condition: Callable[[int, int], bool]) -> None:
    """Commit repeatedly until the log meets the condition."""
    give_up = time.monotonic() + TIMEOUT_S
    while not condition(*read_log_size(driver)):
        assert time.monotonic() < give_up, read_log_size(driver)
        write(driver, pages=50)
        time.sleep(0.01)


def count(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        found: int = connection.execute("SELECT COUNT(*) FROM rows").get
    return found


def test_log_stays_short_however_much_is_written(driver):
    for _ in range(TRIES):
        longest = 0
        for _ in range(40):
            write(driver, pages=PAGES_MIN // 10)
            longest = max(longest, read_log_size(driver)[0])
            time.sleep(0.01)
        if longest < 3 * PAGES_MIN:
            break
    assert longest < 3 * PAGES_MIN
    commit_until(driver, lambda pages, copied: pages < PAGES_MIN)


def test_reader_of_an_old_snapshot_keeps_the_log_and_holds_nobody_up(driver):
    reader = apsw.Connection(str(driver.path))
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM rows").fetchone()
    write(driver, pages=3 * PAGES_MIN)
    assert read_log_size(driver)[0] > 2 * PAGES_MIN
    reader.execute("COMMIT")
    commit_until(driver, lambda pages, copied: pages < PAGES_MIN)
    reader.close()


def test_long_log_is_reported_and_truncated_when_its_reader_has_gone(driver, monkeypatch, caplog):
    monkeypatch.setattr(checkpoints, "PAGES_MAX", 5 * PAGES_MIN)
    caplog.set_level(logging.INFO, logger="storekeep.store")
    reader = apsw.Connection(str(driver.path))
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM rows").fetchone()
    write(driver, pages=6 * PAGES_MIN)
    assert driver.measure_log() > LOG_BYTES_MAX
    reader.execute("COMMIT")
    reader.close()
    commit_until(driver, lambda pages, copied: pages < PAGES_MIN)
    assert driver.measure_log() <= LOG_BYTES_MAX
    told = [record.getMessage() for record in caplog.records if "write-ahead log" in record.getMessage()]
    assert len(told) == 2
    assert "has become long" in told[0]
    assert "short again" in told[1]


def test_what_was_copied_is_all_there_without_the_log(driver, tmp_path):
    write(driver, pages=2 * PAGES_MIN)
    commit_until(driver, lambda pages, copied: pages < PAGES_MIN)
    written = count(driver.path)
    driver.close()
    copy = tmp_path / "copy.db"
    copy.write_bytes(driver.path.read_bytes())
    assert count(copy) == written


def test_log_that_cannot_be_copied_is_reported_and_tried_again(driver, monkeypatch, caplog):
    copy, attempts = checkpoints._copy_log, []

    def fail_once(connection: Any) -> None:
        attempts.append(connection)
        if len(attempts) == 1:
            raise apsw.IOError("disk I/O error")
        copy(connection)

    monkeypatch.setattr(checkpoints, "_copy_log", fail_once)
    with caplog.at_level(logging.WARNING):
        write(driver, pages=2 * PAGES_MIN)
        commit_until(driver, lambda pages, copied: pages < PAGES_MIN)
    assert "could not be copied" in caplog.text


class OnFullDisk:
    """A connection whose checkpoints fail because the disk is full, while commits still succeed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str) -> Any:
        if "wal_checkpoint" in sql:
            raise apsw.FullError("database or disk is full")
        return self._connection.execute(sql)


def test_commit_is_one_though_the_log_cannot_be_copied_after_it(driver, caplog):
    connection = driver.writer()
    driver.begin_write(connection)
    connection.execute("INSERT INTO rows (content) VALUES ('kept')")
    with caplog.at_level(logging.WARNING):
        driver.commit(OnFullDisk(connection))
    assert count(driver.path) == 1
    assert "could not be copied" in caplog.text
