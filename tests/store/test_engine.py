"""Tests of the storage engine on a real database: group commit, rollback, deadlines, the bounded queue, shutdown."""

from __future__ import annotations

import contextlib
import functools
import os
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.store.engine import BATCH_MAX, Store
from storekeep.server.store.errors import DeadlinePassed, Overloaded, ShuttingDown, StorageFull, StorageUnavailable
from storekeep.server.store.limits import Limits
from storekeep.server.store.opening import open_store
from storekeep.server.store.postgresql.errors import SqlError
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.sqlite import driver as sqlite_driver
from storekeep.server.store.urls import make_sqlite_url
from tests.support.databases import Database, new_database

TIMEOUT_S = 60.0
CALLERS = 40
PATIENCE_S = 0.5
WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
CONFLICT = {"sqlite": apsw.ConstraintError, "postgresql": SqlError}
"""The error of each driver for a violated constraint, which it does not translate."""
WRONG_SQL = {"sqlite": apsw.SQLError, "postgresql": SqlError}
INSERT_NOTE = Statement("INSERT INTO notes VALUES (:text)")
DELETE_NOTE = Statement("DELETE FROM notes WHERE text = :text")
NOTES = Statement("SELECT text FROM notes ORDER BY text")


@pytest.fixture
def database(engine: str, tmp_path: Path) -> Iterator[Database]:
    made = new_database(engine, tmp_path, migrated=False)
    yield made
    made.remove()


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    made = new_store(database)
    yield made
    made.close()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(BATCH_MAX + CALLERS) as pool:
        yield pool


def new_store(
    database: Database, *, queue_max: int = 1_000, wait_max_s: float = TIMEOUT_S, patience_s: float = 5.0
) -> Store:
    """A store with two empty tables, and this timeout for the write lock."""
    made = open_store(
        database.url,
        admission=AdmissionController(WRITES, length_max=queue_max, wait_max_s=wait_max_s),
        limits=Limits(pool_size=3, lock_timeout_s=patience_s),
    )
    made.write(make_tables)
    if database.engine == "sqlite":
        made.write(lambda tx: tx.connection.execute(f"PRAGMA busy_timeout = {round(patience_s * 1000)}"))
    return made


def make_tables(tx: Transaction) -> None:
    tx.connection.execute("CREATE TABLE notes (text TEXT NOT NULL UNIQUE)")
    tx.connection.execute("CREATE TABLE answers (note TEXT REFERENCES notes (text) DEFERRABLE INITIALLY DEFERRED)")


def note(text: str):
    """Return a write that inserts one row and returns its text."""

    def work(tx: Transaction) -> str:
        INSERT_NOTE.run(tx, text=text)
        return text

    return work


def read_notes(tx: Transaction) -> list[str]:
    return [row[0] for row in NOTES.all(tx)]


@contextlib.contextmanager
def busy_writer(store: Store) -> Iterator[None]:
    """Keep the writer busy with a write that changes nothing, for the duration of the context."""
    begun, go_on = threading.Event(), threading.Event()

    def work(_tx: Transaction) -> None:
        begun.set()
        go_on.wait(TIMEOUT_S)

    def call() -> None:
        with contextlib.suppress(Exception):  # it may fail with its batch
            store.write(work)

    threading.Thread(target=call).start()
    assert begun.wait(TIMEOUT_S)
    try:
        yield
    finally:
        go_on.set()


def queue_works(store: Store, callers: ThreadPoolExecutor, works: list, *, patience_s=TIMEOUT_S) -> list[Future]:
    """Write each work from its own thread, and wait until all are queued."""
    ready, wanted = threading.Barrier(len(works) + 1), store.queued + len(works)

    def call(work):
        ready.wait(TIMEOUT_S)
        return store.write(work)

    futures = [callers.submit(call, work) for work in works]
    ready.wait(TIMEOUT_S)
    give_up = time.monotonic() + patience_s
    while store.queued < wanted and time.monotonic() < give_up:
        time.sleep(0.001)
    return futures


def await_room(store: Store, work):
    """Write as soon as the queue accepts it."""
    give_up = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up:
        try:
            return store.write(work)
        except Overloaded as rejection:
            time.sleep(rejection.retry_after_ms / 1000)
    raise TimeoutError


def count_commits(database: Database) -> int:
    """Return the number of commits that wrote the notes, according to the database."""
    if database.engine == "sqlite":
        return count_wal_commits(Path(f"{database.path}-wal"))
    with database.opened() as session:
        return session.rows("SELECT COUNT(DISTINCT CAST(xmin AS TEXT)) FROM notes")[0][0]


