"""Writes, alone and together in one commit, on a real database."""

from __future__ import annotations

import functools
import threading

import pytest

from storekeep.server.store.engine import BATCH_MAX
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from tests.support.note_stores import (
    CALLERS,
    CONFLICT,
    INSERT_NOTE,
    TIMEOUT_S,
    busy_writer,
    count_commits,
    note,
    queue_works,
    read_notes,
)

DELETE_NOTE = Statement("DELETE FROM notes WHERE text = :text")


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
    assert [type(error) for future in futures if (error := future.exception(TIMEOUT_S))] == [CONFLICT[database.engine]]
    assert store.read(read_notes) == ["other", "same"]
    with busy_writer(store):
        futures = [queue_works(store, callers, [work])[0] for work in (note_deferred("same"), read_notes)]
    assert [type(future.exception(TIMEOUT_S)) for future in futures] == [CONFLICT[database.engine], type(None)]


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
