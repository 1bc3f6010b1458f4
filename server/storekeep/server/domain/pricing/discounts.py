"""Discounts: the shares of a promotion on the lines of a basket, or on its shipping.

Caps, floors and eligibility are settled before an amount is spread. A share is never more than what is left of a line
above its floor, and nothing spills from lines into shipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from storekeep.server.domain.money import round_parts, round_ratio, spread_amount
from storekeep.server.domain.pricing.terms import (
    AMOUNT,
    BUY_X_GET_Y,
    EVERYTHING,
    FIXED_UNIT_PRICE,
    HALF_EVEN,
    LINES,
    NO_CONDITIONS,
    ORDER,
    PERCENTAGE,
    PPM,
    SHIPPING,
    Action,
    Conditions,
    Item,
    Promotion,
    Rules,
    Selection,
    Usage,
)
from storekeep.server.domain.pricing.terms import Customer as CustomerFacts


@dataclass(slots=True)
class Line:
    """A line while promotions apply: `left_minor` is its amount after those before."""

    item: Item
    units: int
    unit_price_minor: int
    floor_minor: int
    left_minor: int

    @property
    def unit_worth(self) -> Fraction:
        """Return what one unit is worth now."""
        return Fraction(self.left_minor, self.units)


class Reduction:
    """The shares of one promotion.

    Attributes:
        shares: one for each line.
        shipping_minor: that of the shipping.
        discount_minor: the whole discount.
    """

    __slots__ = ("discount_minor", "shares", "shipping_minor")

    def __init__(self, shares: list[int], shipping_minor: int = 0) -> None:
        self.shares = shares
        self.shipping_minor = shipping_minor
        self.discount_minor = sum(shares) + shipping_minor


class Reductions:
    """The amounts of a basket while promotions apply.

    Attributes:
        has_floors: whether any line has a minimum price.
    """

    def __init__(self, lines: list[Line], shipping_left_minor: int, rules: Rules) -> None:
        self.lines = lines
        self.shipping_left_minor = shipping_left_minor
        self.rules = rules
        self.has_floors = any(line.floor_minor for line in lines)
        self._selected: dict[int, tuple[Selection, list[int]]] = {}

    def select(self, selection: Selection) -> list[int]:
        """Return the indexes of the lines whose item is selected.

        Hashing a selection of many things would cost more than selecting, so results are found by identity. They hold
        their selection, whose id no other one can have meanwhile.
        """
        known = self._selected.get(id(selection))
        if known is None:
            indexes = [index for index, line in enumerate(self.lines) if selects(selection, line.item)]
            known = self._selected[id(selection)] = selection, indexes
        return known[1]

    def reduce(self, promotion: Promotion, *, budget_minor: int | None) -> Reduction:
        """Return the discount of a promotion whose conditions are met, without applying it.

        Args:
            budget_minor: what is left of its budget; None for no limit.
        """
        action = promotion.action
        has_cap = action.units_max is not None or action.discount_max_minor is not None or budget_minor is not None
        if action.kind == PERCENTAGE and action.target != SHIPPING and not has_cap:
            return self._reduce_evenly(action)
        cap = action.discount_max_minor
        if budget_minor is not None:
            cap = budget_minor if cap is None else min(cap, budget_minor)
        if action.reduces_shipping:
            return Reduction([0] * len(self.lines), self._reduce_shipping(action, cap))
        eligible = self.select(action.items)
        counted = self._count_units(action, eligible)
        value = self._choose_value(action, eligible)
        rooms = [self._measure_room(self.lines[index], counted.get(index, 0)) for index in eligible]
        if action.kind == AMOUNT and action.target == ORDER:
            weights = [self.lines[index].left_minor if room else 0 for index, room in zip(eligible, rooms, strict=True)]
            shares = spread_within(value if cap is None else min(value, cap), weights, rooms)
        else:
            shares = [
                min(room, self._reduce_line(action, self.lines[index], counted[index], value)) if room else 0
                for index, room in zip(eligible, rooms, strict=True)
            ]
            if cap is not None and sum(shares) > cap:
                shares = spread_amount(cap, shares)
        all_shares = [0] * len(self.lines)
        for index, share in zip(eligible, shares, strict=True):
            all_shares[index] = share
        return Reduction(all_shares)

    def _reduce_evenly(self, action: Action) -> Reduction:
        """Return a percentage off all units of some lines, the most common discount, without a cap."""
        eligible = self.select(action.items)
        ppm = self._choose_value(action, eligible) if action.tiers else action.value
        lines = self.lines
        chosen = lines if len(eligible) == len(lines) else [lines[index] for index in eligible]
        shares = round_parts([line.left_minor for line in chosen], ppm, PPM, half_even=self.rules.rounding == HALF_EVEN)
        if self.has_floors:
            rooms = [max(0, line.left_minor - line.floor_minor * line.units) for line in chosen]
            shares = list(map(min, shares, rooms))
        if chosen is lines:
            return Reduction(shares)
        all_shares = [0] * len(lines)
        for index, share in zip(eligible, shares, strict=True):
            all_shares[index] = share
        return Reduction(all_shares)

    def apply(self, reduction: Reduction) -> None:
        """Take a discount off the lines and the shipping."""
        for line, share in zip(self.lines, reduction.shares, strict=True):
            line.left_minor -= share
        self.shipping_left_minor -= reduction.shipping_minor

    def meets(self, conditions: Conditions, customer: CustomerFacts) -> bool:
        """Return whether the conditions of a promotion are met."""
        if conditions is NO_CONDITIONS:
            return True
        if conditions.first_order and not customer.first_order:
            return False
        if conditions.groups and conditions.groups.isdisjoint(customer.groups):
            return False
        subtotal_min_minor = conditions.subtotal_min_minor
        if subtotal_min_minor and sum([line.left_minor for line in self.lines]) < subtotal_min_minor:
            return False
        if not conditions.units_min and not conditions.amount_min_minor and conditions.items == EVERYTHING:
            return True
        chosen = [self.lines[index] for index in self.select(conditions.items)]
        units, amount = sum([line.units for line in chosen]), sum([line.left_minor for line in chosen])
        return units >= max(1, conditions.units_min) and amount >= conditions.amount_min_minor

    def _round(self, numerator: int, denominator: int) -> int:
        return round_ratio(numerator, denominator, half_even=self.rules.rounding == HALF_EVEN)

    def _measure_room(self, line: Line, units: int) -> int:
        """Return what units of a line are worth above their floor."""
        if not units:
            return 0
        worth = line.left_minor if units == line.units else self._round(line.left_minor * units, line.units)
        return max(0, worth - line.floor_minor * units)

    def _reduce_line(self, action: Action, line: Line, units: int, value: int) -> int:
        """Return the discount on units of a line, before its limit."""
        if action.kind in (PERCENTAGE, BUY_X_GET_Y):
            return self._round(line.left_minor * units * value, line.units * PPM)
        if action.kind == FIXED_UNIT_PRICE:
            return self._round(max(0, line.left_minor * units - value * units * line.units), line.units)
        return value if action.target == LINES else value * units

    def _reduce_shipping(self, action: Action, cap: int | None) -> int:
        value = self._choose_value(action, self.select(action.items))
        left = self.shipping_left_minor
        share = self._round(left * value, PPM) if action.kind == PERCENTAGE else value
        return min(share, left) if cap is None else min(share, left, cap)

    def _choose_value(self, action: Action, eligible: Sequence[int]) -> int:
        """Return the value of the last tier that the eligible lines reach, or that of the action."""
        if not action.tiers:
            return action.value
        units = sum([self.lines[index].units for index in eligible])
        amount = sum([self.lines[index].left_minor for index in eligible])
        reached = [tier for tier in action.tiers if tier.units_min <= units and tier.amount_min_minor <= amount]
        best = max(reached, key=lambda tier: (tier.amount_min_minor, tier.units_min), default=None)
        return action.value if best is None else best.value

    def _count_units(self, action: Action, eligible: Sequence[int]) -> dict[int, int]:
        """Return the units of each eligible line that a promotion reduces."""
        if action.kind == BUY_X_GET_Y:
            return self._count_rewards(action, eligible)
        units = {index: self.lines[index].units for index in eligible}
        if action.units_max is None or action.units_max >= sum(units.values()):
            return units
        return self._pick_units(action, units, most=action.units_max)

    def _count_rewards(self, action: Action, eligible: Sequence[int]) -> dict[int, int]:
        """Return the units to get. Each whole group of bought units and units to get counts once."""
        bought = set(eligible if action.bought is None else self.select(action.bought))
        rewards = {index: self.lines[index].units for index in eligible}
        units_bought = sum([self.lines[index].units for index in bought])
        units_rewards = sum(rewards.values())
        units_all = sum([self.lines[index].units for index in bought | set(eligible)])
        groups = units_all // (action.buy_units + action.get_units)
        if action.buy_units:
            groups = min(groups, units_bought // action.buy_units)
        if action.get_units:
            groups = min(groups, units_rewards // action.get_units)
        most = groups * action.get_units
        if action.units_max is not None:
            most = min(most, action.units_max)
        spare = units_bought - groups * action.buy_units
        return self._pick_units(action, rewards, most=most, shared=bought, spare=spare)

    def _pick_units(
        self,
        action: Action,
        units: dict[int, int],
        *,
        most: int,
        shared: set[int] | frozenset[int] = frozenset(),
        spare: int = 0,
    ) -> dict[int, int]:
        """Return at most some units, the cheapest or the dearest first, then the earlier line first.

        Args:
            shared: lines of which only `spare` units may be picked in all.
        """
        sign = -1 if action.dearest_first else 1
        picked: dict[int, int] = {}
        for index in sorted(units, key=lambda index: (sign * self.lines[index].unit_worth, index)):
            allowed = min(units[index], most, spare) if index in shared else min(units[index], most)
            picked[index] = allowed
            most -= allowed
            if index in shared:
                spare -= allowed
        return picked


def selects(selection: Selection, item: Item) -> bool:
    """Return whether a selection contains an item."""
    if selection is EVERYTHING or selection == EVERYTHING:
        return True
    listed = (
        item.sku in selection.skus
        or item.product_id in selection.product_ids
        or not selection.category_ids.isdisjoint(item.category_ids)
        or any(item.labels.get(key) == value for key, value in selection.labels)
    )
    return listed != selection.inverted


def spread_within(amount_minor: int, weights: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """Spread an amount in proportion to weights, no share above its room.

    A share that would reach its room gets just that, and the others share the rest; the last step is by largest
    remainder. If the amount is more than all rooms, each share is its room.

    Args:
        rooms: for each weight above 0, at most the weight.
    """
    shares = [0] * len(weights)
    open_indexes = [index for index, weight in enumerate(weights) if weight]
    left = min(amount_minor, sum([rooms[index] for index in open_indexes]))
    while True:
        total = sum([weights[index] for index in open_indexes])
        full = {index for index in open_indexes if left * weights[index] >= rooms[index] * total}
        if not full:
            break
        for index in full:
            shares[index] = rooms[index]
            left -= rooms[index]
        open_indexes = [index for index in open_indexes if index not in full]
    spread = spread_amount(left, [weights[index] for index in open_indexes])
    for index, share in zip(open_indexes, spread, strict=True):
        shares[index] = share
    return shares


def spent_up(promotion: Promotion, usage: Usage) -> bool:
    """Return whether nothing is left of a budget of a promotion."""
    uses = promotion.uses_max is not None and usage.uses >= promotion.uses_max
    return uses or (promotion.budget_minor is not None and usage.discount_minor >= promotion.budget_minor)
