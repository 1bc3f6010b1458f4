"""Opens a database with the driver for its URL, and holds the lock of the process that serves it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.store.commit_traces import CommitTracer
from storekeep.server.store.drivers import Driver
from storekeep.server.store.engine import CommitListener, Store
from storekeep.server.store.limits import Limits, ReplicaSet
from storekeep.server.store.locks import hold_file_locks
from storekeep.server.store.reads import ReadBoundsSource, get_unbounded_read
from storekeep.server.store.replicas import Replica, Replicas
from storekeep.server.store.sql.transactions import Clock, read_clock
from storekeep.server.store.sqlite.driver import SqliteDriver
from storekeep.server.store.urls import hide_password, parse_sqlite_path

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
    get_read_bounds: ReadBoundsSource = get_unbounded_read,
    on_commit: CommitListener = lambda consistency_token: None,
    clock: Clock = read_clock,
    tracer: CommitTracer | None = None,
) -> Store:
    """Open a database.

    Args:
        url: see `store.urls`. A missing SQLite file is created.
        admission: see `Store` (default: one for commands, which write little).
        limits: timeouts and connection limits. SQLite has only the timeout of a statement.
        replicas: replicas of a PostgreSQL database. They may be unreachable at first.
        get_read_bounds, on_commit, clock, tracer: see `Store`.

    Raises: UnsafeSqlite, UnusablePostgres.
    """
    admission = admission or AdmissionController(WRITES, length_max=QUEUE_MAX, wait_max_s=QUEUE_WAIT_MAX_S)
    driver = _open_driver(url, limits)
    watched = _watch_replicas(url, replicas, limits) if replicas.urls else None
    return Store(
        driver,
        admission=admission,
        replicas=watched,
        get_read_bounds=get_read_bounds,
        on_commit=on_commit,
        clock=clock,
        tracer=tracer,
    )


def _open_driver(url: str, limits: Limits) -> Driver:
    path = parse_sqlite_path(url)
    if path is not None:
        return SqliteDriver(path, limits=limits)
    from storekeep.server.store.postgresql.driver import PostgresDriver  # its dependencies are an optional extra

    driver = PostgresDriver(url, limits=limits)
    driver.warm()
    return driver


def _watch_replicas(url: str, replicas: ReplicaSet, limits: Limits) -> Replicas:
    from storekeep.server.store.postgresql.driver import PostgresDriver

    many = replace(limits, pool_size=replicas.pool_size, pool_timeout_s=0.0)  # never wait: use the primary
    one = replace(limits, pool_size=1)
    return Replicas(
        PostgresDriver(url, limits=one),
        [
            Replica(hide_password(replica), PostgresDriver(replica, limits=many), PostgresDriver(replica, limits=one))
            for replica in replicas.urls
        ],
        interval_s=replicas.interval_s,
    )


def get_leader_file(url: str) -> Path | None:
    """Return the file whose lock the leader holds; None for PostgreSQL, where all processes write.

    SQLite allows several writers, but they would poll for its lock, and each would pay for its own fsync.
    """
    return parse_sqlite_path(url)


def hold_serve_lock(url: str) -> AbstractContextManager[None]:
    """Hold the lock that only one server of a SQLite file may hold. PostgreSQL needs none.

    Raises: DatabaseInUse.
    """
    path = parse_sqlite_path(url)
    return nullcontext() if path is None else hold_file_locks(path)
