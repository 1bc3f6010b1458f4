"""Tests of a PostgreSQL that dies, hangs, deadlocks or drops connections: calls end, nothing is lost or done twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.server.store.engine import ATTEMPTS_MAX
from storekeep.server.store.errors import DeadlinePassed, ReadTooExpensive, StorageUnavailable
from storekeep.server.store.limits import Limits
from storekeep.server.store.opening import open_store
from storekeep.server.store.reads import ReadBounds
from storekeep.server.store.sql.transactions import Transaction
from storekeep.v1 import orders_pb2, products_pb2
from tests.support.buyers import Buyers, list_orders, open_shop, verify
from tests.support.databases import PostgresDatabase
from tests.support.postgres import Postgres, new_folder
from tests.support.processes import ServerProcess
from tests.support.proxies import Proxy
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop, new_request_id

pytestmark = pytest.mark.engine("postgresql", reason="SQLite is no server that could be gone")

POOL_SIZE = 3
OUTAGE_S = float(os.environ.get("PROVE_OUTAGE_S", "3"))
"""How long the database is down. `make prove` uses longer outages."""
DEADLINE_S = 1.0
CALLERS = 8
PATIENCE_S = 120.0
LATE_MAX_S = 30.0
REFUSALS = {
    (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),  # after calls have waited too long
}
SETTINGS = {
    "database_pool_size": str(POOL_SIZE),
    "database_connect_timeout_s": "5",
    "database_lock_timeout_s": "1",
    "database_statement_timeout_s": "3",
    "health_interval_s": "0.1",
    "health_timeout_s": "0.5",
}


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for this test only, which may be killed."""
    made = Postgres(new_folder())
    made.make()
    made.start()
    yield made
    with suppress(FileNotFoundError):
        made.signal(signal.SIGCONT)
    made.stop()
    made.remove()


