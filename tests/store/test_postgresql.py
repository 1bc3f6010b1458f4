"""Tests for PostgreSQL only: several servers on one database, TLS connections, a pooler."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import psycopg
import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StorageUnavailable
from storekeep.server.store.limits import Limits
from storekeep.server.store.postgresql import driver as postgresql
from storekeep.server.store.postgresql.connection import STATEMENTS_MAX
from storekeep.server.store.postgresql.driver import STORE_ERRORS
from storekeep.server.store.postgresql.errors import UnusablePostgres
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.v1 import auth_pb2, customers_pb2, orders_pb2
from tests.conftest import MakeServer
from tests.support import postgres
from tests.support.authorities import Authority, issue, make_authority
from tests.support.buyers import Buyers, open_shop, verify
from tests.support.databases import PostgresDatabase
from tests.support.postgres import SERVER_USER, free_port, unprivileged
from tests.support.processes import ServerProcess, run_command
from tests.support.proxies import Proxy
from tests.support.refusals import refused
from tests.support.shops import Shop
from tests.support.stores import open_store

pytestmark = pytest.mark.engine("postgresql", reason="SQLite has one server and no network")

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
ORDERS = 25
LIST = orders_pb2.ListOrdersRequest(page_size=3)
POOLER_SETTINGS = """
[databases]
* = host={host} port={port} pool_size=4

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
logfile = {folder}/log
max_client_conn = 200
"""


# -- many servers


def place_orders(server: ServerProcess, customer: str, sku: str) -> list[str]:
    with open_shop(server) as shop:
        return [shop.order((sku, 1), customer=customer).name for _ in range(ORDERS)]


def test_servers_on_one_database_sell_each_unit_once_and_count_without_a_gap(make_server: MakeServer, tmp_path: Path):
    data_dir = tmp_path / "data"
    servers = [make_server(data_dir=data_dir) for _ in range(2)]
    with open_shop(servers[0]) as shop:
        sku, customer = shop.variant(stock=2 * 3 * ORDERS).sku, shop.customer().name
        with ThreadPoolExecutor(6) as pool:
            placing = [pool.submit(place_orders, server, customer, sku) for server in servers * 3]
            names = [name for placed in placing for name in placed.result()]
        assert len(set(names)) == 6 * ORDERS
        level = shop.level(sku)
        assert (level.allocated, level.available) == (6 * ORDERS, 0)
    verify(servers[1])


def test_key_revoked_on_one_server_is_refused_by_the_other(make_server: MakeServer, tmp_path: Path):
    first, second = (make_server(data_dir=tmp_path / "data", revocation_poll_s="0.1") for _ in range(2))
    with open_shop(first) as admin, grpc.insecure_channel(second.address) as channel:
        account = auth_pb2.ServiceAccount(display_name="Other", roles=["roles/operator"])
        made = admin.auth.CreateServiceAccount(auth_pb2.CreateServiceAccountRequest(service_account=account))
        key = admin.auth.CreateApiKey(auth_pb2.CreateApiKeyRequest(parent=made.name, api_key=auth_pb2.ApiKey()))
        other = Shop(channel, api_key=key.secret)
        customer = other.customer().name
        admin.auth.RevokeApiKey(auth_pb2.RevokeApiKeyRequest(name=key.api_key.name))
        give_up = time.monotonic() + 60
        with refused("TOKEN_REVOKED"):
            while time.monotonic() < give_up:
                other.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=customer))


# -- the connections


def test_connections_are_there_before_anyone_calls(database: PostgresDatabase):
    with closing(open_store(database.url, limits=Limits(pool_size=3))), database.opened() as session:
        assert application_connections(session) == 4
    with database.opened() as session:
        give_up = time.monotonic() + 60
        while application_connections(session) and time.monotonic() < give_up:
            time.sleep(0.02)
        assert application_connections(session) == 0


def application_connections(session) -> int:
    sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'storekeep'"
    return session.rows(sql)[0][0]


def test_statements_of_any_number_are_answered_and_not_all_are_kept(database: PostgresDatabase):
    with closing(open_store(database.url, limits=Limits(pool_size=1))) as store:

        def work(tx: Transaction) -> int:
            for number in range(STATEMENTS_MAX + 20):
                assert tx.connection.execute(f"SELECT {number}").fetchone() == (number,)
            return tx.connection.execute("SELECT COUNT(*) FROM pg_prepared_statements").fetchone()[0]

        assert store.read(work) == STATEMENTS_MAX


def test_values_of_every_type_come_back_as_they_went(database: PostgresDatabase):
    statement = Statement(
        "SELECT CAST(:text AS TEXT), CAST(:number AS BIGINT), CAST(:truth AS BOOLEAN), CAST(:bytes AS BYTEA), "
        "CAST(:real AS DOUBLE PRECISION), CAST(:nothing AS TEXT)"
    )
    values = {"text": "ü\\'\n%s", "number": -(2**63), "truth": True, "bytes": bytes(range(256)), "real": 0.1}
    for pooler in (False, True):
        with closing(open_store(database.url, limits=Limits(pool_size=1, pooler=pooler))) as store:
            for read in (store.read, store.snapshot):
                row = read(lambda tx: statement.one(tx, **values, nothing=None))
                assert row == (*values.values(), None)


def test_snapshot_is_begun_with_its_first_statement_and_leaves_nothing_open(database: PostgresDatabase):
    with closing(open_store(database.url, limits=Limits(pool_size=1))) as store:
        isolation = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        assert store.snapshot(lambda tx: tx.connection.execute(isolation).fetchone()) == ("repeatable read", "on")
        assert store.read(lambda tx: tx.connection.execute(isolation).fetchone()) == ("read committed", "off")
        store.snapshot(lambda tx: None)
        assert store.read(lambda tx: tx.connection.in_transaction) is False


def test_server_that_became_read_only_is_unavailable_and_its_connection_replaced(database: PostgresDatabase):
    with closing(open_store(database.url)) as store:
        call = Call(Caller("serviceAccounts/test"), "storekeep.v1.CustomerService/CreateCustomer")
        with pytest.raises(STORE_ERRORS["25006"]):
            store.write(read_only)
        assert CUSTOMERS.create(store, call, Customer("ada", "Ada")).name == "customers/ada"


INSERT_LOCATION = Statement(
    "INSERT INTO locations (id, display_name, address, version, create_time_us, update_time_us, priority) "
    "VALUES (CAST(:id AS TEXT), '', '', 1, 0, 0, 0)"
)

FIND_LOCATION = Statement("SELECT id FROM locations WHERE id = :id")


@pytest.fixture
def store_at_work(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that has prepared the deferred statements, with a short idle timeout for write transactions."""
    monkeypatch.setattr(postgresql, "IDLE_TIMEOUT_MS", 500)
    with closing(open_store(database.url)) as store:
        for number in range(2):
            store.write(lambda tx, number=number: INSERT_LOCATION.run_deferred(tx, id=f"first-{number}"))
        yield store


