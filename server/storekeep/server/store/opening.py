"""Opening a database: which driver speaks to it, and who else may serve it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.store.drivers import Driver
from storekeep.server.store.engine import Committed, Store
from storekeep.server.store.limits import Limits, ReplicaSet
from storekeep.server.store.locks import lock_to_serve
from storekeep.server.store.reads import CallTerms, plain_terms
from storekeep.server.store.replicas import Replica, Replicas
from storekeep.server.store.sql.transactions import Clock, wall_clock
from storekeep.server.store.sqlite.driver import SqliteDriver
from storekeep.server.store.urls import shown, sqlite_path

DEFAULT_LIMITS = Limits()
NO_REPLICAS = ReplicaSet()
QUEUE_MAX = 1_000
QUEUE_WAIT_MAX_S = 60.0


def open_store(
    url: str,
    *,
    admission: AdmissionController | None = None,
    limits: Limits = DEFAULT_LIMITS,
    replicas: ReplicaSet = NO_REPLICAS,
    call_terms: CallTerms = plain_terms,
    committed: Committed = lambda position: None,
    clock: Clock = wall_clock,
) -> Store:
    """Open a database.

    Args:
        url: see `store.urls`; a SQLite file is made when missing.
        admission: see `Store`; one for commands, which write a little, where none is given.
        limits: of time and connections; SQLite, which has no network between, has none.
        replicas: of PostgreSQL; they need not answer yet.
        call_terms, committed, clock: see `Store`.

    Raises: UnsafeSqlite, UnusablePostgres.
    """
    admission = admission or AdmissionController(WRITES, length_max=QUEUE_MAX, wait_max_s=QUEUE_WAIT_MAX_S)
    driver = _driver(url, limits)
    watched = _replicas(url, replicas, limits) if replicas.urls else None
    return Store(driver, admission=admission, replicas=watched, call_terms=call_terms, committed=committed, clock=clock)


def _driver(url: str, limits: Limits) -> Driver:
    path = sqlite_path(url)
    if path is not None:
        return SqliteDriver(path)
    from storekeep.server.store.postgresql.driver import PostgresDriver  # what it needs is an extra of the package

    driver = PostgresDriver(url, limits=limits)
    driver.warm()
    return driver


def _replicas(url: str, replicas: ReplicaSet, limits: Limits) -> Replicas:
    from storekeep.server.store.postgresql.driver import PostgresDriver

    many = replace(limits, pool_size=replicas.pool_size, pool_timeout_s=0.0)  # the primary has no less time than it
    one = replace(limits, pool_size=1)
    return Replicas(
        PostgresDriver(url, limits=one),
        [
            Replica(shown(replica), PostgresDriver(replica, limits=many), PostgresDriver(replica, limits=one))
            for replica in replicas.urls
        ],
        interval_s=replicas.interval_s,
    )


def one_writer_file(url: str) -> Path | None:
    """What the one process locks that may write to a database; None where several may, as they do on PostgreSQL.

    On SQLite they could too, but would wait for each other by polling, and each pay an fsync of its own.
    """
    return sqlite_path(url)


def serve_lock(url: str) -> AbstractContextManager[None]:
    """Hold what only one server of a database may hold: the locks of a SQLite file. PostgreSQL takes many servers.

    Raises: DatabaseInUse.
    """
    path = sqlite_path(url)
    return nullcontext() if path is None else lock_to_serve(path)
