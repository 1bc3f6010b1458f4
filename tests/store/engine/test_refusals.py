"""Deadlines, the bounded queue, a database that does not answer, and the end of a store."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time

import apsw
import pytest

from storekeep.server.store.engine import Store
from storekeep.server.store.errors import DeadlinePassed, Overloaded, ShuttingDown, StorageFull, StorageUnavailable
from storekeep.server.store.opening import open_store
from storekeep.server.store.postgresql.errors import SqlError
from storekeep.server.store.sql.transactions import Transaction
from tests.support.databases import Database
from tests.support.note_stores import (
    CALLERS,
    TIMEOUT_S,
    busy_writer,
    new_store,
    note,
    queue_works,
    read_notes,
)

PATIENCE_S = 0.5
WRONG_SQL = {"sqlite": apsw.SQLError, "postgresql": SqlError}


def await_room(store: Store, work):
    """Write as soon as the queue accepts it."""
    give_up = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up:
        try:
            return store.write(work)
        except Overloaded as rejection:
            time.sleep(rejection.retry_after_ms / 1000)
    raise TimeoutError


# -- deadlines and the queue


def test_deadline_that_passes_in_the_queue_is_told_at_once_and_the_work_never_run(store):
    with busy_writer(store):
        begun_s = time.monotonic()
        with pytest.raises(DeadlinePassed):
            store.write(note("late"), deadline=time.monotonic() + 0.1)
        assert time.monotonic() - begun_s < TIMEOUT_S / 4
    store.write(note("next"))
    assert store.read(read_notes) == ["next"]


def test_deadline_in_the_past_is_never_run(store):
    with pytest.raises(DeadlinePassed):
        store.write(note("late"), deadline=time.monotonic() - 1)
    store.write(note("next"))
    assert store.read(read_notes) == ["next"]


@pytest.mark.engine("sqlite", reason="statements of PostgreSQL end with the deadline, and their write is undone")
def test_deadline_that_passes_while_the_work_runs_does_not_undo_it(store):
    deadline = time.monotonic() + 1

    def work(tx: Transaction) -> str:
        time.sleep(deadline + 0.1 - time.monotonic())
        return note("slow")(tx)

    assert store.write(work, deadline=deadline) == "slow"
    assert store.read(read_notes) == ["slow"]


def test_full_queue_rejects_at_once_with_a_retry_delay(database):
    store = new_store(database, queue_max=3)
    with busy_writer(store):
        while store.queued < 3:  # on a busy machine, a deadline may pass before its write is queued
            with pytest.raises(DeadlinePassed):
                store.write(note("late"), deadline=time.monotonic() + 0.05)
        begun_s = time.monotonic()
        with pytest.raises(Overloaded) as rejection:
            store.write(note("one too many"))
        assert time.monotonic() - begun_s < 30
        assert rejection.value.retry_after_ms > 0
    assert await_room(store, note("afterwards")) == "afterwards"
    assert store.read(read_notes) == ["afterwards"]
    store.close()


def is_rejected(store: Store) -> bool:
    """Return whether the queue rejects a write; one that it admits is never made."""
    try:
        store.write(note("one too many"), deadline=time.monotonic() + 0.05)
    except (Overloaded, DeadlinePassed) as error:
        return isinstance(error, Overloaded)
    raise AssertionError("it was made before those that were queued")


def test_queue_in_which_writes_wait_too_long_rejects_until_it_is_short_again(database):
    store = new_store(database, wait_max_s=0.05)
    ended = threading.Event()
    linger = functools.partial(ended.wait, 0.02)
    with busy_writer(store):
        assert all(store.submit_task(linger) for _ in range(900))  # a burst is taken
        time.sleep(0.1)
    give_up = time.monotonic() + TIMEOUT_S
    while not is_rejected(store):
        assert time.monotonic() < give_up
    ended.set()
    assert await_room(store, note("afterwards")) == "afterwards"
    store.close()


# -- a database that does not answer


def test_write_lock_held_elsewhere_is_unavailable_and_passes(database):
    store = new_store(database, patience_s=0.2)
    with database.write_lock():
        begun_s = time.monotonic()
        with pytest.raises(StorageUnavailable):
            store.write(note("refused"))
        assert 0.2 <= time.monotonic() - begun_s < 30
        assert store.read(read_notes) == []
    assert store.write(note("again")) == "again"
    assert store.read(read_notes) == ["again"]
    store.close()


def test_write_lock_held_elsewhere_for_a_moment_is_waited_for(store, database, callers):
    with database.write_lock():
        (waiting,) = queue_works(store, callers, [note("patient")], patience_s=0.2)
        assert not waiting.done()
    assert waiting.result(TIMEOUT_S) == "patient"


def test_write_lock_held_elsewhere_refuses_all_that_wait_together(database, callers):
    store = new_store(database, patience_s=PATIENCE_S)
    with database.write_lock():
        begun_s = time.monotonic()
        futures = queue_works(store, callers, [note(str(number)) for number in range(CALLERS)], patience_s=0.2)
        assert {type(future.exception(TIMEOUT_S)) for future in futures} == {StorageUnavailable}
        assert time.monotonic() - begun_s < PATIENCE_S * CALLERS  # together, and not one after the other
    assert store.write(note("again")) == "again"
    assert store.read(read_notes) == ["again"]
    store.close()


@pytest.mark.engine("sqlite", reason="the limit is one of SQLite's pragmas")
def test_full_database_is_said_and_nothing_is_half_done(store, callers):
    store.write(note("before"))
    limit = "PRAGMA max_page_count = {}".format
    pages = store.write(lambda tx: tx.connection.execute("PRAGMA page_count").fetchone()[0])
    store.write(lambda tx: tx.connection.execute(limit(pages + 4)).fetchone())
    with busy_writer(store):
        futures = queue_works(store, callers, [note(str(number) + "x" * 2_000) for number in range(CALLERS)])
    outcomes = [future.exception(TIMEOUT_S) for future in futures]
    assert {type(outcome) for outcome in outcomes if outcome} == {StorageFull}
    assert len(store.read(read_notes)) == 1 + outcomes.count(None)
    store.write(lambda tx: tx.connection.execute(limit(1_000_000)).fetchone())
    assert store.write(note("room again" + "x" * 2_000))
    assert store.read(lambda tx: tx.connection.execute("PRAGMA integrity_check").fetchone()) == ("ok",)


@pytest.mark.engine("sqlite", reason="no file of PostgreSQL is ours")
def test_broken_file_is_unavailable(database):
    new_store(database).close()
    path = database.path
    path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096))
    store = open_store(database.url)
    with pytest.raises(StorageUnavailable):
        store.read(read_notes)
    with pytest.raises(StorageUnavailable):
        store.write(note("one"))
    store.close()


def test_statement_that_is_wrong_is_no_fault_of_the_database(store, database):
    with pytest.raises(WRONG_SQL[database.engine], match="not_there"):
        store.read(lambda tx: tx.connection.execute("SELECT 1 FROM not_there"))


# -- the end


def test_close_finishes_what_is_queued(store, database, callers):
    with busy_writer(store):
        futures = queue_works(store, callers, [note(str(number)) for number in range(CALLERS)])
        closing = callers.submit(store.close)
    closing.result(TIMEOUT_S)
    assert len({future.result(TIMEOUT_S) for future in futures}) == CALLERS
    reopened = open_store(database.url)
    assert len(reopened.read(read_notes)) == CALLERS
    reopened.close()


def test_closed_store_refuses_everything(store):
    store.read(read_notes)
    store.close()
    for call in (lambda: store.write(note("late")), lambda: store.read(read_notes), lambda: store.snapshot(read_notes)):
        with pytest.raises(ShuttingDown):
            call()
    store.close()


def test_callers_during_close_get_an_answer_and_no_acknowledged_write_is_lost(store, database, callers):
    done: list[str] = []

    def call(caller: int) -> None:
        with contextlib.suppress(ShuttingDown):
            for number in range(10_000):
                done.append(store.write(note(f"{caller}-{number}")))

    futures = [callers.submit(call, caller) for caller in range(CALLERS)]
    time.sleep(0.2)
    begun_s = time.monotonic()
    store.close()
    for future in futures:
        future.result(TIMEOUT_S)
    assert time.monotonic() - begun_s < TIMEOUT_S
    reopened = open_store(database.url)
    assert set(done) == set(reopened.read(read_notes))
    reopened.close()


def count_connections(database: Database) -> int:
    """Return the number of open connections to a database, not counting its own."""
    if database.engine == "sqlite":
        open_files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        return open_files.count(str(database.path))
    with database.opened() as session:
        sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return session.rows(sql)[0][0]


def test_threads_that_are_gone_leave_no_connection_open(store, database):
    for _ in range(20):
        reader = threading.Thread(target=store.read, args=[read_notes])
        reader.start()
        reader.join()
    assert count_connections(database) < 5