def count_wal_commits(wal: Path) -> int:
    """Return the number of commits in a write-ahead log: the frames that contain the size of the database."""
    content = wal.read_bytes()
    page_bytes, salts = struct.unpack(">I", content[8:12])[0], content[16:24]
    step = FRAME_HEADER_BYTES + page_bytes
    headers = [content[at : at + FRAME_HEADER_BYTES] for at in range(WAL_HEADER_BYTES, len(content), step)]
    return sum(1 for header in headers if header[8:16] == salts and header[4:8] != bytes(4))


# -- one write


def test_write_gives_the_result_and_readers_see_it(store, callers):
    assert store.write(note("one")) == "one"
    assert store.read(read_notes) == ["one"]
    assert callers.submit(store.snapshot, read_notes).result(TIMEOUT_S) == ["one"]


def test_write_is_seen_by_others_when_it_returns(store, database):
    store.write(note("one"))
    with database.opened() as elsewhere:
        assert elsewhere.rows("SELECT text FROM notes") == [("one",)]


def test_write_that_raises_leaves_nothing_and_raises_the_same(store):
    def work(tx: Transaction) -> None:
        note("half")(tx)
        raise LookupError("half")

    with pytest.raises(LookupError, match="half"):
        store.write(work)
    assert store.read(read_notes) == []


def test_write_of_rollback_only_gives_the_result_and_leaves_nothing(store):
    def work(tx: Transaction) -> list[str]:
        note("tried")(tx)
        tx.rollback_only = True
        return read_notes(tx)

    assert store.write(work) == ["tried"]
    assert store.read(read_notes) == []


def test_snapshot_stays_at_one_point_in_time(store):
    def work(tx: Transaction) -> tuple[list[str], list[str]]:
        before = read_notes(tx)
        store.write(note("meanwhile"))
        return before, read_notes(tx)

    assert store.snapshot(work) == ([], [])
    assert store.snapshot(read_notes) == ["meanwhile"]


def test_snapshot_that_raises_leaves_the_connection_usable(store):
    def work(_tx: Transaction) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        store.snapshot(work)
    assert store.snapshot(read_notes) == []


def test_read_goes_on_while_the_writer_is_busy(store):
    store.write(note("before"))
    with busy_writer(store):
        assert store.read(read_notes) == ["before"]


# -- many writes in one commit


def test_writes_that_wait_together_share_a_commit(store, database, callers):
    before = count_commits(database)
    with busy_writer(store):
        futures = queue_works(store, callers, [note(str(number)) for number in range(CALLERS)])
    assert {future.result(TIMEOUT_S) for future in futures} == {str(number) for number in range(CALLERS)}
    assert 1 <= count_commits(database) - before <= 3
    assert len(store.read(read_notes)) == CALLERS


def test_write_alone_has_a_commit_of_its_own(store, database):
    before = count_commits(database)
    for number in range(5):
        store.write(note(str(number)))
    assert count_commits(database) - before == 5


def test_more_writes_than_a_commit_takes_are_all_done(store, callers):
    with busy_writer(store):
        futures = queue_works(store, callers, [note(str(number)) for number in range(BATCH_MAX + CALLERS)])
    assert len({future.result(TIMEOUT_S) for future in futures}) == BATCH_MAX + CALLERS
    assert len(store.read(read_notes)) == BATCH_MAX + CALLERS


def test_writes_of_one_commit_see_each_other_and_fail_alone(store, database, callers):
    with busy_writer(store):
        futures = queue_works(store, callers, [note("same")] * CALLERS)
    outcomes = [future.exception(TIMEOUT_S) for future in futures]
    assert outcomes.count(None) == 1
    assert {type(outcome) for outcome in outcomes if outcome} == {CONFLICT[database.engine]}
    assert store.read(read_notes) == ["same"]


def note_deferred(text: str):
    """Return a write like `note`, but deferred."""

    def work(tx: Transaction) -> str:
        INSERT_NOTE.run_deferred(tx, text=text)
        return text

    return work


@pytest.fixture
def prepared(store):
    """Prepare the deferred statements on PostgreSQL in advance."""
    for _ in range(2):
        store.write(note_deferred("prepared"))
        store.write(lambda tx: DELETE_NOTE.run(tx, text="prepared"))


