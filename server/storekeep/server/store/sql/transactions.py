"""Base classes of the tables, and transactions.

Peewee only generates SQL: queries run through `Transaction.run` and `Statement`, never through Peewee.
Invariant: a transaction is used only in the thread that runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
        """Send a statement together with the next one. Return False, without sending it, if deferring is off."""


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
    """

    __slots__ = ("batch_cache", "chain", "connection", "consistency_token", "dialect", "now_us", "rollback_only")

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        batch_cache: dict[str, Any] | None = None,
        *,
        now_us: int,
        chain: Any = None,
    ) -> None:
        self.chain = chain
        self.connection = connection
        self.dialect = dialect
        self.batch_cache = {} if batch_cache is None else batch_cache
        self.now_us = now_us
        self.rollback_only = False
        self.consistency_token = 0

    def run(self, query: peewee.Query) -> Cursor:
        """Run a Peewee query that is built for this call, and return its cursor. Hot paths use `Statement`."""
        return self.connection.execute(*self.dialect.compile(query))
