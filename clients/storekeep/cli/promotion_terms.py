"""What a promotion gives and when: the options that `promotions create` and `promotions update` share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer
from google.protobuf.message import Message

from storekeep.cli.integers import parse_integer
from storekeep.cli.pairs import parse_amount, parse_labels, split_pair
from storekeep.cli.sessions import Session
from storekeep.cli.windows import parse_percentage
from storekeep.client import (
    ItemSelection,
    Promotion,
    PromotionAction,
    PromotionActionKind,
    PromotionTarget,
    PromotionTier,
)
from storekeep.client.names import to_category_name, to_product_name

UNITS_MAX = 10**9
"""Maximum units of a tier in the contract."""
TARGETS = ("lines", "units", "order", "shipping")
PARTS = ("conditions", "action")
Texts = list[str] | None
Percent = Annotated[str, typer.Option("--percent", help="Percentage off, such as 10.")]
Amount = Annotated[str, typer.Option("--amount", help="Amount off, such as 5.00.")]
UnitPrice = Annotated[str, typer.Option("--unit-price", help="Fixed price of each unit.")]
Buy = Annotated[int | None, typer.Option("--buy", min=0, help="Units to buy for each --get; with --percent.")]
Get = Annotated[int | None, typer.Option("--get", min=0, help="Units to get at the discount for each --buy.")]
Off = Annotated[str, typer.Option("--off", help="What is reduced: lines, units, order or shipping. New ones: lines.")]
Currency = Annotated[str, typer.Option("--currency", help="Currency of orders, and of all amounts.")]
Sku = Annotated[Texts, typer.Option("--sku", help="SKU that is reduced. May be repeated.")]
Product = Annotated[Texts, typer.Option("--product", help="Product. May be repeated.")]
Category = Annotated[Texts, typer.Option("--category", help="Category. May be repeated.")]
ItemLabel = Annotated[Texts, typer.Option("--label", metavar="KEY=VALUE", help="Label of variants.")]
Group = Annotated[Texts, typer.Option("--group", help="Group of customers. May be repeated.")]
MinSubtotal = Annotated[str, typer.Option("--min-subtotal", help="Minimum amount of the order.")]
MinUnits = Annotated[int | None, typer.Option("--min-units", min=0, help="Minimum units that are reduced.")]
MinAmount = Annotated[str, typer.Option("--min-amount", help="Minimum amount of the lines to reduce.")]
FirstOrder = Annotated[bool | None, typer.Option("--first-order/--any-order", help="Whether only for the first order.")]
Except = Annotated[
    bool | None, typer.Option("--except/--only", help="Whether the lines are reduced that match none of these.")
]
BoughtSku = Annotated[Texts, typer.Option("--bought-sku", help="SKU that counts for --buy (default: what is reduced).")]
BoughtCategory = Annotated[
    Texts, typer.Option("--bought-category", help="Category that counts for --buy. May be repeated.")
]
Tiers = Annotated[
    Texts,
    typer.Option(
        "--tier",
        metavar="UNITS=VALUE",
        help="Another --percent, --amount or --unit-price from these units on. Repeatable.",
    ),
]
AmountTiers = Annotated[
    Texts,
    typer.Option(
        "--amount-tier", metavar="AMOUNT=VALUE", help="Another value from this amount of the lines on. May be repeated."
    ),
]
DearestFirst = Annotated[
    bool | None, typer.Option("--dearest-first/--cheapest-first", help="Which units are reduced first.")
]
MaxUnits = Annotated[
    int | None, typer.Option("--max-units", min=0, help="Maximum units to reduce in one order; 0 for no limit.")
]
MaxDiscount = Annotated[str, typer.Option("--max-discount", help="Maximum discount of one order.")]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The values of the options above: by default those of an option that is not used."""

    percent: Percent = ""
    amount: Amount = ""
    unit_price: UnitPrice = ""
    buy: Buy = None
    get: Get = None
    off: Off = ""
    sku: Sku = None
    product: Product = None
    category: Category = None
    label: ItemLabel = None
    group: Group = None
    min_subtotal: MinSubtotal = ""
    min_units: MinUnits = None
    first_order: FirstOrder = None
    min_amount: MinAmount = ""
    inverted: Except = None
    bought_sku: BoughtSku = None
    bought_category: BoughtCategory = None
    tier: Tiers = None
    amount_tier: AmountTiers = None
    dearest_first: DearestFirst = None
    max_units: MaxUnits = None
    max_discount: MaxDiscount = ""

    @property
    def has_value(self) -> bool:
        """Whether one of the options is an amount off, a percentage or a price."""
        return bool(self.percent or self.amount or self.unit_price)

    @property
    def is_empty(self) -> bool:
        """Whether none of the options is used."""
        return all(getattr(self, item.name) in ("", None, []) for item in fields(self))


