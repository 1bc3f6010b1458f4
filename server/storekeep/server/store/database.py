"""The one database of this process: what the models are bound to, and what a transaction is.

Invariant: a model is used only inside a `Transaction`, in the thread that the transaction runs in.
"""

from __future__ import annotations

import time
from typing import Any

import peewee

database = peewee.DatabaseProxy()


class Table(peewee.Model):
    """What all tables share: the process's database, and names as they stand in the class."""

    class Meta:
        database = database
        legacy_table_names = False


class Transaction:
    """One transaction, or one read outside of any.

    Attributes:
        connection: the DB-API connection that it runs on.
        now_us: microseconds since 1970, UTC: one instant for all that the transaction writes.
        rollback_only: set it to have everything undone at the end, as `validate_only` wants.
        notes: what work in the same commit wrote last, so that work after it need not read it back; forgotten with
            the commit, and undone with the work.
    """

    __slots__ = ("connection", "notes", "now_us", "rollback_only")

    def __init__(self, connection: Any, notes: dict[str, Any] | None = None) -> None:
        self.connection = connection
        self.notes = {} if notes is None else notes
        self.now_us = time.time_ns() // 1000
        self.rollback_only = False
