"""The selections of promotions that are frozen with an order, in bounded space.

An order keeps short selections as they are. Of long ones it keeps which of its lines they select, so that they select
no line that is added later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from storekeep.server.domain.pricing.discounts import selects
from storekeep.server.domain.pricing.terms import EVERYTHING, Item, Promotion, Selection

LISTED_MAX = 1_000
"""The most SKUs, products, categories and labels that the selections of one order list: at most 64 KB."""
NO_SKU = frozenset(("",))
"""Selects no item, as no SKU is empty. Without any listed thing, a selection would select all."""


def compact_promotions(promotions: Sequence[Promotion], items: Sequence[Item]) -> tuple[Promotion, ...]:
    """Return promotions as an order keeps them: the first selections as they are, as long as they list few things.

    Args:
        items: the item of each line of the order.
    """
    left = LISTED_MAX

    def compact(selection: Selection) -> Selection:
        nonlocal left
        if selection is EVERYTHING:
            return selection
        if selection.size <= left:
            left -= selection.size
            return selection
        bits = sum([1 << index for index, item in enumerate(items) if selects(selection, item)])
        return Selection(lines=f"{bits:x}")

    return tuple([_map_selections(one, compact) if is_selective(one) else one for one in promotions])


def is_selective(promotion: Promotion) -> bool:
    """Return whether a promotion selects some items and not others."""
    action = promotion.action
    return action.bought is not None or action.items != EVERYTHING or promotion.conditions.items != EVERYTHING


def expand_promotions(promotions: tuple[Promotion, ...], items: Sequence[Item]) -> tuple[Promotion, ...]:
    """Return promotions that an order keeps as the calculation reads them.

    Args:
        items: the item of each line of the order.
    """

    def expand(selection: Selection) -> Selection:
        if not selection.lines:
            return selection
        bits = int(selection.lines, 16)
        skus = frozenset([item.sku for index, item in enumerate(items) if bits >> index & 1])
        return Selection(skus=skus or NO_SKU)

    return tuple([_map_selections(promotion, expand) for promotion in promotions])


def _map_selections(promotion: Promotion, change: Callable[[Selection], Selection]) -> Promotion:
    """Return a promotion with other selections; the same one if none changes."""
    action, conditions = promotion.action, promotion.conditions
    items, counted = change(action.items), change(conditions.items)
    bought = None if action.bought is None else change(action.bought)
    if items is action.items and counted is conditions.items and bought is action.bought:
        return promotion
    return replace(
        promotion,
        action=replace(action, items=items, bought=bought),
        conditions=replace(conditions, items=counted),
    )
