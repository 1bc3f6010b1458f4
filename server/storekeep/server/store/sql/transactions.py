"""What all tables are, and what a transaction is.

Peewee only makes SQL here: its queries run through `Transaction.run` and `Statement`, never by themselves.
Invariant: a transaction is used only in the thread that it runs in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import peewee

from storekeep.server.store.sql.dialects import Dialect

database = peewee.DatabaseProxy()
"""What the models are bound to: nothing, but in tests that compare them with a database."""


class Table(peewee.Model):
    """What all tables share: names as they stand in the class."""

    class Meta:
        database = database
        legacy_table_names = False


class Versioned(Table):
    """What the tables of resources share: the version that the etag shows, and when the row was made and changed."""

    version = peewee.BigIntegerField()
    create_time_us = peewee.BigIntegerField()
    update_time_us = peewee.BigIntegerField()


class Deletable(Versioned):
    """The same of resources that are deleted softly; `delete_time_us` is NULL while they are not."""

    delete_time_us = peewee.BigIntegerField(null=True)


def all_tables() -> list[type[Table]]:
    """Return the tables of the modules that are imported, in no particular order."""
    abstract = (Table, Versioned, Deletable)
    return [table for base in abstract for table in base.__subclasses__() if table not in abstract]


Clock = Callable[[], int]
"""Tells the time: microseconds since 1970, UTC."""


def wall_clock() -> int:
    """What time it is."""
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
    """What statements run on, whichever engine it leads to.

    Attributes:
        deferring: whether `defer` takes statements; the engine switches it on where work may fail together.
        rows_changed: rows that the last statement changed.
    """

    deferring: bool

    @property
    def rows_changed(self) -> int:
        """See the attributes."""

    def execute(self, sql: str, values: Any = ()) -> Cursor:
        """Run one statement."""

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row, in their order; deferred where that may be."""

    def defer(self, sql: str, values: Any) -> bool:
        """Send a statement together with the next one; False, and nothing is sent, where it has to be waited for."""


class Transaction:
    """One transaction, or one read outside of any.

    Attributes:
        connection: what it runs on.
        dialect: the SQL that the connection takes.
        now_us: microseconds since 1970, UTC: one instant for all that the transaction reads and writes.
        rollback_only: set it to have everything undone at the end, as `validate_only` wants.
        notes: what work in the same commit wrote last, so that work after it need not read it back; forgotten with
            the commit, and undone with the work.
        position: how far the ledger has to go to show what the transaction did, or was answered from: the sequence of
            an entry; 0 where it said nothing of that.
        chain: keys the hashes of the ledger; the domain's own, the store only carries it. None without the secret.
    """

    __slots__ = ("chain", "connection", "dialect", "notes", "now_us", "position", "rollback_only")

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        notes: dict[str, Any] | None = None,
        *,
        now_us: int,
        chain: Any = None,
    ) -> None:
        self.chain = chain
        self.connection = connection
        self.dialect = dialect
        self.notes = {} if notes is None else notes
        self.now_us = now_us
        self.rollback_only = False
        self.position = 0

    def run(self, query: peewee.Query) -> Cursor:
        """Run a Peewee query that is built anew each time and give its cursor; hot ones are `Statement`s."""
        return self.connection.execute(*self.dialect.compile(query))