@pytest.mark.parametrize("known", [False, True])
def test_deferred_statements_fail_alone_too(store, database, callers, known, request):
    if known:
        request.getfixturevalue("prepared")
    with busy_writer(store):
        futures = queue_works(store, callers, [note_deferred("same"), note_deferred("same"), note_deferred("other")])
    outcomes = [future.exception(TIMEOUT_S) for future in futures]
    assert [type(outcome) for outcome in outcomes if outcome] == [CONFLICT[database.engine]]
    assert store.read(read_notes) == ["other", "same"]


def test_deferred_statement_is_undone_with_its_work(store, callers, prepared):
    def half(tx: Transaction) -> None:
        note_deferred("half")(tx)
        raise LookupError("half")

    with busy_writer(store):
        futures = queue_works(store, callers, [note_deferred("before"), half, note_deferred("after")])
    assert [type(future.exception(TIMEOUT_S)) for future in futures] == [type(None), LookupError, type(None)]
    assert store.read(read_notes) == ["after", "before"]


def test_work_that_fails_after_deferred_statements_of_others_undoes_only_itself(store, callers, prepared):
    def give_up(tx: Transaction) -> None:
        raise LookupError("given up")

    with busy_writer(store):
        futures = queue_works(store, callers, [note_deferred("before"), give_up, note_deferred("after")])
    assert [type(future.exception(TIMEOUT_S)) for future in futures] == [type(None), LookupError, type(None)]
    assert store.read(read_notes) == ["after", "before"]


def test_deferred_statement_is_seen_by_the_next_one(store, prepared):
    def work(tx: Transaction) -> list[str]:
        note_deferred("one")(tx)
        note_deferred("two")(tx)
        return read_notes(tx)

    assert store.write(work) == ["one", "two"]


def test_new_statement_follows_the_deferred_ones(store, database, prepared):
    new = Statement("INSERT INTO notes VALUES (:text || '!')")

    def work(tx: Transaction) -> int:
        note_deferred("one")(tx)
        new.run_deferred(tx, text="two")
        note_deferred("three")(tx)
        return new.change(tx, text="four")

    assert store.write(work) == 1
    assert store.read(read_notes) == ["four!", "one", "three", "two!"]


def test_dry_run_after_deferred_statements_leaves_them_alone(store, callers, prepared):
    def validate(tx: Transaction) -> None:
        note_deferred("validate")(tx)
        tx.rollback_only = True

    with busy_writer(store):
        futures = [*queue_works(store, callers, [note_deferred("before")])]
        futures.append(callers.submit(functools.partial(store.write, validate, dry_run=True)))
        futures += queue_works(store, callers, [note_deferred("after")])
    assert [future.exception(TIMEOUT_S) for future in futures] == [None, None, None]
    assert store.read(read_notes) == ["after", "before"]


def test_nobody_is_answered_before_the_commit(store, callers):
    begun, go_on = threading.Event(), threading.Event()

    def slow(_tx: Transaction) -> None:
        begun.set()
        go_on.wait(TIMEOUT_S)

    with busy_writer(store):
        (early,) = queue_works(store, callers, [note("early")])
        (late,) = queue_works(store, callers, [slow])
    assert begun.wait(TIMEOUT_S)
    assert not early.done()
    assert store.read(read_notes) == []
    go_on.set()
    assert late.result(TIMEOUT_S) is None
    assert early.result(TIMEOUT_S) == "early"


def test_failed_commit_reaches_every_caller_of_the_batch(store, database, callers):
    def answer_nothing(tx: Transaction) -> None:
        tx.connection.execute("INSERT INTO answers VALUES ('a note that there is not')")

    with busy_writer(store):
        futures = queue_works(store, callers, [note("one"), answer_nothing, note("two")])
    assert [type(future.exception(TIMEOUT_S)) for future in futures] == [CONFLICT[database.engine]] * 3
    assert store.read(read_notes) == []
    assert store.write(note("three")) == "three"


# -- tasks: calls that run in the writer's own thread


def run_tasks(store: Store, calls: list, *, beside=lambda: None) -> list:
    """Run each call as a task, all queued before the first runs, after `beside`, and return their results or errors."""
    outcomes: list = [None] * len(calls)
    done = threading.Semaphore(0)

    def task(place: int, call) -> None:
        try:
            outcomes[place] = call()
        except Exception as error:  # noqa: BLE001 - it is an outcome
            outcomes[place] = error
        done.release()

    with busy_writer(store):
        beside()
        assert all(store.submit_task(functools.partial(task, place, call)) for place, call in enumerate(calls))
    for _ in calls:
        assert done.acquire(timeout=TIMEOUT_S)
    return outcomes


