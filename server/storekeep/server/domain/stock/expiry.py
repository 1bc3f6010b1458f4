"""Expiry: what expires by itself, such as reservations and unpaid orders, and who writes that it has.

What has expired stops counting at its expiry time, even before that is written. Whoever needs its stock writes it, in
the same transaction, or else the expiry job does, a second later; as `system/expiry` either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction

SUBJECT = "system/expiry"
"""The actor of every expiry in the ledgers."""
BATCH_MAX = 100
"""The most that one transaction expires: so it never holds up the writes of callers for long."""
CALL = Call(Caller(SUBJECT), "system/ExpirePromises")


class ExpirersMissing(Exception):
    """The store was given no expirers: the stock of what has expired would never be free again."""

    def __init__(self) -> None:
        super().__init__("the store has no expirers; give it those of `app.EXPIRERS` by `set_expirers`")


@dataclass(frozen=True, slots=True)
class Expirer:
    """Expires one kind of resource.

    Attributes:
        find: ids of those that have expired and are not written so yet, the earliest first, at most so many.
        find_of: the same, of those that have units of any of these SKUs.
        expire: write that these ids have expired: their units, their state, and a ledger entry for each.
    """

    find: Callable[[Transaction, int], Sequence[str]]
    find_of: Callable[[Transaction, Sequence[str], int], Sequence[str]]
    expire: Callable[[Mutation, Sequence[str]], None]


def set_expirers(db: Store, expirers: Sequence[Expirer]) -> None:
    """Give a store the expirers that its mutations and the expiry job run; once, where the process is wired.

    Raises: ExpirersMissing where there are none.
    """
    if not expirers:
        raise ExpirersMissing
    db.expirers = tuple(expirers)


def expire_batch_of(mutation: Mutation, skus: Sequence[str]) -> int:
    """Expire, within a running mutation, a batch of what has expired and has units of these SKUs.

    Returns: how many resources; when it is not 0, there may be more.

    Raises: ExpirersMissing.
    """
    return _expire_batch(mutation.by(CALL), lambda expirer, most: expirer.find_of(mutation.tx, skus, most))


def expire_batch(db: Store) -> int:
    """Expire a batch of what has expired.

    Returns: how many resources; when it is not 0, there may be more.

    Raises: ExpirersMissing, and the store's errors (see `Store.write`).
    """
    expirers = require_expirers(db.expirers)
    if not db.snapshot(lambda tx: any(expirer.find(tx, 1) for expirer in expirers)):
        return 0
    return mutate(db, CALL, _expire_first, int)


def require_expirers(expirers: tuple[Expirer, ...]) -> tuple[Expirer, ...]:
    """Return the expirers of a store or a mutation.

    Raises: ExpirersMissing where there are none.
    """
    if not expirers:
        raise ExpirersMissing
    return expirers


def _expire_first(mutation: Mutation) -> int:
    return _expire_batch(mutation, lambda expirer, most: expirer.find(mutation.tx, most))


def _expire_batch(mutation: Mutation, find: Callable[[Expirer, int], Sequence[str]]) -> int:
    count = 0
    for expirer in require_expirers(mutation.expirers):
        expired = find(expirer, BATCH_MAX - count) if count < BATCH_MAX else ()
        if expired:
            expirer.expire(mutation, expired)
        count += len(expired)
    return count
