"""Expiry of reservations and unpaid orders.

An expired reservation or order stops counting at its expiry time, even before the expiry is written. A mutation that
needs the stock writes the expiry in its own transaction; otherwise the expiry job does, about a second later. The
actor is `system/expiry` in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction

SUBJECT = "system/expiry"
"""The actor of every expiry in the audit log and the stock ledger."""
BATCH_MAX = 100
"""The maximum number of resources that one transaction expires, so that other writes do not wait long."""
CALL = Call(Caller(SUBJECT), "system/ExpirePromises")


class ExpirersMissing(Exception):
    """The store has no expirers, so the stock of expired reservations and orders would never be released."""

    def __init__(self) -> None:
        super().__init__("the store has no expirers; pass `wiring.expirers.EXPIRERS` to `set_expirers`")


@dataclass(frozen=True, slots=True)
class Expirer:
    """Expires one kind of resource.

    Attributes:
        find: return the ids of resources with an unwritten expiry, earliest first, up to a limit.
        find_by_sku: the same for resources with units of any of these SKUs.
        expire: write the expiry of these ids: released units, state and audit entry.
    """

    find: Callable[[Transaction, int], Sequence[str]]
    find_by_sku: Callable[[Transaction, Sequence[str], int], Sequence[str]]
    expire: Callable[[Mutation, Sequence[str]], None]


def set_expirers(db: Store, expirers: Sequence[Expirer]) -> None:
    """Set the expirers that the mutations of a store and the expiry job run. Call it once, at startup.

    Raises: ExpirersMissing if `expirers` is empty.
    """
    if not expirers:
        raise ExpirersMissing
    db.expirers = tuple(expirers)


def expire_batch_by_sku(mutation: Mutation, skus: Sequence[str]) -> int:
    """Write a batch of expiries of resources with units of these SKUs, within a running mutation.

    Returns: the number of expired resources; if it is not 0, there may be more.

    Raises: ExpirersMissing.
    """
    return _expire_batch(mutation.by(CALL), lambda expirer, limit: expirer.find_by_sku(mutation.tx, skus, limit))


def expire_batch(db: Store) -> int:
    """Write a batch of expiries in a transaction of its own.

    Returns: the number of expired resources; if it is not 0, there may be more.

    Raises: ExpirersMissing, and the errors of `Store.write`.
    """
    expirers = require_expirers(db.expirers)
    if not db.snapshot(lambda tx: any(expirer.find(tx, 1) for expirer in expirers)):
        return 0
    return mutate(db, CALL, _expire_first, int)


def require_expirers(expirers: tuple[Expirer, ...]) -> tuple[Expirer, ...]:
    """Return the expirers of a store or a mutation.

    Raises: ExpirersMissing if there are none.
    """
    if not expirers:
        raise ExpirersMissing
    return expirers


def _expire_first(mutation: Mutation) -> int:
    return _expire_batch(mutation, lambda expirer, limit: expirer.find(mutation.tx, limit))


def _expire_batch(mutation: Mutation, find: Callable[[Expirer, int], Sequence[str]]) -> int:
    count = 0
    for expirer in require_expirers(mutation.expirers):
        expired = find(expirer, BATCH_MAX - count) if count < BATCH_MAX else ()
        if expired:
            expirer.expire(mutation, expired)
        count += len(expired)
    return count
