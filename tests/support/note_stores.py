"""Stores with a table of notes, writes of notes, and a writer that is busy for as long as a test needs."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import apsw

from storekeep.server.runtime.admission import WRITES, AdmissionController
from storekeep.server.store.engine import Store
from storekeep.server.store.limits import Limits
from storekeep.server.store.opening import open_store
from storekeep.server.store.postgresql.errors import SqlError
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from tests.support.databases import Database

TIMEOUT_S = 60.0
CALLERS = 40
WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
CONFLICT = {"sqlite": apsw.ConstraintError, "postgresql": SqlError}
"""The error of each driver for a violated constraint, which it does not translate."""
INSERT_NOTE = Statement("INSERT INTO notes VALUES (:text)")
NOTES = Statement("SELECT text FROM notes ORDER BY text")


def new_store(
    database: Database, *, queue_max: int = 1_000, wait_max_s: float = TIMEOUT_S, patience_s: float = TIMEOUT_S
) -> Store:
    """A store with two empty tables, and this timeout for the write lock."""
    made = open_store(
        database.url,
        admission=AdmissionController(WRITES, length_max=queue_max, wait_max_s=wait_max_s),
        limits=Limits(pool_size=3, lock_timeout_s=patience_s),
    )
    made.write(make_tables)
    if database.engine == "sqlite":
        made.write(lambda tx: tx.connection.execute(f"PRAGMA busy_timeout = {round(patience_s * 1000)}"))
    return made


def make_tables(tx: Transaction) -> None:
    tx.connection.execute("CREATE TABLE notes (text TEXT NOT NULL UNIQUE)")
    tx.connection.execute("CREATE TABLE answers (note TEXT REFERENCES notes (text) DEFERRABLE INITIALLY DEFERRED)")


def note(text: str):
    """Return a write that inserts one row and returns its text."""

    def work(tx: Transaction) -> str:
        INSERT_NOTE.run(tx, text=text)
        return text

    return work


def read_notes(tx: Transaction) -> list[str]:
    return [row[0] for row in NOTES.all(tx)]


@contextlib.contextmanager
def busy_writer(store: Store) -> Iterator[None]:
    """Keep the writer busy with a write that changes nothing, for the duration of the context."""
    begun, go_on = threading.Event(), threading.Event()

    def work(_tx: Transaction) -> None:
        begun.set()
        go_on.wait(TIMEOUT_S)

    def call() -> None:
        with contextlib.suppress(Exception):  # it may fail with its batch
            store.write(work)

    threading.Thread(target=call).start()
    assert begun.wait(TIMEOUT_S)
    try:
        yield
    finally:
        go_on.set()


def queue_works(store: Store, callers: ThreadPoolExecutor, works: list, *, patience_s=TIMEOUT_S) -> list[Future]:
    """Write each work from its own thread, and wait until all are queued."""
    ready, wanted = threading.Barrier(len(works) + 1), store.queued + len(works)

    futures = [callers.submit(lambda work=work: (ready.wait(TIMEOUT_S), store.write(work))[1]) for work in works]
    ready.wait(TIMEOUT_S)
    give_up = time.monotonic() + patience_s
    while store.queued < wanted and time.monotonic() < give_up:
        time.sleep(0.001)
    return futures


def count_commits(database: Database) -> int:
    """Return the number of commits that wrote the notes, according to the database."""
    if database.engine == "sqlite":
        return count_wal_commits(Path(f"{database.path}-wal"))
    with database.opened() as session:
        return session.rows("SELECT COUNT(DISTINCT CAST(xmin AS TEXT)) FROM notes")[0][0]


def count_wal_commits(wal: Path) -> int:
    """Return the number of commits in a write-ahead log: the frames that contain the size of the database."""
    content = wal.read_bytes()
    page_bytes, salts = struct.unpack(">I", content[8:12])[0], content[16:24]
    step = FRAME_HEADER_BYTES + page_bytes
    headers = [content[at : at + FRAME_HEADER_BYTES] for at in range(WAL_HEADER_BYTES, len(content), step)]
    return sum(1 for header in headers if header[8:16] == salts and header[4:8] != bytes(4))