def test_writer_that_falls_silent_after_deferred_statements_loses_its_turn(
    store_at_work: Store, database: PostgresDatabase
):
    def work(tx: Transaction) -> bool:
        INSERT_LOCATION.run_deferred(tx, id="lost")
        give_up = time.monotonic() + 60
        with database.opened() as session:
            while not session.rows("SELECT pg_try_advisory_xact_lock(?)", postgresql.WRITE_LOCK)[0][0]:
                if time.monotonic() > give_up:
                    return False
                time.sleep(0.1)
        return True

    taken: list[bool] = []
    with pytest.raises(StorageUnavailable):
        store_at_work.write(lambda tx: taken.append(work(tx)))
    assert taken[0]
    assert store_at_work.read(lambda tx: FIND_LOCATION.all(tx, id="lost")) == []
    store_at_work.write(lambda tx: INSERT_LOCATION.run_deferred(tx, id="found"))


def test_work_that_fails_on_a_lost_connection_leaves_nothing_and_the_next_is_written(
    store_at_work: Store, database: PostgresDatabase
):
    def work(tx: Transaction) -> None:
        INSERT_LOCATION.run_deferred(tx, id="lost")
        with database.opened() as session:
            session.rows(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        raise LookupError

    with pytest.raises(StorageUnavailable):
        store_at_work.write(work)
    store_at_work.write(lambda tx: INSERT_LOCATION.run_deferred(tx, id="found"))
    assert store_at_work.read(lambda tx: FIND_LOCATION.all(tx, id="lost")) == []


def read_only(tx: Transaction) -> None:
    tx.connection.execute("SET TRANSACTION READ ONLY")
    tx.connection.execute("DELETE FROM customers")


def test_database_with_another_encoding_is_refused(engine: str):
    server = postgres.get_run_postgres()
    server.drop("latin")
    server.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    with pytest.raises(UnusablePostgres, match="UTF8"):
        open_store(server.url("latin"))
    server.drop("latin")


def test_database_that_becomes_unusable_while_it_is_served_is_unavailable(engine: str):
    """A call would end with INTERNAL, and its text would describe the database."""
    server = postgres.get_run_postgres()
    server.drop("turned")
    server.run("CREATE DATABASE turned TEMPLATE template0 ENCODING 'UTF8'")
    with closing(open_store(server.url("turned"), limits=Limits(pool_size=1))) as store:
        server.drop("turned")
        server.run("CREATE DATABASE turned TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
        for act in (store.read, store.write, store.snapshot):
            with pytest.raises(StorageUnavailable):
                act(lambda tx: tx.connection.execute("SELECT 1").fetchone())
    server.drop("turned")


def test_hosts_are_tried_in_order(database: PostgresDatabase):
    port = database.server.port
    url = f"postgresql://postgres@127.0.0.1:{free_port()},localhost:{port}/{database.name}?target_session_attrs=any"
    with closing(open_store(url, limits=Limits(pool_size=1))) as store:
        assert store.read(lambda tx: tx.connection.execute("SELECT 1").fetchone()) == (1,)


# -- TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return make_authority(tmp_path / "authority", "authority")


@pytest.fixture
def tls_port(database: PostgresDatabase, authority: Authority, tmp_path: Path) -> Iterator[int]:
    """The port of a TLS proxy for the shared PostgreSQL, which is built without TLS."""
    identity = issue(tmp_path / "authority", "database", by=authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.private_key)
    proxy = Proxy(database.server.port, tls=context)
    yield proxy.port
    proxy.close()


def tls_url(database: PostgresDatabase, port: int, ca_file: Path, host: str = "127.0.0.1") -> str:
    return f"postgresql://postgres@{host}:{port}/{database.name}?sslmode=verify-full&sslrootcert={ca_file}"


def test_database_is_spoken_to_over_tls_that_is_verified(
    make_server: MakeServer, database: PostgresDatabase, authority: Authority, tls_port: int
):
    server = make_server(database_url=tls_url(database, tls_port, authority.file))
    with open_shop(server) as shop:
        assert shop.order().name
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stderr


def test_certificate_of_another_authority_is_refused(
    database: PostgresDatabase, authority: Authority, tls_port: int, tmp_path: Path
):
    (tmp_path / "other").mkdir()
    other = make_authority(tmp_path / "other", "authority")
    url = tls_url(database, tls_port, other.file)
    with pytest.raises(UnusablePostgres, match="SSL error"):
        open_store(url)
    ended = run_command("serve", data_dir=tmp_path, database_url=url)
    assert ended.returncode == 1
    assert "SSL error" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_certificate_for_another_host_is_refused(database: PostgresDatabase, authority: Authority, tls_port: int):
    with pytest.raises(UnusablePostgres, match="localhost"):
        open_store(tls_url(database, tls_port, authority.file, host="localhost"))


def test_database_without_tls_is_refused_where_tls_is_demanded(database: PostgresDatabase):
    with pytest.raises(UnusablePostgres, match="SSL"):
        open_store(f"{database.server.url(database.name, tcp=True)}?sslmode=require")


# -- a pooler


@pytest.fixture
def pooler(database: PostgresDatabase) -> Iterator[str]:
    """Return the URL of the database through PgBouncer in transaction mode."""
    if PGBOUNCER is None:
        pytest.skip("there is no PgBouncer here: apt-get install pgbouncer")
    folder, port = Path(tempfile.mkdtemp(prefix="pb")), free_port()
    host = database.server.folder
    settings = POOLER_SETTINGS.format(host=host, port=database.server.port, listen_port=port, folder=folder)
    (folder / "pgbouncer.ini").write_text(settings)
    (folder / "users").write_text('"postgres" ""\n')
    if unprivileged():
        shutil.chown(folder, SERVER_USER)
    process = subprocess.Popen([*unprivileged(), PGBOUNCER, "-q", folder / "pgbouncer.ini"], stdout=-3, stderr=-3)
    url = f"postgresql://postgres@127.0.0.1:{port}/{database.name}"
    give_up = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            break
        except psycopg.OperationalError:
            assert time.monotonic() < give_up, (folder / "log").read_text()
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(timeout=60)
    shutil.rmtree(folder)


def test_server_works_behind_a_pooler_in_transaction_mode(
    make_server: MakeServer, database: PostgresDatabase, pooler: str, tmp_path: Path
):
    servers = [make_server(database_url=pooler, database_pooler="true", data_dir=tmp_path / "data") for _ in range(2)]
    buyers = Buyers(servers[0])
    reads = threading.Event()

    def read_on(server: ServerProcess) -> int:
        with open_shop(server) as shop:
            answered = 0
            while not reads.is_set():
                answered += len(shop.orders.ListOrders(LIST).orders) >= 0
            return answered

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_on, server) for server in servers]
        with buyers.buying():
            time.sleep(1)
        reads.set()
        assert all(reader.result(30) > 10 for reader in readers)
    buyers.check()
    assert buyers.account.broken_off == 0


def test_migrations_run_through_a_pooler(pooler: str, database: PostgresDatabase, tmp_path: Path):
    with database.opened() as session:
        session.run("DROP SCHEMA public CASCADE")
        session.run("CREATE SCHEMA public")
    made = run_command("migrate", data_dir=tmp_path, database_url=pooler)
    assert (made.returncode, made.stderr) == (0, "")
    assert "applied 0001_initial" in made.stdout
    verified = run_command("verify", data_dir=tmp_path, database_url=pooler, database_pooler="true")
    assert verified.returncode == 0, verified.stderr


def test_pooler_that_nobody_told_of_is_refused_with_what_to_set(pooler: str):
    with pytest.raises(UnusablePostgres, match="STOREKEEP_DATABASE_POOLER=true"):
        open_store(pooler)
