"""Promises that end by themselves: reservations at their instant, and unpaid orders.

What is promised and due counts no more, whether or not anybody has written so yet. It is written by whoever needs its
stock, in the same transaction, or else by the sweeper, a second later; as `system/expiry` either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction

SUBJECT = "system/expiry"
"""Who ends what is due, in the ledgers."""
PIECE_MAX = 100
"""Promises that one transaction ends at most: so it never holds up the writes of callers for long."""
CALL = Call(Caller(SUBJECT), "system/ExpirePromises")


@dataclass(frozen=True, slots=True)
class Ending:
    """One kind of promise that ends by itself.

    Attributes:
        due: the ids of those that are due and not ended yet, the longest due first, so many at most.
        due_of: the same, of those that have units of any of these SKUs.
        end: ends those with these ids: their units, their state, and an entry in the ledger for each.
    """

    due: Callable[[Transaction, int], Sequence[str]]
    due_of: Callable[[Transaction, Sequence[str], int], Sequence[str]]
    end: Callable[[Mutation, Sequence[str]], None]


ENDINGS: list[Ending] = []
"""All kinds, each added by the module that makes the promises, which is above this one."""


def end_due_of(mutation: Mutation, skus: Sequence[str]) -> int:
    """End, within a running mutation, a piece of what is due and has units of these SKUs: they can be promised anew.

    Returns: how many promises; when it is not 0, there may be more.
    """
    return _end_piece(mutation.by(CALL), lambda ending, most: ending.due_of(mutation.tx, skus, most))


def end_due(db: Store) -> int:
    """End a piece of what is due.

    Returns: how many promises; when it is not 0, there may be more.

    Raises: the store's errors (see `Store.write`).
    """
    if not db.snapshot(lambda tx: any(ending.due(tx, 1) for ending in ENDINGS)):
        return 0
    return mutate(db, CALL, _end_due_piece, int)


def _end_due_piece(mutation: Mutation) -> int:
    return _end_piece(mutation, lambda ending, most: ending.due(mutation.tx, most))


def _end_piece(mutation: Mutation, find: Callable[[Ending, int], Sequence[str]]) -> int:
    ended = 0
    for ending in ENDINGS:
        due = find(ending, PIECE_MAX - ended) if ended < PIECE_MAX else ()
        if due:
            ending.end(mutation, due)
        ended += len(due)
    return ended
