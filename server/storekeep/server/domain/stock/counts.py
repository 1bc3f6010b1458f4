"""Stock counts: set the units on hand to what was counted, also below what is reserved and allocated."""

from __future__ import annotations

from typing import Any

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import CountBelowCommitted, QuantityMismatch
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.stock.levels import (
    COUNT,
    Key,
    build_empty_level,
    find_level_for_update,
    write_on_hand,
)
from storekeep.server.domain.stock.stock_levels import StockLevel
from storekeep.server.store.engine import Store


def set_stock(db: Store, call: Call, key: Key, **count: Any) -> StockLevel:
    """Set the units on hand to a counted quantity; see `set_level`.

    Raises: the errors of `set_level`.
    """
    return mutate(db, call, lambda mutation: set_level(mutation, key, **count), StockLevel)


def set_level(
    mutation: Mutation,
    key: Key,
    *,
    quantity: int,
    expected_quantity: int | None = None,
    backorder_shortage: bool = False,
    reason: str = "",
    etag: str = "",
) -> StockLevel:
    """Set the units on hand to a counted quantity within a running mutation. Write nothing if they are equal.

    Args:
        expected_quantity: the units on hand that the caller has seen; None to skip the check.
        backorder_shortage: whether to raise the backorder limit by the committed units that are missing.

    Raises: LocationNotFound, ResourceDeleted, SkuNotFound, EtagMismatch, QuantityMismatch, CountBelowCommitted.
    """
    old = find_level_for_update(mutation, key, etag=etag)
    on_hand = 0 if old is None else old.on_hand
    if expected_quantity not in (None, on_hand):
        name = "locations/{}/stockLevels/{}".format(*key)
        raise QuantityMismatch(name, expected_quantity=expected_quantity or 0, on_hand=on_hand)
    if old is not None and quantity == on_hand:
        return old
    counted = _fit_backorder_limit(old or build_empty_level(key), quantity, backorder_shortage=backorder_shortage)
    return write_on_hand(mutation, old, counted, quantity_delta=quantity - on_hand, cause=COUNT, reason=reason)


def _fit_backorder_limit(level: StockLevel, quantity: int, *, backorder_shortage: bool) -> StockLevel:
    """Return a level with a counted quantity.

    Args:
        backorder_shortage: see `set_level`.

    Raises: CountBelowCommitted.
    """
    counted = msgspec.structs.replace(level, on_hand=quantity)
    if counted.uncommitted >= 0:
        return counted
    if not backorder_shortage:
        raise CountBelowCommitted(
            f"locations/{level.location_id}/stockLevels/{level.sku}",
            quantity=quantity,
            reserved=level.reserved,
            allocated=level.allocated,
            backorder_limit=level.backorder_limit,
        )
    return msgspec.structs.replace(counted, backorder_limit=level.backorder_limit - counted.uncommitted)
