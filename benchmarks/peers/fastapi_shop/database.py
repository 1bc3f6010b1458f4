"""The peer's database: SQLite in WAL mode with `synchronous=FULL`, or PostgreSQL through psycopg 3.

SQLite lets one write at a time, so its pool of writers is one connection: threads wait in its queue instead of polling
SQLite's lock, which was slower. A session keeps its connection until its answer is sent, and sending takes a thread, so
there is a connection for each thread: with fewer, all threads can come to wait for each other.
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
"""Of the pool that FastAPI runs `def` endpoints in, by default."""
CHAIN_LOCK = 1
URL = os.environ["SHOP_DATABASE"]
ON_SQLITE = URL.startswith("sqlite:")


def _sqlite(begin: str | None, *, connections: int) -> Engine:
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


def _engines() -> tuple[Engine, Engine]:
    """For single statements, and for transactions that write.

    On SQLite the first need no transaction, and the others wait for the lock at their start. PostgreSQL has one engine,
    with SQLAlchemy's own pool and transactions.
    """
    if ON_SQLITE:
        return _sqlite(None, connections=NO_LIMIT), _sqlite("BEGIN IMMEDIATE", connections=1)
    engine = create_engine(URL, pool_size=THREADS, max_overflow=0)
    return engine, engine


readers, writers = _engines()


def lock_chain(session: Session) -> None:
    """Be the only one who adds to the audit chain until the commit. On SQLite one who writes is that already.

    It is called as late as can be: on PostgreSQL orders wait for each other only while they write the last rows.
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
