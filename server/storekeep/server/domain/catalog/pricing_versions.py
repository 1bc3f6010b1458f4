"""The version of pricing, by which every process notices a change in the next transaction. Categories are a part of it.

Invariant: every change of pricing raises the version in its transaction, by a random step: no two contents ever have
the same version, also if a transaction is rolled back or a database is copied.
"""

from __future__ import annotations

import secrets

from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store

CACHED = "pricing_version"
"""The batch cache key for the version."""
STEP_BITS = 31


def read_version(tx: Transaction) -> int:
    """Return the version; 0 if nothing was ever configured. It is read once per commit."""
    version: int | None = tx.batch_cache.get(CACHED)
    if version is None:
        row = store.FIND_VERSION.one(tx)
        version = tx.batch_cache[CACHED] = row[0] if row else 0
    return version


def raise_existing_version(tx: Transaction) -> None:
    """Raise the version after a change of what promotions refer to. If nothing is configured, do nothing."""
    store.RAISE_EXISTING_VERSION.run(tx, step=1 + secrets.randbits(STEP_BITS))
    tx.batch_cache.pop(CACHED, None)


def raise_version(tx: Transaction) -> None:
    """Raise the version, so that no process uses what it read before."""
    store.RAISE_VERSION.run(tx, step=1 + secrets.randbits(STEP_BITS))
    tx.batch_cache.pop(CACHED, None)
