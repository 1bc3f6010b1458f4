"""The limits of a database that is reached over a network, and where its replicas are."""

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

    pool_size: int = 12
    pool_timeout_s: float = 2.0
    connect_timeout_s: float = 5.0
    statement_timeout_s: float = 15.0
    lock_timeout_s: float = 5.0
    pooler: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """The replicas of a database; the settings `database_replica_*` say more of each.

    Attributes:
        urls: one for each.
        pool_size: connections to each; one more watches it.
        interval_s: how often each is asked how old it is.
    """

    urls: tuple[str, ...] = ()
    pool_size: int = 8
    interval_s: float = 0.25
