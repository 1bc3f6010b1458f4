"""Limits of coupons and promotions hold for orders of one commit, which read the counts once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.errors import CouponNotApplicable
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders.baskets import Pricing
from storekeep.server.domain.orders.cancellations import cancel_order
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.pricing.counts import read_counts
from storekeep.server.domain.pricing.coupons import COUPONS, Coupon
from storekeep.server.domain.pricing.prices import PRICES, Price
from storekeep.server.domain.pricing.promotions import PROMOTIONS, Action, Promotion, activate_promotion
from storekeep.server.domain.stock import levels
from storekeep.server.store.engine import Store
from tests.support.orders_together import order, place_together
from tests.support.placing import CALL

ORDERS = 12
SKU = "STRAINER"


def promote(store: Store, **fields: Any) -> None:
    """Create an active promotion of 10 % with the coupon TEN."""
    new = Promotion("spring", action=Action(percentage_ppm=100_000), requires_coupon=True, **fields)
    PROMOTIONS.create(store, CALL, new)
    activate_promotion(store, CALL, "spring", etag="")


def make_coupon(store: Store, **limits: int) -> None:
    COUPONS.create(store, CALL, Coupon("ten", "spring", "TEN", **limits))


def use(customer_id: str = "ada-marsh") -> Callable[[Store], Order]:
    """Return a call that orders one unit with the coupon."""
    return order((SKU, 1), customer_id=customer_id, pricing=Pricing(codes=("Ten",)))


def sum_up(outcomes: list[Any]) -> list[str]:
    """Return whether each order got the discount, or the problem of its coupon."""
    return [
        one.problem if isinstance(one, CouponNotApplicable) else "discount" if one.pricing.applied else "none"
        for one in outcomes
    ]


def count(store: Store, name: str) -> int:
    return store.read(lambda tx: read_counts(tx, [name])[name].uses)


def stock_up(store: Store) -> None:
    levels.adjust_stock(store, CALL, ("main", SKU), quantity_delta=1_000)


def test_last_uses_of_a_coupon_go_to_the_first_orders_of_a_commit(stocked: Store) -> None:
    stock_up(stocked)
    promote(stocked)
    make_coupon(stocked, uses_max=5)
    assert sum_up(place_together(stocked, [use()] * ORDERS)) == ["discount"] * 5 + ["USED_UP"] * (ORDERS - 5)
    assert (count(stocked, "coupons/ten"), count(stocked, "promotions/spring")) == (5, 5)


def test_each_customer_has_its_own_uses_in_a_commit(stocked: Store) -> None:
    stock_up(stocked)
    promote(stocked)
    make_coupon(stocked, customer_uses_max=2)
    CUSTOMERS.create(stocked, CALL, Customer("ernst", "Ernst"))
    customers = ["ada-marsh", "ernst", "ada-marsh", "ada-marsh", "ernst", "ernst"]
    outcomes = sum_up(place_together(stocked, [use(one) for one in customers]))
    assert outcomes == ["discount", "discount", "discount", "USED_BY_CUSTOMER", "discount", "USED_BY_CUSTOMER"]


def test_budget_is_never_exceeded_in_a_commit(stocked: Store) -> None:
    stock_up(stocked)
    promote(stocked, currency_code="EUR", budget=Money("EUR", 250))
    make_coupon(stocked)
    outcomes = place_together(stocked, [use()] * ORDERS)
    spent = sum(one.pricing.applied[0].discount_minor for one in outcomes if isinstance(one, Order))
    assert spent == 250
    assert "USED_UP" in sum_up(outcomes)


def test_changed_coupon_and_returned_use_count_for_the_next_order_of_a_commit(stocked: Store) -> None:
    stock_up(stocked)
    promote(stocked)
    make_coupon(stocked, uses_max=1)
    (first,) = place_together(stocked, [use()])
    outcomes = place_together(
        stocked,
        [
            use(),
            lambda stocked: cancel_order(stocked, CALL, first.id, reason=""),
            use(),
            use(),
            lambda stocked: COUPONS.update(stocked, CALL, Coupon("ten", uses_max=2), fields=["uses_max"], etag=""),
            use(),
            lambda stocked: COUPONS.delete(stocked, CALL, ("ten",), etag=""),
            use(),
        ],
    )
    uses = [outcomes[place] for place in (0, 2, 3, 5, 7)]
    assert sum_up(uses) == ["USED_UP", "discount", "USED_UP", "discount", "UNKNOWN"]


def test_changed_price_holds_for_the_next_order_of_a_commit(stocked: Store) -> None:
    stock_up(stocked)
    new = Price("low", SKU, "EUR", 100, start_time_us=1)
    change = replace(new, amount_minor=90)
    outcomes = place_together(
        stocked,
        [
            order((SKU, 1)),
            lambda stocked: PRICES.create(stocked, CALL, new),
            order((SKU, 1)),
            order((SKU, 2)),
            lambda stocked: PRICES.update(stocked, CALL, change, fields=["amount_minor"], etag=""),
            order((SKU, 2)),
        ],
    )
    assert [outcomes[place].total_minor for place in (2, 3, 5)] == [100, 200, 180]
