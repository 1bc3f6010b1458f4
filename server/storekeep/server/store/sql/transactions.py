"""Base classes of the tables, and transactions.

Peewee only generates SQL: queries run through `Transaction.run` and `Statement`, never through Peewee.
Invariant: a transaction is used only in the thread that runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import peewee

from storekeep.server.store.sql.dialects import Dialect

database = peewee.DatabaseProxy()
"""The database of the models. Only tests that compare the models with a schema set it."""


class Table(peewee.Model):
    """Base of all tables. Each declares its table name."""

    class Meta:
        database = database
        legacy_table_names = False


class Versioned(Table):
    """Base of the tables of resources: the version behind the etag, and the times of creation and last update."""

    version = peewee.BigIntegerField()
    create_time_us = peewee.BigIntegerField()
    update_time_us = peewee.BigIntegerField()


class Deletable(Versioned):
    """Base of the tables of resources with soft deletion; `delete_time_us` is NULL unless the row is deleted."""

    delete_time_us = peewee.BigIntegerField(null=True)


def list_tables() -> list[type[Table]]:
    """Return the tables of all imported modules, in no particular order."""
    abstract = (Table, Versioned, Deletable)
    return [table for base in abstract for table in base.__subclasses__() if table not in abstract]


Clock = Callable[[], int]
"""Returns the time in microseconds since 1970, UTC."""


def read_clock() -> int:
    """Return the system time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Cursor(Protocol):
    """The rows of a statement: the part of a DB-API cursor that callers use."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows that are left."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""


class Connection(Protocol):
    """A connection of either engine.

    Attributes:
        deferring: whether `defer` accepts statements. The engine sets it while a failure may roll back the whole batch.
        rows_changed: number of rows that the last statement changed.
    """

    deferring: bool

    @property
    def rows_changed(self) -> int:
        """Return the number of rows that the last statement changed."""

    def execute(self, sql: str, values: Any = ()) -> Cursor:
        """Run one statement."""

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row, in order; deferred if possible."""

    def defer(self, sql: str, values: Any) -> bool:
        """Run a statement with the next one that is not deferred. Return False, and do nothing, if deferring is off."""


class Lasting(Protocol):
    """What writes have read that later ones can use, unless it changes.

    Attributes:
        tables: the names of the tables that it was read from.
    """

    tables: frozenset[str]


class SharedReads:
    """What consecutive writes of one kind in a batch read together, before the first of them.

    Only these writes run in between, and no error rolls one of them back without the whole batch. So what was read
    stays valid if each of them counts its own changes.

    Args:
        subjects: what the writes are about, in order.
        now_us: the time of all these writes.

    Attributes:
        subjects: as given.
        now_us: as given.
        rows: what was read, as its readers arrange it; None before the first read.
        lasting: what later writes of the same kind may use too, also in later commits; None if there is nothing.
    """

    __slots__ = ("lasting", "now_us", "rows", "subjects")

    def __init__(self, subjects: Iterable[Any], *, now_us: int) -> None:
        self.subjects = tuple(subjects)
        self.now_us = now_us
        self.rows: Any = None
        self.lasting: Lasting | None = None

    def release(self) -> None:
        """Release what belongs to these writes only."""
        self.subjects, self.rows = (), None


class Transaction:
    """One transaction, or one read outside a transaction.

    Attributes:
        connection: the connection that runs the statements.
        dialect: the SQL dialect of the connection.
        now_us: the time of all reads and writes of the transaction, in microseconds since 1970, UTC.
        rollback_only: set it to roll the transaction back at its end, as for `validate_only`.
        batch_cache: values that earlier work of the same batch wrote, so that later work need not read them again.
            Discarded with the batch, and rolled back with the work.
        consistency_token: sequence of the ledger entry that a later read must reach to see the outcome of the
            transaction; 0 if none.
        chain: the key material of the audit chain, which the store passes to the domain; None without the secret.
        shared_reads: what it reads together with other writes; None if it reads alone.
        data_keys: the keys of personal data, which the store passes to the domain; None without a key-encryption key.
        last_encrypted: the resource that the domain encrypted last, and the result.
        prepared: what the domain computed before the transaction; None if nothing was.
    """

    __slots__ = (
        "batch_cache",
        "chain",
        "connection",
        "consistency_token",
        "data_keys",
        "dialect",
        "last_encrypted",
        "now_us",
        "prepared",
        "rollback_only",
        "shared_reads",
    )

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        batch_cache: dict[str, Any] | None = None,
        *,
        now_us: int,
        chain: Any = None,
        data_keys: Any = None,
        shared_reads: SharedReads | None = None,
    ) -> None:
        self.chain = chain
        self.data_keys = data_keys
        self.last_encrypted: Any = None
        self.prepared: Any = None
        self.shared_reads = shared_reads
        self.connection = connection
        self.dialect = dialect
        self.batch_cache = {} if batch_cache is None else batch_cache
        self.now_us = now_us
        self.rollback_only = False
        self.consistency_token = 0

    def run(self, query: peewee.Query) -> Cursor:
        """Run a Peewee query that is built for this call, and return its cursor. Hot paths use `Statement`."""
        return self.connection.execute(*self.dialect.compile(query))