def take_terms(action: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for each of the terms in place of its parameter `terms`."""
    own = inspect.signature(action, eval_str=True).parameters
    options = inspect.signature(Terms, eval_str=True).parameters

    @functools.wraps(action)
    def run(session: Session, **values: Any) -> None:
        action(session, terms=Terms(**{name: values.pop(name) for name in options}), **values)

    parts = [part for one in own.values() for part in (options.values() if one.name == "terms" else [one])]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parts[0], *(part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in parts[1:])]
    )
    return run


def apply_terms(promotion: Promotion, terms: Terms, *, cleared: Iterable[str] = ()) -> None:
    """Set the action and the conditions of a promotion by the options that are used; all else stays.

    `cleared`: fields to clear before, such as `action.max_discount`.

    Minimum units and a minimum amount count the lines to reduce, unless the promotion already counted other lines.

    Raises: typer.BadParameter.
    """
    action, conditions = promotion.action, promotion.conditions
    counts_reduced = not _has_minimum(promotion) or conditions.items == action.items
    currency_code = promotion.currency_code
    _clear(promotion, cleared)
    _apply_discount(action, terms, currency_code=currency_code)
    _apply_items(action, terms)
    if terms.tier or terms.amount_tier:
        del action.tiers[:]
        action.tiers.extend(
            _parse_tiers(terms.tier or (), terms.amount_tier or (), action=action, currency_code=currency_code)
        )
    _set_given(action, dearest_first=terms.dearest_first, max_units=terms.max_units)
    _set_given(conditions, min_units=terms.min_units, first_order=terms.first_order)
    amounts = (
        (action.max_discount, terms.max_discount),
        (conditions.min_subtotal, terms.min_subtotal),
        (conditions.min_amount, terms.min_amount),
    )
    for field, text in amounts:
        if text:
            field.CopyFrom(parse_amount(text, currency_code=currency_code))
    if terms.group:
        conditions.customer_groups[:] = terms.group
    if counts_reduced:
        conditions.ClearField("items")
        if _has_minimum(promotion) and action.HasField("items"):
            conditions.items.CopyFrom(action.items)


def _clear(promotion: Promotion, paths: Iterable[str]) -> None:
    """Clear fields of the action and the conditions.

    Raises: typer.BadParameter if there is no such field.
    """
    for path in paths:
        part, _, field = path.partition(".")
        message = getattr(promotion, part)
        if field not in message.DESCRIPTOR.fields_by_name:
            raise typer.BadParameter(f"--clear: {path!r} is not a field of a promotion")
        message.ClearField(field)


def _has_minimum(promotion: Promotion) -> bool:
    return bool(promotion.conditions.min_units) or promotion.conditions.HasField("min_amount")


def _set_given(message: Message, **values: bool | int | None) -> None:
    for field, value in values.items():
        if value is not None:
            setattr(message, field, value)


def _apply_discount(action: PromotionAction, terms: Terms, *, currency_code: str) -> None:
    """Set the kind of an action and its value.

    Raises: typer.BadParameter for several values.
    """
    if sum(map(bool, (terms.percent, terms.amount, terms.unit_price))) > 1:
        raise typer.BadParameter("give one of --percent, --amount and --unit-price")
    if terms.percent:
        action.ClearField("amount")
        action.percentage_ppm = parse_percentage(terms.percent, maximum=100)
    elif text := terms.amount or terms.unit_price:
        action.ClearField("percentage_ppm")
        action.amount.CopyFrom(parse_amount(text, currency_code=currency_code))
    _set_given(action, buy_units=terms.buy, get_units=terms.get)
    kinds = PromotionActionKind
    if action.buy_units or action.get_units:
        action.kind = kinds.PROMOTION_ACTION_KIND_BUY_X_GET_Y
    elif terms.percent or action.kind == kinds.PROMOTION_ACTION_KIND_BUY_X_GET_Y:
        action.kind = kinds.PROMOTION_ACTION_KIND_PERCENTAGE
    elif terms.has_value:
        is_amount = bool(terms.amount)
        action.kind = kinds.PROMOTION_ACTION_KIND_AMOUNT if is_amount else kinds.PROMOTION_ACTION_KIND_FIXED_UNIT_PRICE
    if terms.off:
        action.target = _parse_target(terms.off)


def _apply_items(action: PromotionAction, terms: Terms) -> None:
    """Set the lines that an action reduces, and those that count as bought.

    Raises: typer.BadParameter if nothing is listed that could be inverted.
    """
    listed = _change_selection(
        action.items,
        skus=terms.sku,
        products=terms.product and [to_product_name(name) for name in terms.product],
        categories=terms.category and [to_category_name(name) for name in terms.category],
        labels=terms.label,
    )
    if terms.inverted and not listed:
        raise typer.BadParameter("--except needs a --sku, --product, --category or --label")
    if terms.inverted is not None and listed:
        action.items.inverted = terms.inverted
    categories = terms.bought_category and [to_category_name(name) for name in terms.bought_category]
    _change_selection(action.bought, skus=terms.bought_sku, categories=categories)


def _change_selection(
    selection: ItemSelection,
    *,
    skus: Texts = None,
    products: Texts = None,
    categories: Texts = None,
    labels: Texts = None,
) -> bool:
    """Replace the lists of a selection that are given. Return whether it lists anything.

    Raises: typer.BadParameter.
    """
    for values, new in (
        (selection.skus, skus),
        (selection.products, products),
        (selection.categories, categories),
    ):
        if new:
            values[:] = new
    if labels:
        parsed = parse_labels(labels)
        selection.labels.clear()
        selection.labels.update(parsed)
    return bool(selection.skus or selection.products or selection.categories or selection.labels)


def _parse_target(text: str) -> PromotionTarget.ValueType:
    if text not in TARGETS:
        raise typer.BadParameter(f"--off must be one of {', '.join(TARGETS)}")
    return PromotionTarget.Value(f"PROMOTION_TARGET_{text.upper()}")


def _parse_tiers(
    by_units: Sequence[str], by_amount: Sequence[str], *, action: PromotionAction, currency_code: str
) -> list[PromotionTier]:
    """Parse the values of an action for larger orders: those from some units on, then those from some amount on.

    Raises: typer.BadParameter.
    """
    tiers = []
    for text in by_units:
        units, value = split_pair(text, form="UNITS=VALUE", example="10=15")
        tiers.append(_build_tier(value, action, currency_code=currency_code))
        tiers[-1].min_units = _parse_units(units)
    for text in by_amount:
        amount, value = split_pair(text, form="AMOUNT=VALUE", example="100.00=15")
        tiers.append(_build_tier(value, action, currency_code=currency_code))
        tiers[-1].min_amount.CopyFrom(parse_amount(amount, currency_code=currency_code))
    return tiers


def _parse_units(text: str) -> int:
    """Parse a number of units. Raises: typer.BadParameter."""
    try:
        units = parse_integer(text)
    except ValueError as error:
        raise typer.BadParameter(f"--tier {text}: {error}") from None
    if not 0 < units <= UNITS_MAX:
        raise typer.BadParameter(f"--tier {text}: the units must be from 1 to {UNITS_MAX}")
    return units


def _build_tier(value: str, action: PromotionAction, *, currency_code: str) -> PromotionTier:
    """Return a tier with its value: a percentage or an amount, as the action has it."""
    if action.HasField("amount"):
        return PromotionTier(amount=parse_amount(value, currency_code=currency_code))
    return PromotionTier(percentage_ppm=parse_percentage(value, maximum=100))
