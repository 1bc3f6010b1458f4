"""Conversion of promotions between messages and domain values."""

from __future__ import annotations

from storekeep.server.domain.money import Money
from storekeep.server.domain.pricing import terms
from storekeep.server.domain.pricing.promotions import Action, Conditions, ItemSelection, Promotion, Tier
from storekeep.server.servicers.converters import fill_labels, parse_id
from storekeep.server.servicers.pricing_messages import (
    WINDOW_FIELDS,
    build_optional_money,
    build_times,
    build_window,
    parse_optional_money,
    parse_window,
)
from storekeep.v1 import pricing_pb2 as pb

PROMOTION_FIELDS = {
    "display_name": "display_name",
    "priority": "priority",
    "exclusive": "exclusive",
    "requires_coupon": "requires_coupon",
    "currency_code": "currency_code",
    "conditions": "conditions",
    "action": "action",
    "max_uses": "uses_max",
    "budget": "budget",
    **WINDOW_FIELDS,
}
TARGETS = (terms.LINES, *terms.TARGETS)
"""The targets by the number of the contract's enum, whose default is LINES."""
KINDS = ("", *terms.ACTION_KINDS)
"""The kinds of actions by the number of the contract's enum."""


def build_promotion(promotion: Promotion) -> pb.Promotion:
    """Build the message of a promotion."""
    spent = None if promotion.budget is None else Money(promotion.budget.currency_code, promotion.spent_minor)
    return pb.Promotion(
        display_name=promotion.display_name,
        state=pb.PromotionState.Value(f"PROMOTION_STATE_{promotion.state}"),
        priority=promotion.priority,
        exclusive=promotion.exclusive,
        requires_coupon=promotion.requires_coupon,
        currency_code=promotion.currency_code,
        conditions=_build_conditions(promotion.conditions),
        action=_build_action(promotion.action),
        max_uses=promotion.uses_max,
        budget=build_optional_money(promotion.budget),
        uses=promotion.uses,
        spent=build_optional_money(spent),
        **build_window(promotion),
        **build_times(promotion),
    )


def _build_conditions(conditions: Conditions) -> pb.PromotionConditions | None:
    if conditions == Conditions():
        return None
    return pb.PromotionConditions(
        min_subtotal=build_optional_money(conditions.subtotal_min),
        items=_build_selection(conditions.items),
        min_units=conditions.units_min,
        min_amount=build_optional_money(conditions.amount_min),
        customer_groups=conditions.groups,
        first_order=conditions.first_order,
    )


def _build_action(action: Action) -> pb.PromotionAction:
    return pb.PromotionAction(
        kind=pb.PromotionActionKind.Value(f"PROMOTION_ACTION_KIND_{action.kind}"),
        percentage_ppm=action.percentage_ppm,
        amount=build_optional_money(action.amount),
        target=pb.PromotionTarget.Value(f"PROMOTION_TARGET_{action.target}"),
        items=_build_selection(action.items),
        tiers=[_build_tier(tier) for tier in action.tiers],
        bought=None if action.bought is None else _build_selection(action.bought, always=True),
        buy_units=action.buy_units,
        get_units=action.get_units,
        dearest_first=action.dearest_first,
        max_units=action.units_max,
        max_discount=build_optional_money(action.discount_max),
    )


def _build_tier(tier: Tier) -> pb.PromotionTier:
    return pb.PromotionTier(
        percentage_ppm=tier.percentage_ppm,
        amount=build_optional_money(tier.amount),
        min_units=tier.units_min,
        min_amount=build_optional_money(tier.amount_min),
    )


def _build_selection(selection: ItemSelection, *, always: bool = False) -> pb.ItemSelection | None:
    """Build the message of a selection; None for all lines, unless `always` is set."""
    if selection == ItemSelection() and not always:
        return None
    message = pb.ItemSelection(
        skus=selection.skus,
        products=[f"products/{product_id}" for product_id in selection.product_ids],
        categories=[f"categories/{category_id}" for category_id in selection.category_ids],
        inverted=selection.inverted,
    )
    fill_labels(message.labels, selection.labels)
    return message


def parse_promotion(message: pb.Promotion, promotion_id: str) -> Promotion:
    """Parse a promotion from a request.

    Raises: UnknownCurrency, InvalidAmount.
    """
    return Promotion(
        promotion_id,
        display_name=message.display_name,
        priority=message.priority,
        exclusive=message.exclusive,
        requires_coupon=message.requires_coupon,
        currency_code=message.currency_code,
        conditions=_parse_conditions(message.conditions),
        action=_parse_action(message.action),
        uses_max=message.max_uses,
        budget=parse_optional_money(message, "budget", parent="promotion"),
        **parse_window(message),
    )


def _parse_conditions(message: pb.PromotionConditions) -> Conditions:
    parent = "promotion.conditions"
    return Conditions(
        subtotal_min=parse_optional_money(message, "min_subtotal", parent=parent),
        items=_parse_selection(message.items),
        units_min=message.min_units,
        amount_min=parse_optional_money(message, "min_amount", parent=parent),
        groups=tuple(sorted(message.customer_groups)),
        first_order=message.first_order,
    )


def _parse_action(message: pb.PromotionAction) -> Action:
    parent = "promotion.action"
    return Action(
        kind=KINDS[message.kind],
        percentage_ppm=message.percentage_ppm,
        amount=parse_optional_money(message, "amount", parent=parent),
        target=TARGETS[message.target],
        items=_parse_selection(message.items),
        tiers=tuple(_parse_tier(tier, f"{parent}.tiers[{index}]") for index, tier in enumerate(message.tiers)),
        bought=_parse_selection(message.bought) if message.HasField("bought") else None,
        buy_units=message.buy_units,
        get_units=message.get_units,
        dearest_first=message.dearest_first,
        units_max=message.max_units,
        discount_max=parse_optional_money(message, "max_discount", parent=parent),
    )


def _parse_tier(message: pb.PromotionTier, parent: str) -> Tier:
    return Tier(
        percentage_ppm=message.percentage_ppm,
        amount=parse_optional_money(message, "amount", parent=parent),
        units_min=message.min_units,
        amount_min=parse_optional_money(message, "min_amount", parent=parent),
    )


def _parse_selection(message: pb.ItemSelection) -> ItemSelection:
    return ItemSelection(
        skus=tuple(sorted(message.skus)),
        product_ids=tuple(sorted(parse_id(name) for name in message.products)),
        category_ids=tuple(sorted(parse_id(name) for name in message.categories)),
        labels=dict(message.labels),
        inverted=message.inverted,
    )
