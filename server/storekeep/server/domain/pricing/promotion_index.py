"""The index of active promotions: a basket is compared only with those that may apply to it.

Each promotion is listed under one condition that a basket must meet: one of its coupons, one of its items, or a group
of the customer; all others under their currency. A coupon finds its promotion, to tell why it does not apply.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.pricing.separable import Separable, find_separable
from storekeep.server.domain.pricing.terms import END_OF_TIME_US, Item, Promotion, Selection, find_span

Key = tuple[str, str]
COUPON, SKU, PRODUCT, CATEGORY, LABEL, GROUP, CURRENCY = (
    "coupon",
    "sku",
    "product",
    "category",
    "label",
    "group",
    "currency",
)
"""What keys are about."""


ITEM_KEYS = frozenset({SKU, PRODUCT, CATEGORY, LABEL})
RESULTS_CACHED = 256
"""The most results of one snapshot in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class ApplicablePromotions:
    """The promotions that may apply to a basket, in their order. Equal only to itself, so that it is found at once.

    Attributes:
        separable: what separable promotions have in common; None for others.
        from_us, until_us: the instants from which and until which the same ones may apply.
    """

    promotions: tuple[Promotion, ...]
    separable: Separable | None
    from_us: int
    until_us: int


NO_PROMOTIONS = ApplicablePromotions((), find_separable(()), 0, END_OF_TIME_US)


class PromotionIndex(msgspec.Struct, frozen=True):
    """Promotions by the condition under which they are listed, each after its rank: the order in which they apply.

    Attributes:
        has_item_keys: whether any of them is listed under an item.
        cache: earlier results by currency and the conditions that the basket met. Safe in several threads: each
            change is one step.
    """

    by_key: Mapping[Key, tuple[tuple[int, Promotion], ...]] = {}
    has_item_keys: bool = False
    cache: dict[tuple[str, frozenset[Key]], ApplicablePromotions] = {}

    def select(
        self,
        items: Iterable[Item],
        *,
        groups: Iterable[str],
        coupon_promotions: Iterable[str],
        currency_code: str,
        now_us: int,
    ) -> ApplicablePromotions:
        """Return the promotions that may apply, the highest priority first, then by name.

        Args:
            items: the items of the basket.
            groups: the groups of the customer.
            coupon_promotions: names of the promotions of its coupons.
        """
        if not self.by_key:
            return NO_PROMOTIONS
        keys: set[Key] = {(CURRENCY, ""), (CURRENCY, currency_code)}
        keys.update([(GROUP, group) for group in groups])
        keys.update([(COUPON, name) for name in coupon_promotions])
        if self.has_item_keys:
            for item in items:
                keys.update(_list_item_keys(item))
        key = (currency_code, frozenset(keys & self.by_key.keys()))
        applicable = self.cache.get(key)
        if applicable is None or not applicable.from_us <= now_us < applicable.until_us:
            applicable = self._select(key[1], currency_code, now_us)
            if len(self.cache) >= RESULTS_CACHED:
                self.cache.clear()
            self.cache[key] = applicable
        return applicable

    def _select(self, keys: Collection[Key], currency_code: str, now_us: int) -> ApplicablePromotions:
        """Return the promotions that are listed under some keys: in the currency, or of a coupon."""
        found = dict(itertools.chain.from_iterable([self.by_key[key] for key in keys]))
        of_coupons = {name for kind, name in keys if kind == COUPON}
        in_order = [found[rank] for rank in sorted(found)]
        listed = [one for one in in_order if one.currency_code in ("", currency_code) or one.name in of_coupons]
        promotions = tuple([one for one in listed if one.window.contains(now_us)])
        from_us, until_us = find_span([one.window for one in listed], now_us)
        is_foreign = any(one.currency_code not in ("", currency_code) for one in promotions)
        return ApplicablePromotions(promotions, None if is_foreign else find_separable(promotions), from_us, until_us)


def index_promotions(promotions: Iterable[Promotion]) -> PromotionIndex:
    """Return the index of promotions."""
    by_key: dict[Key, list[tuple[int, Promotion]]] = {}
    for rank, promotion in enumerate(sorted(promotions, key=lambda one: (-one.priority, one.name))):
        for key in _list_keys(promotion):
            by_key.setdefault(key, []).append((rank, promotion))
    has_item_keys = not ITEM_KEYS.isdisjoint([kind for kind, _ in by_key])
    return PromotionIndex({key: tuple(found) for key, found in by_key.items()}, has_item_keys)


def _list_item_keys(item: Item) -> Iterator[Key]:
    """Yield the keys of the promotions that an item may meet."""
    yield SKU, item.sku
    yield PRODUCT, item.product_id
    for category_id in item.category_ids:
        yield CATEGORY, category_id
    for label, value in item.labels.items():
        yield LABEL, f"{label}={value}"


def _list_keys(promotion: Promotion) -> Sequence[Key]:
    """Return the keys of a promotion: a basket to which it applies, or with a coupon of it, has at least one."""
    of_coupon = (COUPON, promotion.name)
    return [of_coupon] if promotion.requires_coupon else [of_coupon, *_list_condition_keys(promotion)]


def _list_condition_keys(promotion: Promotion) -> Sequence[Key]:
    """Return the keys of a promotion that applies without a coupon."""
    action, conditions = promotion.action, promotion.conditions
    if not action.reduces_shipping and (keys := _list_selection_keys(action.items)):
        return keys
    needs_items = conditions.units_min or conditions.amount_min_minor
    if needs_items and (keys := _list_selection_keys(conditions.items)):
        return keys
    if conditions.groups:
        return [(GROUP, group) for group in conditions.groups]
    return [(CURRENCY, promotion.currency_code)]


def _list_selection_keys(selection: Selection) -> Sequence[Key]:
    """Return the keys of the items that a selection lists; none if other items match it."""
    if selection.inverted:
        return ()
    return [
        *((SKU, sku) for sku in selection.skus),
        *((PRODUCT, product_id) for product_id in selection.product_ids),
        *((CATEGORY, category_id) for category_id in selection.category_ids),
        *((LABEL, f"{label}={value}") for label, value in selection.labels),
    ]
