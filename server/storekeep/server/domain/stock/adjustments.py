"""Adjustments and counts: changes of the units on hand of one stock level, each with its movement in the ledger."""

from __future__ import annotations

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import QuantityMismatch
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.batches import Effect
from storekeep.server.domain.stock.levels import (
    ADJUST,
    COUNT,
    Key,
    StockLevel,
    change_on_hand,
    find_level_for_update,
)
from storekeep.server.store.engine import Store


def change_stock(db: Store, call: Call, effect: Effect[StockLevel]) -> StockLevel:
    """Run one adjustment or count as a call of its own.

    Raises: the errors of `adjust_stock` or `set_stock`.
    """
    return mutate(db, call, effect, StockLevel)


def adjust_stock(
    key: Key, *, quantity_delta: int, cause: str = ADJUST, reason: str = "", etag: str = ""
) -> Effect[StockLevel]:
    """Return the effect that adds or subtracts units on hand.

    Args:
        quantity_delta: units to add; negative to subtract.

    Raises: when run, LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, OutOfStock, InvalidAmount.
    """

    def effect(mutation: Mutation) -> StockLevel:
        old = find_level_for_update(mutation, key, etag=etag)
        return change_on_hand(mutation, old, key, quantity_delta=quantity_delta, cause=cause, reason=reason)

    return effect


def set_stock(
    key: Key, *, quantity: int, expected_quantity: int | None = None, reason: str = "", etag: str = ""
) -> Effect[StockLevel]:
    """Return the effect that sets the units on hand to a counted quantity. It writes nothing if they are equal.

    Args:
        expected_quantity: the units on hand that the caller has seen; None to skip the check.

    Raises: when run, LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, QuantityMismatch, OutOfStock.
    """

    def effect(mutation: Mutation) -> StockLevel:
        old = find_level_for_update(mutation, key, etag=etag)
        on_hand = 0 if old is None else old.on_hand
        if expected_quantity not in (None, on_hand):
            name = "locations/{}/stockLevels/{}".format(*key)
            raise QuantityMismatch(name, expected_quantity=expected_quantity or 0, on_hand=on_hand)
        if old is not None and quantity == on_hand:
            return old
        return change_on_hand(mutation, old, key, quantity_delta=quantity - on_hand, cause=COUNT, reason=reason)

    return effect
