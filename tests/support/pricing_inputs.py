"""Random baskets and terms: small numbers that meet often, and large ones.

They come from a `Random`, as drawing each of their hundred values with Hypothesis would take 30 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from storekeep.server.domain.pricing.baskets import Basket, BasketLine
from storekeep.server.domain.pricing.terms import (
    ACTION_KINDS,
    AMOUNT,
    FIXED_UNIT_PRICE,
    KEPT_PRICES,
    PPM,
    ROUNDINGS,
    TARGETS,
    TAX_ROUNDINGS,
    Action,
    Conditions,
    CouponCode,
    Customer,
    Exemption,
    Item,
    Promotion,
    Rules,
    Selection,
    TaxComponent,
    TaxRate,
    TaxZone,
    Terms,
    Tier,
    UnitPrice,
    Usage,
)

SKUS = ("A", "B", "C", "D")
HOME, AWAY = TaxZone("taxZones/home", ()), TaxZone("taxZones/away", ())
ITEMS = {
    "A": Item("A", "p1", frozenset({"c1"}), {"colour": "red"}),
    "B": Item("B", "p1", frozenset({"c1", "c2"}), {}, "reduced"),
    "C": Item("C", "p2", frozenset({"c2"}), {"colour": "blue"}),
    "D": Item("D", "p3"),
}
RATES = (0, 1, 55_000, 70_000, 88_750, 190_000, 200_000, 333_333, PPM)
PERCENTAGES = (0, 1, 100_000, 105_000, 150_000, 333_333, 500_000, 999_999, PPM)
GROUPS = ("gold", "trade")
CODES = ("PROMOTIONS/0", " promotions/1", "other")
Value = TypeVar("Value")


def make_case(random: Random) -> tuple[Basket, Terms]:
    """Return a basket and its terms."""
    offered = [make_promotion(random, f"promotions/{place}") for place in range(random.randint(0, 4))]
    classes: Sequence[Sequence[str]] = ((), ("",), ("", "reduced"))
    terms = Terms(
        rules=Rules(
            random.choice(ROUNDINGS),
            random.choice(TAX_ROUNDINGS),
            prices_include_tax=random.random() < 0.5,
            home_zone=random.choice(("", HOME.name)),
            kept_price=random.choice(KEPT_PRICES),
            shipping_tax_class=random.choice(("", "reduced")),
        ),
        zone=random.choice((None, HOME, AWAY)),
        rates={
            (name, tax_class): (make_rate(random, name, tax_class),)
            for name in (HOME.name, AWAY.name)
            for tax_class in random.choice(classes)
        },
        promotions=tuple(sorted(offered, key=lambda promotion: (-promotion.priority, promotion.name))),
        prices={sku: make_prices(random, sku) for sku in SKUS},
        items=ITEMS,
        coupons={
            promotion.name: CouponCode(promotion.name, f"coupons/{place}", promotion.name)
            for place, promotion in enumerate(offered)
        },
        usages={
            promotion.name: Usage(random.randint(0, 4), random.randint(0, 2000))
            for promotion in offered
            if promotion.uses_max is not None or promotion.budget_minor is not None
        },
    )
    lines = [BasketLine(random.choice(SKUS), make_units(random)) for _ in range(random.randint(1, 5))]
    basket = Basket(
        tuple(lines),
        "EUR",
        5,
        Customer(some(random, GROUPS, 2), random.random() < 0.5),
        codes=tuple(some(random, CODES, 3)),
        shipping_minor=make_amount(random) if random.random() < 0.5 else None,
        exemption=Exemption("reseller", "C-1") if random.random() < 0.2 else None,
    )
    return basket, terms


def some(random: Random, values: Sequence[Value], most: int) -> frozenset[Value]:
    """Return up to some of the values."""
    return frozenset(random.sample(values, random.randint(0, most)))


def make_amount(random: Random) -> int:
    """Return an amount: tiny, usual or the largest."""
    return random.randint(0, random.choice((30, 20_000, 10**12)))


def make_units(random: Random) -> int:
    """Return units of a line."""
    return random.randint(1, random.choice((4, 12)))


def make_rate(random: Random, zone: str, tax_class: str) -> TaxRate:
    """Return a rate of one to three components."""
    parts = [TaxComponent("part", random.choice(RATES), random.random() < 0.5) for _ in range(random.randint(1, 3))]
    return TaxRate("taxRates/r", zone, tuple(parts), tax_class)


def make_selection(random: Random) -> Selection:
    """Return a selection; a third of them select everything."""
    if random.random() < 0.3:
        return Selection()
    return Selection(
        skus=some(random, SKUS, 2),
        product_ids=some(random, ("p1", "p2"), 1),
        category_ids=some(random, ("c1", "c2"), 1),
        labels=some(random, (("colour", "red"), ("colour", "blue")), 1),
        inverted=random.random() < 0.3,
    )


def make_action(random: Random) -> Action:
    """Return an action whose value fits its kind."""
    kind = random.choice(ACTION_KINDS)

    def make_value() -> int:
        return make_amount(random) if kind in (AMOUNT, FIXED_UNIT_PRICE) else random.choice(PERCENTAGES)

    minimums = {(random.randint(0, 4), random.randint(0, 500)) for _ in range(random.choice((0, 0, 2)))}
    return Action(
        kind,
        make_value(),
        random.choice(TARGETS),
        items=make_selection(random),
        tiers=tuple(Tier(make_value(), units, amount) for units, amount in sorted(minimums)),
        bought=random.choice((None, make_selection(random))),
        buy_units=random.randint(1, 3),
        get_units=random.randint(1, 2),
        dearest_first=random.random() < 0.5,
        units_max=random.choice((None, None, random.randint(0, 8))),
        discount_max_minor=random.choice((None, None, make_amount(random))),
    )


def make_conditions(random: Random) -> Conditions:
    """Return conditions; half of them are none."""
    if random.random() < 0.5:
        return Conditions()
    return Conditions(
        subtotal_min_minor=random.randint(0, 2000),
        items=make_selection(random),
        units_min=random.randint(0, 4),
        amount_min_minor=random.randint(0, 500),
        groups=some(random, GROUPS, 1),
        first_order=random.random() < 0.3,
    )


def make_promotion(random: Random, name: str) -> Promotion:
    """Return a promotion."""
    return Promotion(
        name,
        make_action(random),
        conditions=make_conditions(random),
        priority=random.randint(0, 2),
        exclusive=random.random() < 0.2,
        requires_coupon=random.random() < 0.3,
        currency_code=random.choice(("", "EUR", "EUR", "USD")),
        uses_max=random.choice((None, None, 3)),
        budget_minor=random.choice((None, None, random.randint(0, 3000))),
    )


def make_prices(random: Random, sku: str) -> tuple[UnitPrice, ...]:
    """Return a price for all and some special ones."""
    special = [
        UnitPrice(
            sku,
            random.choice(("EUR", "EUR", "USD")),
            make_amount(random),
            f"prices/{place}",
            random.choice(("", "gold")),
            random.randint(1, 6),
            floor_minor=random.randint(0, 200),
        )
        for place in range(random.randint(0, 2))
    ]
    return UnitPrice(sku, "EUR", make_amount(random), floor_minor=random.choice((0, 0, 5, 90))), *special
