"""Periodic jobs: the purge deletes old replies, keeps recent ones, and retries are answered until then."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.errors import AlreadyExists
from storekeep.server.jobs.periodic import ROWS_PER_TRANSACTION_MAX, PurgeJob, purge_replies
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from tests.support.databases import Database
from tests.support.stores import open_store

COUNT_REPLIES = Statement("SELECT COUNT(*) FROM replies")
INSERT_REPLIES = Statement(
    """
    INSERT INTO replies (caller, method, request_id, fingerprint, reply, create_time_us)
    SELECT 'a', 'm', value, :nothing, :nothing, 1 FROM TEXTS(:request_ids) AS wanted
    """
)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    opened = open_store(database.url)
    yield opened
    opened.close()


def call(request_id: str) -> Call:
    return Call(Caller("serviceAccounts/test"), "storekeep.v1.CustomerService/CreateCustomer", request_id)


def replies(store: Store) -> int:
    return store.read(COUNT_REPLIES.one)[0]


def test_reply_within_its_time_is_kept(store):
    made = CUSTOMERS.create(store, call("first"), Customer("ada", "Ada"))
    assert PurgeJob(store, purges=[purge_replies(retention_s=60)], interval_s=60).run_once() == 0
    assert CUSTOMERS.create(store, call("first"), Customer("ada", "Ada")) == made


def test_reply_beyond_its_time_is_removed(store):
    CUSTOMERS.create(store, call("first"), Customer("ada", "Ada"))
    time.sleep(0.01)
    assert PurgeJob(store, purges=[purge_replies(retention_s=0)], interval_s=60).run_once() == 1
    with pytest.raises(AlreadyExists):
        CUSTOMERS.create(store, call("first"), Customer("ada", "Ada"))


def test_step_of_the_clock_makes_no_reply_older(database: Database):
    week_us, now_us, elapsed_s = 7 * 86_400_000_000, [10**15], [50.0]
    with closing(open_store(database.url, clock=lambda: now_us[0])) as store:
        CUSTOMERS.create(store, call("first"), Customer("ada", "Ada"))
        job = PurgeJob(
            store, purges=[purge_replies(retention_s=60, read_elapsed_s=lambda: elapsed_s[0])], interval_s=60
        )
        assert job.run_once() == 0
        now_us[0] += week_us
        elapsed_s[0] += 59
        assert job.run_once() == 0
        elapsed_s[0] += 2
        assert job.run_once() == 1


def test_more_than_one_transaction_may_remove_are_all_removed(store):
    number = ROWS_PER_TRANSACTION_MAX * 2 + 7
    rows = msgspec.json.encode([f"r{number}" for number in range(number)]).decode()
    store.write(lambda tx: INSERT_REPLIES.run(tx, request_ids=rows, nothing=b""))
    assert PurgeJob(store, purges=[purge_replies(retention_s=1)], interval_s=60).run_once() == number
    assert replies(store) == 0


def test_thread_works_by_itself_and_stops(store):
    CUSTOMERS.create(store, call("first"), Customer("ada", "Ada"))
    maintenance = PurgeJob(store, purges=[purge_replies(retention_s=0)], interval_s=0.01)
    maintenance.start()
    give_up = time.monotonic() + 60
    while replies(store) and time.monotonic() < give_up:
        time.sleep(0.01)
    maintenance.stop()
    assert replies(store) == 0


def test_error_that_nobody_expected_does_not_end_the_job(store, caplog: pytest.LogCaptureFixture):
    CUSTOMERS.create(store, call("first"), Customer("ada", "Ada"))
    runs = itertools.count()

    def fail_twice(tx: Transaction) -> int:
        if next(runs) < 2:
            raise KeyError("no such row")
        return 0

    job = PurgeJob(store, purges=[fail_twice, purge_replies(retention_s=0)], interval_s=0.01)
    job.start()
    give_up = time.monotonic() + 60
    while replies(store) and time.monotonic() < give_up:
        time.sleep(0.01)
    job.stop()
    assert replies(store) == 0
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]
