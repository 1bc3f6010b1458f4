"""Work that a batch does once at its end instead of once for each item, such as to index a product with its variants.

Outside of a batch it is done at once. The batch cache has the list of this work, so a failed item takes its part back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from storekeep.server.store.sql.transactions import Transaction

Action = Callable[[Transaction], None]
PENDING = "deferred actions"
"""The key of the batch cache: key -> action. The mapping is replaced and never changed, so that it can be restored."""


def run_once(tx: Transaction, key: str, action: Action) -> None:
    """Run an action at the end of the running batch, once for all calls with its key; at once outside of a batch."""
    pending: Mapping[str, Action] | None = tx.batch_cache.get(PENDING)
    if pending is None:
        action(tx)
    elif key not in pending:
        tx.batch_cache[PENDING] = {**pending, key: action}


@contextmanager
def defer_actions(tx: Transaction) -> Iterator[None]:
    """Defer the actions of `run_once` to the end of the block. If it fails, its transaction must be rolled back."""
    tx.batch_cache[PENDING] = {}
    try:
        yield
    finally:
        pending: Mapping[str, Action] = tx.batch_cache.pop(PENDING)
    for action in pending.values():
        action(tx)
