"""What a basket may keep of promotions is bounded, whatever is configured."""

from __future__ import annotations

import msgspec
import pytest

from storekeep.server.domain.orders.pricing import freeze_terms
from storekeep.server.domain.pricing.baskets import EXCLUDED, Basket, BasketLine, PricedBasket
from storekeep.server.domain.pricing.calculation import PROMOTIONS_MAX, SHARES_MAX, price_basket
from storekeep.server.domain.pricing.terms import (
    DEFAULT_RULES,
    PERCENTAGE,
    SHIPPING,
    Action,
    CouponCode,
    Customer,
    Item,
    Promotion,
    Terms,
    UnitPrice,
)

SMALL = Action(PERCENTAGE, 1_000)


def price(lines: int, promotions: list[Promotion], *, codes: tuple[str, ...] = ()) -> tuple[PricedBasket, int]:
    """Return what a basket costs, and the bytes that its order keeps."""
    skus = [f"SKU-{number}" for number in range(lines)]
    basket = Basket(
        tuple(BasketLine(sku, 10) for sku in skus), "EUR", 1, Customer(), codes=codes, shipping_minor=1_000_000
    )
    terms = Terms(
        rules=DEFAULT_RULES,
        promotions=tuple(promotions),
        items={sku: Item(sku) for sku in skus},
        prices={sku: (UnitPrice(sku, "EUR", 100_000),) for sku in skus},
        coupons={code: CouponCode(code, name=f"coupons/{code}", promotion=f"promotions/{code}") for code in codes},
    )
    priced = price_basket(basket, terms)
    return priced, len(msgspec.json.encode(freeze_terms(basket, terms, priced, tax_address=None)))


def make_promotions(number: int, action: Action = SMALL) -> list[Promotion]:
    """Return promotions that apply to everything."""
    return [Promotion(f"promotions/{index:063}", action) for index in range(number)]


@pytest.mark.parametrize(("lines", "applied"), [(1, PROMOTIONS_MAX), (500, 20), (1000, 10), (SHARES_MAX + 1, 0)])
def test_promotions_of_highest_priority_apply_and_further_ones_do_not(lines: int, applied: int) -> None:
    priced, _ = price(lines, make_promotions(PROMOTIONS_MAX + 50))
    assert [one.promotion for one in priced.promotions] == [one.name for one in make_promotions(applied)]


@pytest.mark.parametrize("lines", [1, 500, 1000])
def test_order_keeps_no_more_than_clients_accept(lines: int) -> None:
    _, size = price(lines, make_promotions(2_000))
    assert size < 2_000_000  # an audit entry has the order before and after its change


def test_promotions_on_shipping_have_a_limit_of_their_own() -> None:
    on_shipping = [
        Promotion(f"promotions/s{index}", Action(PERCENTAGE, 1_000, target=SHIPPING)) for index in range(150)
    ]
    priced, _ = price(1, [*make_promotions(150), *on_shipping])
    assert len(priced.promotions) == 2 * PROMOTIONS_MAX


def test_code_that_is_one_too_many_is_excluded() -> None:
    late = Promotion("promotions/late", SMALL, requires_coupon=True)
    priced, _ = price(1, [*make_promotions(PROMOTIONS_MAX), late], codes=("late",))
    assert [(refused.code, refused.problem) for refused in priced.refused_codes] == [("late", EXCLUDED)]
