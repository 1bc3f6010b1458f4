"""The peer's database: SQLite in WAL mode with `synchronous=FULL`, or PostgreSQL through psycopg 3.

SQLite allows one writer at a time, so the pool of writers has one connection: threads wait in its queue, which is
faster than polling SQLite's lock. A session keeps its connection until its reply is sent, and sending needs a thread,
so there is one connection for each thread. With fewer, the threads could deadlock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends
from pysqlite3 import dbapi2
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.orm import Session

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)
NO_LIMIT = 0
THREADS = 40
"""Default size of the thread pool in which FastAPI runs `def` endpoints."""
CHAIN_LOCK = 1
URL = os.environ["SHOP_DATABASE"]
ON_SQLITE = URL.startswith("sqlite:")


def _create_sqlite(begin: str | None, *, connections: int) -> Engine:
    engine = create_engine(
        URL,
        module=dbapi2,
        connect_args={"check_same_thread": False},
        pool_size=connections,
        max_overflow=0,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        if begin:
            connection.exec_driver_sql(begin)

    return engine


def _create_engines() -> tuple[Engine, Engine]:
    """Return the engines for single statements and for transactions that write.

    On SQLite, single statements need no transaction, and writing transactions wait for the lock at their start.
    PostgreSQL has one engine with SQLAlchemy's own pool and transactions.
    """
    if ON_SQLITE:
        return _create_sqlite(None, connections=NO_LIMIT), _create_sqlite("BEGIN IMMEDIATE", connections=1)
    engine = create_engine(URL, pool_size=THREADS, max_overflow=0)
    return engine, engine


readers, writers = _create_engines()


def lock_chain(session: Session) -> None:
    """Lock the audit chain until the commit. On SQLite a writing transaction already excludes all others.

    Call it as late as possible: on PostgreSQL, orders then wait for each other only while they write the last rows.
    """
    if not ON_SQLITE:
        session.execute(select(func.pg_advisory_xact_lock(CHAIN_LOCK)))


def _get_session() -> Iterator[Session]:
    with Session(readers) as session:
        yield session


def _get_writing_session() -> Iterator[Session]:
    with Session(writers, expire_on_commit=False) as session:
        yield session


ReadingSession = Annotated[Session, Depends(_get_session)]
WritingSession = Annotated[Session, Depends(_get_writing_session)]
