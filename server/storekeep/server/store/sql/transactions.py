"""What all tables are, and what a transaction is.

Peewee only makes SQL here: its queries run through `Transaction.run` and `Statement`, never by themselves.
Invariant: a transaction is used only in the thread that it runs in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import peewee

from storekeep.server.store.sql.dialects import Dialect

database = peewee.DatabaseProxy()
"""What the models are bound to: nothing, but in tests that compare them with a database."""


class Table(peewee.Model):
    """What all tables share: names as they stand in the class."""

    class Meta:
        database = database
        legacy_table_names = False


Clock = Callable[[], int]
"""Tells the time: microseconds since 1970, UTC."""


def wall_clock() -> int:
    """What time it is."""
    return time.time_ns() // 1000


class Transaction:
    """One transaction, or one read outside of any.

    Attributes:
        connection: what it runs on: `execute(sql, values)` gives a cursor with `fetchone` and `fetchall`.
        dialect: the SQL that the connection takes.
        now_us: microseconds since 1970, UTC: one instant for all that the transaction reads and writes.
        rollback_only: set it to have everything undone at the end, as `validate_only` wants.
        puts_off: whether statements that nobody waits for go with the next one; see `Statement.run_later`.
        notes: what work in the same commit wrote last, so that work after it need not read it back; forgotten with
            the commit, and undone with the work.
        position: how far the ledger has to go to show what the transaction did, or was answered from: the sequence of
            an entry; 0 where it said nothing of that.
        chain: keys the hashes of the ledger; the domain's own, the store only carries it. None without the secret.
    """

    __slots__ = ("chain", "connection", "dialect", "notes", "now_us", "position", "puts_off", "rollback_only")

    def __init__(
        self,
        connection: Any,
        dialect: Dialect,
        notes: dict[str, Any] | None = None,
        *,
        now_us: int,
        puts_off: bool = False,
        chain: Any = None,
    ) -> None:
        self.chain = chain
        self.connection = connection
        self.dialect = dialect
        self.notes = {} if notes is None else notes
        self.now_us = now_us
        self.rollback_only = False
        self.position = 0
        self.puts_off = puts_off

    def run(self, query: peewee.Query) -> Any:
        """Run a Peewee query that is built anew each time and give its cursor; hot ones are `Statement`s."""
        return self.connection.execute(*self.dialect.compile(query))