def test_tasks_share_a_commit_and_the_writers_thread(store, database):
    before = count_commits(database)
    threads = set()

    def call(number: int) -> str:
        threads.add(threading.current_thread().name)
        return store.write(note(str(number)))

    outcomes = run_tasks(store, [functools.partial(call, number) for number in range(CALLERS)])
    assert outcomes == [str(number) for number in range(CALLERS)]
    assert 1 <= count_commits(database) - before <= 2
    assert threads == {"store-writer"}


def test_task_goes_on_only_when_others_can_see_its_write(store, database):
    def call(text: str) -> bool:
        store.write(note(text))
        with database.opened() as elsewhere:
            return (text,) in elsewhere.rows("SELECT text FROM notes")

    assert run_tasks(store, [functools.partial(call, str(number)) for number in range(CALLERS)]) == [True] * CALLERS


def test_task_writes_and_reads_as_often_as_it_likes(store):
    def call(name: str) -> list[str]:
        first = store.write(note(f"{name} first"))
        assert first in store.read(read_notes)
        second = store.write(note(f"{name} second"))
        return [text for text in store.snapshot(read_notes) if text.startswith(name)] + [second]

    outcomes = run_tasks(store, [functools.partial(call, name) for name in ("a", "b", "c")])
    assert outcomes == [[f"{name} first", f"{name} second", f"{name} second"] for name in ("a", "b", "c")]


def test_tasks_fail_alone_beside_writes_of_threads(store, database, callers):
    def late() -> None:
        store.write(note("late"), deadline=time.monotonic() - 1)

    waiting: list[Future] = []
    outcomes = run_tasks(
        store,
        [lambda: store.write(note("same")), late, lambda: store.write(note("other"))],
        beside=lambda: waiting.extend(queue_works(store, callers, [note("same")])),
    )
    assert waiting[0].result(TIMEOUT_S) == "same"
    assert [type(outcome) for outcome in outcomes] == [CONFLICT[database.engine], DeadlinePassed, str]
    assert store.read(read_notes) == ["other", "same"]


def test_failed_commit_reaches_tasks_and_threads_alike(store, database, callers):
    def answer_nothing(tx: Transaction) -> None:
        tx.connection.execute("INSERT INTO answers VALUES ('a note that there is not')")

    waiting: list[Future] = []
    outcomes = run_tasks(
        store,
        [lambda: store.write(answer_nothing), lambda: store.write(note("two"))],
        beside=lambda: waiting.extend(queue_works(store, callers, [note("one")])),
    )
    assert {type(outcome) for outcome in [waiting[0].exception(TIMEOUT_S), *outcomes]} == {CONFLICT[database.engine]}
    assert store.read(read_notes) == []


def test_task_is_not_taken_when_the_queue_is_full_or_the_store_closed(database):
    store = new_store(database, queue_max=2)
    ran = []
    with busy_writer(store):
        assert store.submit_task(lambda: ran.append(1))
        assert store.submit_task(lambda: ran.append(2))
        assert not store.submit_task(lambda: ran.append(3))
    store.close()
    assert not store.submit_task(lambda: ran.append(4))
    assert ran == [1, 2]


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
        for number in range(3):
            with pytest.raises(DeadlinePassed):
                store.write(note(str(number)), deadline=time.monotonic() + 0.05)
        begun_s = time.monotonic()
        with pytest.raises(Overloaded) as rejection:
            store.write(note("one too many"))
        assert time.monotonic() - begun_s < 30
        assert rejection.value.retry_after_ms > 0
    assert await_room(store, note("afterwards")) == "afterwards"
    assert store.read(read_notes) == ["afterwards"]
    store.close()


def test_queue_in_which_writes_wait_too_long_rejects_until_it_is_short_again(database):
    store = new_store(database, wait_max_s=0.05)
    linger = functools.partial(time.sleep, 0.02)
    with busy_writer(store):
        assert all(store.submit_task(linger) for _ in range(40))  # a burst is taken
        time.sleep(0.1)
    time.sleep(2 * WRITES.interval_s)
    assert store.rejects_writes()
    with pytest.raises(Overloaded):
        store.write(note("one too many"))
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


def test_unsafe_sqlite_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_driver, "SQLITE_VERSION_MIN", (99, 0, 0))
    with pytest.raises(sqlite_driver.UnsafeSqlite):
        open_store(make_sqlite_url(tmp_path / "notes.db"))
    assert not (tmp_path / "notes.db").exists()
