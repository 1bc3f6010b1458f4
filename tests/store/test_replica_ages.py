"""Tests of the staleness of a replica, which is computed from its part of the primary's ledger, never too low.

The replica is a database that the test writes itself, so that it can have any ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from storekeep.server.store.limits import Limits
from storekeep.server.store.postgresql.driver import PostgresDriver
from storekeep.server.store.reads import ReadBounds
from storekeep.server.store.replicas import (
    HISTORY_MAX_S,
    HISTORY_RESOLUTION,
    NO_END,
    History,
    LedgerEnd,
    Replica,
    Replicas,
)
from tests.support.databases import PostgresDatabase, new_database

LIMITS = Limits(pool_size=1, connect_timeout_s=10.0)
TIMEOUT_S = 60.0
INTERVAL_S = 0.05
ANY = ReadBounds(max_staleness_s=3_600.0, consistency_token=0)
pytestmark = pytest.mark.engine("postgresql", reason="SQLite has no replicas")


@pytest.fixture
def primary(engine: str, tmp_path: Path) -> Iterator[PostgresDatabase]:
    made = new_database(engine, tmp_path)
    assert isinstance(made, PostgresDatabase)
    yield made
    made.remove()


@pytest.fixture
def copy(engine: str, tmp_path: Path) -> Iterator[PostgresDatabase]:
    made = new_database(engine, tmp_path)
    assert isinstance(made, PostgresDatabase)
    yield made
    made.remove()


def write(database: PostgresDatabase, *sequences: int, history: str = "a") -> None:
    """Append entries to a ledger. Each history has its own hashes."""
    with database.opened() as session:
        for sequence in sequences:
            session.run(
                "INSERT INTO audit_entries (sequence, create_time_us, type, actor, method, resource, request_id,"
                " previous_hash, entry_hash) VALUES (?, 0, '', '', '', '', '', ?, ?)",
                *(sequence, b"", f"{history}{sequence}".encode()),
            )


def end(position: int, polled_s: float = 0.0, history: str = "a") -> LedgerEnd:
    return LedgerEnd(position, f"{history}{position}".encode() if position else b"", polled_s)


@contextmanager
def make_replica(url: str) -> Iterator[Replica]:
    replica = Replica("copy", PostgresDriver(url, limits=LIMITS), PostgresDriver(url, limits=LIMITS))
    try:
        yield replica
    finally:
        replica.close()


def poll_after(database: PostgresDatabase, *ends: LedgerEnd) -> LedgerEnd:
    """Return the known end of a replica that is polled after each of these ends of the primary's ledger."""
    history = History()
    with make_replica(database.url) as replica:
        for one in ends:
            history.record(one, continues=True)
            replica.poll(history)
        return replica.known_end


# -- one poll


def test_replica_with_all_entries_is_as_fresh_as_the_newest_end(copy: PostgresDatabase):
    write(copy, 1, 2, 3)
    assert poll_after(copy, end(3, 10.0), end(3, 11.0)) == end(3, 11.0)


def test_replica_is_not_trusted_before_the_primary_has_been_asked_once_more(copy: PostgresDatabase):
    write(copy, 1, 2, 3)
    assert poll_after(copy, end(3, 10.0)) is NO_END


def test_replica_that_is_behind_is_as_old_as_the_newest_end_that_it_has(copy: PostgresDatabase):
    write(copy, 1, 2, 3)
    assert poll_after(copy, end(1, 10.0), end(2, 11.0), end(7, 12.0)) == end(2, 11.0)


def test_replica_that_lacks_all_is_left_out(copy: PostgresDatabase):
    write(copy, 1)
    assert poll_after(copy, end(5, 10.0), end(6, 11.0)) is NO_END


def test_replica_with_another_history_is_left_out(copy: PostgresDatabase):
    write(copy, 1, 2, 3, history="b")
    assert poll_after(copy, end(3, 10.0), end(3, 11.0)) is NO_END
    assert poll_after(copy, end(2, 10.0), end(8, 11.0)) is NO_END


def test_replica_with_entries_that_the_primary_lost_is_left_out(copy: PostgresDatabase):
    write(copy, 1, 2, 3)
    assert poll_after(copy, end(2, 10.0), end(2, 11.0), end(2, 12.0)) is NO_END


def test_replica_of_an_empty_ledger_can_be_read(copy: PostgresDatabase):
    assert poll_after(copy, end(0, 10.0), end(0, 11.0)) == end(0, 11.0)


def test_replica_that_does_not_answer_is_left_out():
    history = History()
    with make_replica("postgresql://127.0.0.1:9/nowhere") as replica:
        history.record(end(0), continues=True)
        replica.poll(history)
        assert replica.known_end is NO_END


