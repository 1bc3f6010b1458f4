"""Separable promotions: those that reduce each line of an order as if it were alone.

Most are: percentages without conditions and limits. A line that was priced under them costs the same in other orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from storekeep.server.domain.pricing.frozen_selections import LISTED_MAX, is_selective
from storekeep.server.domain.pricing.terms import ALWAYS, NO_CONDITIONS, PERCENTAGE, SHIPPING, Promotion

SEPARABLE_MAX = 100
"""The most promotions that are separable. More of them could be more than an order may have."""
NO_LIMITS = (None, None, None, None)


class Separable(NamedTuple):
    """What separable promotions have in common.

    Attributes:
        names: their names.
        with_coupon: the names of those that need a coupon.
        frozen: the promotions as an order keeps them to which all of them applied.
        is_selective: whether any of them selects some items and not others.
    """

    names: frozenset[str]
    with_coupon: frozenset[str]
    frozen: tuple[Promotion, ...]
    is_selective: bool


def find_separable(promotions: Sequence[Promotion]) -> Separable | None:
    """Return what promotions have in common if they are separable; None if they are not."""
    if len(promotions) > SEPARABLE_MAX or not all(map(_is_separable, promotions)):
        return None
    if sum([promotion.action.items.size for promotion in promotions]) > LISTED_MAX:
        return None  # an order keeps which of its lines they select
    return Separable(
        frozenset([promotion.name for promotion in promotions]),
        frozenset([promotion.name for promotion in promotions if promotion.requires_coupon]),
        tuple([one if one.window is ALWAYS else replace(one, window=ALWAYS) for one in promotions]),
        is_selective=any(map(is_selective, promotions)),
    )


def _is_separable(promotion: Promotion) -> bool:
    action = promotion.action
    limits = (action.units_max, action.discount_max_minor, promotion.uses_max, promotion.budget_minor)
    return (
        action.kind == PERCENTAGE
        and action.target != SHIPPING
        and not action.tiers
        and limits == NO_LIMITS
        and promotion.conditions == NO_CONDITIONS
        and not promotion.exclusive
    )
