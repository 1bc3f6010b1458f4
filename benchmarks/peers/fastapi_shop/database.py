"""The peer's database: SQLite in WAL mode, `synchronous=FULL`, one engine to read and one to write.

The driver is the same build of SQLite that Storekeep uses. SQLite lets one write at a time, so the pool of writers is
one connection: threads wait in its queue instead of polling SQLite's lock, which was slower. A reading session keeps
its connection until its answer is sent, so readers have no limit: with one, all threads can wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends
from pysqlite3 import dbapi2
from sqlalchemy import Connection, Engine, create_engine, event
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


def _engine(begin: str | None, *, connections: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{os.environ['SHOP_DATABASE']}",
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


readers = _engine(None, connections=NO_LIMIT)
"""For single statements, which need no transaction."""
writers = _engine("BEGIN IMMEDIATE", connections=1)
"""For transactions that write: they wait for the lock at their start."""


def _get_session() -> Iterator[Session]:
    with Session(readers) as session:
        yield session


def _get_writing_session() -> Iterator[Session]:
    with Session(writers, expire_on_commit=False) as session:
        yield session


ReadingSession = Annotated[Session, Depends(_get_session)]
WritingSession = Annotated[Session, Depends(_get_writing_session)]