# -- the history


def test_history_of_an_idle_primary_is_its_newest_end():
    history = History()
    for polled_s in range(10):
        history.record(end(4, float(polled_s)), continues=True)
    assert history.last() == end(4, 9.0)
    assert history.last(until=3) is NO_END


def test_history_is_forgotten_when_the_primary_has_lost_its_last_entry():
    history = History()
    history.record(end(7, 1.0), continues=True)
    history.record(end(5, 2.0, history="b"), continues=False)
    assert history.last(until=7) == end(5, 2.0, history="b")
    assert history.last(until=4) is NO_END


def test_history_that_is_long_is_thinned_out_but_never_made_younger():
    history = History()
    last = 20_000
    for position in range(last + 1):
        history.record(end(position, float(position)), continues=True)
    for position in range(last):
        age_s = last - history.last(until=position).polled_s
        assert last - position <= age_s <= (last - position) * (1 + 2 * HISTORY_RESOLUTION) + 1
    assert len(history._ends) < 300


def test_history_of_more_than_a_day_ago_is_forgotten():
    history = History()
    for position, polled_s in enumerate((0.0, 1.0, 2 * HISTORY_MAX_S)):
        history.record(end(position, polled_s), continues=True)
    assert history.last(until=1) is NO_END


# -- polling threads


@contextmanager
def watching(primary: str, *replicas: str) -> Iterator[Replicas]:
    with ExitStack() as stack:
        made = [stack.enter_context(make_replica(url)) for url in replicas]
        watched = Replicas(PostgresDriver(primary, limits=LIMITS), made, interval_s=INTERVAL_S)
        stack.callback(watched.close)
        yield watched


def await_condition(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(INTERVAL_S / 5)


def test_replica_is_chosen_by_age_and_position(primary: PostgresDatabase, copy: PostgresDatabase):
    for database in (primary, copy):
        write(database, 1, 2)
    with watching(primary.url, copy.url) as replicas:
        await_condition(lambda: replicas.choose(ANY) is not None)
        assert replicas.choose(ReadBounds(max_staleness_s=3_600.0, consistency_token=2)) is not None
        assert replicas.choose(ReadBounds(max_staleness_s=3_600.0, consistency_token=3)) is None
        assert replicas.choose(ReadBounds(max_staleness_s=3_600.0)) is None
        assert replicas.choose(ReadBounds(consistency_token=0)) is None
        assert replicas.choose(ReadBounds(max_staleness_s=0.0, consistency_token=0)) is None


def test_replica_that_falls_behind_grows_older_until_it_catches_up(primary: PostgresDatabase, copy: PostgresDatabase):
    recent = ReadBounds(max_staleness_s=1.0, consistency_token=0)
    for database in (primary, copy):
        write(database, 1)
    with watching(primary.url, copy.url) as replicas:
        await_condition(lambda: replicas.choose(recent) is not None)
        write(primary, 2)
        await_condition(lambda: replicas.choose(recent) is None)
        assert replicas.choose(ANY) is not None
        write(copy, 2)
        await_condition(lambda: replicas.choose(recent) is not None)


def test_replica_of_a_primary_that_is_gone_grows_older(primary: PostgresDatabase, copy: PostgresDatabase):
    recent = ReadBounds(max_staleness_s=1.0, consistency_token=0)
    with watching(primary.url, copy.url) as replicas:
        await_condition(lambda: replicas.choose(recent) is not None)
        primary.remove()
        await_condition(lambda: replicas.choose(recent) is None)
        assert replicas.choose(ANY) is not None


def test_replica_that_does_not_answer_holds_up_no_other(primary: PostgresDatabase, copy: PostgresDatabase):
    recent = ReadBounds(max_staleness_s=1.0, consistency_token=0)
    with watching(primary.url, "postgresql://127.0.0.1:9/nowhere", copy.url) as replicas:
        await_condition(lambda: replicas.choose(recent) is not None)
        for _ in range(30):  # longer than one poll keeps it recent
            time.sleep(INTERVAL_S)
            await_condition(lambda: replicas.choose(recent) is not None)


def test_replica_that_failed_a_read_is_left_out_until_it_answers(primary: PostgresDatabase, copy: PostgresDatabase):
    with watching(primary.url, copy.url) as replicas:
        await_condition(lambda: replicas.choose(ANY) is not None)
        replica = replicas.choose(ANY)
        assert replica is not None
        replica.mark_failed(ConnectionError("gone"))
        await_condition(lambda: replicas.choose(ANY) is replica)
