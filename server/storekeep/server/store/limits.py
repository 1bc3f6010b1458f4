"""The limits of a database that is reached over a network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take and how many connections there may be; the settings `database_*` say more of each.

    Attributes:
        pool_size: connections to read; one more is for writing.
        pool_timeout_s: how long to wait for one of them.
        connect_timeout_s: how long to wait for a new one.
        statement_timeout_s: how long one statement may take.
        lock_timeout_s: how long to wait for the turn to write.
        pooler: whether a pooler in transaction mode stands between.
    """

    pool_size: int = 10
    pool_timeout_s: float = 2.0
    connect_timeout_s: float = 5.0
    statement_timeout_s: float = 15.0
    lock_timeout_s: float = 5.0
    pooler: bool = False
