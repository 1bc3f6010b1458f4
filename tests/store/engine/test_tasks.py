"""Tasks: calls that run in the writer's own thread."""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import Future

from storekeep.server.store.engine import Store
from storekeep.server.store.errors import DeadlinePassed
from storekeep.server.store.sql.transactions import Transaction
from tests.support.note_stores import (
    CALLERS,
    CONFLICT,
    TIMEOUT_S,
    busy_writer,
    count_commits,
    new_store,
    note,
    queue_works,
    read_notes,
)


def run_tasks(store: Store, calls: list, *, beside=lambda: None) -> list:
    """Run each call as a task, all queued before the first runs, after `beside`, and return their results or errors."""
    outcomes: list = [None] * len(calls)
    done = threading.Semaphore(0)

    def task(index: int, call) -> None:
        try:
            outcomes[index] = call()
        except Exception as error:  # noqa: BLE001 - it is an outcome
            outcomes[index] = error
        done.release()

    with busy_writer(store):
        beside()
        assert all(store.submit_task(functools.partial(task, index, call)) for index, call in enumerate(calls))
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
