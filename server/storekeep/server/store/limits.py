"""Timeouts and connection limits of the database, and the URLs of its replicas."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts and connection limits. SQLite has only `statement_timeout_s`. The settings `database_*` document each.

    Attributes:
        pool_size: number of connections for reads. One more serves writes.
        pool_timeout_s: how long a read waits for a free connection.
        connect_timeout_s: timeout of a connection attempt.
        statement_timeout_s: timeout of one statement.
        lock_timeout_s: how long a batch waits for the write lock.
        pooler: whether connections go through a pooler in transaction mode.
    """

    pool_size: int = 12
    pool_timeout_s: float = 2.0
    connect_timeout_s: float = 5.0
    statement_timeout_s: float = 15.0
    lock_timeout_s: float = 5.0
    pooler: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """The replicas of a database. The settings `database_replica_*` document each attribute.

    Attributes:
        urls: one URL per replica.
        pool_size: number of connections to each replica. One more polls it.
        interval_s: how often each replica is polled for its staleness.
    """

    urls: tuple[str, ...] = ()
    pool_size: int = 8
    interval_s: float = 0.25