@pytest.fixture
def served(engine: str, postgres: Postgres, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server on that PostgreSQL."""
    database = PostgresDatabase(postgres, postgres.create(migrated=True))
    process = ServerProcess(tmp_path / "server", database=database, **SETTINGS)
    yield process
    process.kill()


def await_true(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up, "it never came about"
        time.sleep(0.05)


class Health:
    """The health of a server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._check = health_pb2_grpc.HealthStub(channel).Check

    def is_serving(self, service: str = "") -> bool:
        answer = self._check(health_pb2.HealthCheckRequest(service=service), timeout=60)
        return answer.status == health_pb2.HealthCheckResponse.SERVING


@contextmanager
def run_callers(shop: Shop, outcomes: list[tuple[str, float, Any]]) -> Iterator[None]:
    """Run readers and writers that call continuously with a deadline, and record each outcome, duration and error."""
    product, request = shop.product().name, shop.order_request((shop.variant(stock=10**6).sku, 1))
    stop = threading.Event()

    def call(kind: str, send: Callable[[], Any]) -> None:
        while not stop.is_set():
            begun, refused = time.monotonic(), None
            try:
                send()
            except grpc.RpcError as error:
                refused = error
                time.sleep(0.01)
            outcomes.append((kind, time.monotonic() - begun, refused))

    def read() -> None:
        shop.products.GetProduct(products_pb2.GetProductRequest(name=product), timeout=DEADLINE_S)

    def write() -> None:
        again = orders_pb2.PlaceOrderRequest()
        again.CopyFrom(request)
        again.request_id = new_request_id()
        shop.orders.PlaceOrder(again, timeout=DEADLINE_S)

    threads = [
        threading.Thread(target=call, args=[kind, send])
        for kind, send in [("read", read), ("write", write)] * (CALLERS // 2)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def count_answers(outcomes: list[tuple[str, float, Any]]) -> int:
    """Return the number of calls that were not refused."""
    return sum(refused is None for _, _, refused in outcomes)


def check_outcomes(outcomes: list[tuple[str, float, Any]]) -> None:
    """Check that no call outlasted its deadline, and that each error tells the caller what to do."""
    assert max(seconds for _, seconds, _ in outcomes) < DEADLINE_S + LATE_MAX_S
    for _, _, error in outcomes:
        if error is not None and error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            refusal = parse_refusal(error)
            assert (refusal.code, refusal.reason) in REFUSALS
            assert refusal.retry_after_s is not None


def count_threads(server: ServerProcess) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def count_sockets(server: ServerProcess) -> int:
    """Return the number of open sockets: connections to the database and of callers."""
    links = Path(f"/proc/{server.process.pid}/fd").iterdir()
    return sum(1 for link in links if str(link.readlink()).startswith("socket:"))


def connections(database: PostgresDatabase) -> int:
    with database.opened() as session:
        sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return session.rows(sql + " AND backend_type = 'client backend'")[0][0]  # autovacuum has one too


def check_recovery(served: ServerProcess, shop: Shop, health: Health, *, threads: int, sockets: int) -> None:
    """Check that the server has recovered completely."""
    await_true(health.is_serving)
    await_true(lambda: count_threads(served) <= threads + 1)
    await_true(lambda: count_sockets(served) <= sockets)
    assert connections(served.database) <= POOL_SIZE + 1
    assert shop.order().name
    verify(served)


def test_database_that_is_killed_under_load_is_told_at_once_and_comes_back_by_itself(
    served: ServerProcess, postgres: Postgres
):
    with open_shop(served) as shop:
        health = Health(shop.bare_channel)
        shop.order()
        await_true(health.is_serving)
        threads, sockets = count_threads(served), count_sockets(served)
        outcomes: list[tuple[str, float, Any]] = []
        with run_callers(shop, outcomes):
            await_true(lambda: count_answers(outcomes) > CALLERS)
            postgres.kill()
            await_true(lambda: not health.is_serving())
            assert health.is_serving("liveness")
            answers = count_answers(outcomes)
            time.sleep(OUTAGE_S)
            assert count_answers(outcomes) <= answers + CALLERS  # the last answer of each may not be counted yet
            postgres.start()
            await_true(health.is_serving)
            mark = len(outcomes)
            await_true(lambda: {kind for kind, _, refused in outcomes[mark:] if not refused} == {"read", "write"})
        check_outcomes(outcomes)
        check_recovery(served, shop, health, threads=threads, sockets=sockets)


def test_database_that_hangs_under_load_holds_nobody_beyond_the_deadline(served: ServerProcess, postgres: Postgres):
    with open_shop(served) as shop:
        health = Health(shop.bare_channel)
        shop.order()
        await_true(health.is_serving)
        threads, sockets = count_threads(served), count_sockets(served)
        outcomes: list[tuple[str, float, Any]] = []
        with run_callers(shop, outcomes):
            await_true(lambda: count_answers(outcomes) > CALLERS)
            postgres.signal(signal.SIGSTOP)
            await_true(lambda: not health.is_serving())
            time.sleep(OUTAGE_S)
            postgres.signal(signal.SIGCONT)
            await_true(health.is_serving)
            mark = len(outcomes)
            await_true(lambda: {kind for kind, _, refused in outcomes[mark:] if not refused} == {"read", "write"})
        check_outcomes(outcomes)
        check_recovery(served, shop, health, threads=threads, sockets=sockets)


def test_orders_survive_a_database_that_is_killed_again_and_again(served: ServerProcess, postgres: Postgres):
    buyers = Buyers(served)
    for _ in range(3):
        with buyers.buying():
            time.sleep(buyers.random.uniform(0.05, 0.3))
            postgres.kill()
        postgres.start()
        with grpc.insecure_channel(served.address) as channel:
            await_true(Health(channel).is_serving)
    buyers.check()
    assert buyers.account.acknowledged


def test_connections_that_the_server_ended_are_replaced_without_an_error(served: ServerProcess):
    end_all = """
        SELECT COUNT(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """
    with open_shop(served) as shop:
        product = shop.product().name
        for _ in range(3):
            with served.database.opened() as session:
                session.rows(end_all)
            assert shop.products.GetProduct(products_pb2.GetProductRequest(name=product)).name == product
            assert shop.order().name


# -- a commit whose answer is lost


@pytest.fixture
def proxied(engine: str, postgres: Postgres, tmp_path: Path) -> Iterator[tuple[ServerProcess, Proxy]]:
    """A server that reaches its database through a proxy."""
    database = PostgresDatabase(postgres, postgres.create(migrated=True))
    proxy = Proxy(postgres.port)
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database.name}"
    settings = SETTINGS | {"database_url": url, "health_interval_s": "3600"}
    process = ServerProcess(tmp_path / "server", database=database, **settings)
    yield process, proxy
    process.kill()
    proxy.close()


def test_order_whose_commit_got_no_answer_is_found_by_its_retry(proxied: tuple[ServerProcess, Proxy]):
    served, proxy = proxied
    with open_shop(served) as shop:
        request = shop.order_request(request_id=new_request_id())
        proxy.break_at = b"COMMIT\0"
        with pytest.raises(grpc.RpcError) as unknown:
            shop.orders.PlaceOrder(request)
        refusal = parse_refusal(unknown.value)
        assert (refusal.reason, refusal.code) == ("STORAGE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
        assert "same request_id" in refusal.text
        assert proxy.broken.is_set()
        order = shop.orders.PlaceOrder(request)
        assert [found.name for found in list_orders(shop, customer=request.customer)] == [order.name]
    verify(served)


# -- conflicts with other sessions, on the store itself

LIMITS = Limits(pool_size=2, pool_timeout_s=0.3, statement_timeout_s=5.0)
MAKE = (
    "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT NOT NULL)",
    "INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
    "CREATE SEQUENCE attempts",
)


@pytest.fixture
def database(engine: str, database: PostgresDatabase) -> PostgresDatabase:
    """A database with two notes, on the shared PostgreSQL."""
    with database.opened() as session:
        for statement in MAKE:
            session.run(statement)
    return database


@pytest.fixture
def store(database: PostgresDatabase):
    with closing(open_store(database.url, limits=LIMITS)) as opened:
        yield opened


def set_note(tx: Transaction, number: int, text: str) -> None:
    tx.connection.execute("UPDATE notes SET text = $2 WHERE id = $1", (number, text))


def notes(database: PostgresDatabase) -> list[str]:
    with database.opened() as session:
        return [text for (text,) in session.rows("SELECT text FROM notes ORDER BY id")]


def waits_for_lock(database: PostgresDatabase) -> bool:
    """Return whether a session waits for another one."""
    with database.opened() as session:
        sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return session.rows(sql)[0][0] > 0


def test_deadlock_with_foreign_sql_is_undone_and_run_again(store, database):
    locked, runs = threading.Event(), []

    def work(tx: Transaction) -> str:
        runs.append(1)
        set_note(tx, 1, "ours")
        if not locked.is_set():
            locked.set()
            await_true(lambda: waits_for_lock(database))
        set_note(tx, 2, "ours")
        return "done"

    with database.opened() as foreign, ThreadPoolExecutor(1) as pool:
        foreign.run("SET deadlock_timeout = '20s'")  # so that the other session is the victim
        with foreign.connection.transaction():
            foreign.run("UPDATE notes SET text = 'theirs' WHERE id = 2")
            ours = pool.submit(store.write, work)
            assert locked.wait(PATIENCE_S)
            foreign.run("UPDATE notes SET text = 'theirs' WHERE id = 1")
        assert ours.result(PATIENCE_S) == "done"
    assert len(runs) == 2
    assert notes(database) == ["ours", "ours"]


def failing(times: int, sqlstate: str = "40001") -> Callable[[Transaction], str]:
    """Return work that fails this many times. A sequence counts the attempts, because it is not rolled back."""

    def work(tx: Transaction) -> str:
        set_note(tx, 1, "changed")
        (attempt,) = tx.connection.execute("SELECT nextval('attempts')").fetchone()
        if attempt <= times:
            tx.connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$")
        return f"attempt {attempt}"

    return work


def test_serialization_failure_is_run_again(store, database):
    assert store.write(failing(ATTEMPTS_MAX - 1)) == f"attempt {ATTEMPTS_MAX}"
    assert notes(database) == ["changed", "two"]


def test_serialization_failure_without_end_is_told_and_nothing_changed(store, database):
    with pytest.raises(StorageUnavailable):
        store.write(failing(1000))
    assert notes(database) == ["one", "two"]
    with database.opened() as session:
        assert session.rows("SELECT last_value FROM attempts") == [(ATTEMPTS_MAX,)]


def test_serialization_failure_at_commit_is_run_again(store, database):
    with database.opened() as session:
        session.run(
            """
            CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF;
                RETURN NULL;
            END $$
            """
        )
        session.run(
            "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON notes DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION refuse_once()"
        )
    store.write(lambda tx: set_note(tx, 1, "changed"))
    assert notes(database) == ["changed", "two"]


def test_row_that_somebody_holds_fails_only_the_write_that_wants_it(store, database):
    with database.opened() as foreign, foreign.connection.transaction(), ThreadPoolExecutor(4) as pool:
        foreign.run("UPDATE notes SET text = 'theirs' WHERE id = 2")
        blocked = pool.submit(store.write, lambda tx: set_note(tx, 2, "ours"))
        others = [pool.submit(store.write, lambda tx: set_note(tx, 1, "ours")) for _ in range(3)]
        with pytest.raises(StorageUnavailable):
            blocked.result(PATIENCE_S)
        for other in others:
            other.result(PATIENCE_S)
    assert notes(database) == ["ours", "theirs"]


def test_writer_whose_connection_ends_during_its_work_changes_nothing(store, database):
    def work(tx: Transaction) -> None:
        set_note(tx, 1, "half")
        (pid,) = tx.connection.execute("SELECT pg_backend_pid()").fetchone()
        with database.opened() as session:
            session.rows("SELECT pg_terminate_backend(?, 5000)", pid)
        set_note(tx, 2, "half")

    with pytest.raises(StorageUnavailable):
        store.write(work)
    assert notes(database) == ["one", "two"]
    store.write(lambda tx: set_note(tx, 1, "whole"))
    assert notes(database) == ["whole", "two"]


# -- deadlines of statements


def running(database: PostgresDatabase, sql: str) -> int:
    with database.opened() as session:
        return session.rows(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE ? AND pid <> pg_backend_pid()",
            f"%{sql}%",
        )[0][0]


def sleep(tx: Transaction) -> None:
    tx.connection.execute("SELECT pg_sleep(20)")


def test_read_ends_with_the_deadline_of_the_call_and_so_does_its_statement(database):
    deadlines: list[float | None] = [None]
    with closing(open_store(database.url, limits=LIMITS, get_read_bounds=lambda: ReadBounds(deadlines[0]))) as store:
        for read in (store.read, store.snapshot):
            deadlines[0] = time.monotonic() + 0.3
            begun = time.monotonic()
            with pytest.raises(DeadlinePassed):
                read(sleep)
            assert time.monotonic() - begun < 15
            assert running(database, "pg_sleep(20)") == 0
        deadlines[0] = None
        assert store.read(lambda tx: tx.connection.execute("SELECT 1").fetchone()) == (1,)
        assert connections(database) == 3


def test_statement_without_a_deadline_ends_at_the_limit(database):
    short = Limits(pool_size=1, statement_timeout_s=0.3)
    with closing(open_store(database.url, limits=short)) as store:
        with pytest.raises(ReadTooExpensive):
            store.read(sleep)
        with pytest.raises(StorageUnavailable):
            store.write(sleep)
    assert running(database, "pg_sleep(20)") == 0


def test_write_that_outlasts_its_deadline_is_undone_and_the_others_of_its_batch_are_not(store, database):
    def slow(tx: Transaction) -> None:
        set_note(tx, 1, "slow")
        sleep(tx)

    with ThreadPoolExecutor(4) as pool:
        late = pool.submit(store.write, slow, deadline=time.monotonic() + 0.5)
        other = pool.submit(store.write, lambda tx: set_note(tx, 2, "quick"))
        with pytest.raises(DeadlinePassed):
            late.result(PATIENCE_S)
        other.result(PATIENCE_S)
    assert notes(database) == ["one", "quick"]


def test_write_whose_deadline_passes_between_its_statements_is_undone(store, database):
    def slow(tx: Transaction) -> None:
        set_note(tx, 1, "slow")
        time.sleep(0.3)
        set_note(tx, 2, "slow")

    with pytest.raises(DeadlinePassed):
        store.write(slow, deadline=time.monotonic() + 0.1)
    assert notes(database) == ["one", "two"]


def test_reader_waits_for_a_connection_no_longer_than_allowed(store, database):
    busy, done = threading.Barrier(3), threading.Event()

    def hold(tx: Transaction) -> None:
        busy.wait(PATIENCE_S)
        done.wait(PATIENCE_S)

    with ThreadPoolExecutor(2) as pool:
        holders = [pool.submit(store.read, hold) for _ in range(2)]
        busy.wait(PATIENCE_S)
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable):
            store.read(lambda tx: None)
        assert 0.3 <= time.monotonic() - begun < 30
        done.set()
        for holder in holders:
            holder.result(PATIENCE_S)
    store.read(lambda tx: None)


def test_database_that_is_not_there_refuses_a_start_in_one_line(engine: str, tmp_path: Path):
    from tests.support.postgres import free_port
    from tests.support.processes import run_command

    begun = time.monotonic()
    refused = run_command(
        "serve", data_dir=tmp_path, database_url=f"postgresql://shop:pa55word@127.0.0.1:{free_port()}/shop"
    )
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "cannot be opened" in refused.stderr
    assert "pa55word" not in refused.stderr
    assert time.monotonic() - begun < 60
