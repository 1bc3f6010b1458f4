"""Which promotions are separable, and until when the selection of promotions holds."""

from __future__ import annotations

from msgspec.structs import replace

from storekeep.server.domain.pricing.promotion_index import index_promotions
from storekeep.server.domain.pricing.separable import find_separable
from storekeep.server.domain.pricing.terms import (
    ALWAYS,
    AMOUNT,
    ORDER,
    PERCENTAGE,
    SHIPPING,
    Action,
    Conditions,
    Promotion,
    Tier,
    Window,
)

TENTH = Action(PERCENTAGE, 100_000)
NOW_US = 1_000


def test_promotion_that_compares_lines_or_has_a_limit_is_not_separable() -> None:
    others = [
        Promotion("p", Action(AMOUNT, 100)),
        Promotion("p", Action(PERCENTAGE, 1, SHIPPING)),
        Promotion("p", replace(TENTH, tiers=(Tier(2, units_min=2),))),
        Promotion("p", replace(TENTH, units_max=1)),
        Promotion("p", replace(TENTH, discount_max_minor=1)),
        Promotion("p", TENTH, uses_max=1),
        Promotion("p", TENTH, budget_minor=1),
        Promotion("p", TENTH, exclusive=True),
        Promotion("p", TENTH, conditions=Conditions(first_order=True)),
    ]
    assert [find_separable([one]) for one in others] == [None] * len(others)
    assert find_separable([Promotion("p", replace(TENTH, target=ORDER))]) is not None


def test_selection_of_an_earlier_basket_holds_until_a_window_begins_or_ends() -> None:
    spring = Promotion("promotions/spring", TENTH, window=Window(10, 20))
    index = index_promotions([spring, Promotion("promotions/all", TENTH)])

    def list_names(now_us: int) -> list[str]:
        found = index.select((), groups=(), coupon_promotions=(), currency_code="EUR", now_us=now_us)
        return [promotion.name.removeprefix("promotions/") for promotion in found.promotions]

    times = (5, 9, 10, 19, 20, 30, 9)
    assert [list_names(now_us) for now_us in times] == [
        ["all"],
        ["all"],
        ["all", "spring"],
        ["all", "spring"],
        ["all"],
        ["all"],
        ["all"],
    ]


def test_frozen_promotions_have_no_windows() -> None:
    separable = find_separable([Promotion("p", TENTH, window=Window(10, 20))])
    assert separable is not None
    assert [promotion.window for promotion in separable.frozen] == [ALWAYS]
