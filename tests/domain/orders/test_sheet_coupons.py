"""Orders with coupons cost by a price sheet what the calculation says, and keep the terms that it keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.errors import DomainError
from storekeep.server.domain.orders import placing
from storekeep.server.domain.orders.baskets import Pricing, read_basket
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.orders.order_reads import OrderReads
from storekeep.server.domain.orders.price_sheets import SheetPrice, price_by_sheet
from storekeep.server.domain.orders.pricing import OrderPricing, freeze_terms
from storekeep.server.domain.pricing.calculation import price_basket
from storekeep.server.domain.pricing.coupons import COUPONS, Coupon
from storekeep.server.domain.pricing.promotions import (
    PROMOTIONS,
    Action,
    ItemSelection,
    Promotion,
    activate_promotion,
    end_promotion,
)
from storekeep.server.domain.pricing.terms import Rules
from storekeep.server.domain.stock import levels
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database
from tests.support.order_inputs import PRICES, SECOND, START_US, prepare
from tests.support.orders_together import order
from tests.support.placing import CALL
from tests.support.stores import open_store

pytestmark = pytest.mark.engine("sqlite", reason="prices are computed in Python, from rows that other tests compare")
SEEDS = range(4)
ORDERS = 120
STEP_MAX_US = 1_000_000
"""The orders of a test take about a minute, in which promotions and coupons start and end."""
PROMOTIONS_MADE, COUPONS_EACH = 5, 2
SKUS = sorted(PRICES)
PERCENTAGES_PPM = (10_000, 50_000, 333_333)
BUYERS = ("ada-marsh", "gold", "both")


class Clock:
    """A clock that the test moves."""

    now_us = START_US

    def __call__(self) -> int:
        return self.now_us


class Comparison:
    """Prices orders by a sheet and by the calculation.

    Attributes:
        counts: orders by sheet, with and without coupons, and other orders.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def price(self, tx: Transaction, new: NewOrder, reads: OrderReads, rules: Rules) -> SheetPrice | None:
        """Price an order by a sheet, and check that it has the same terms and amounts by the calculation."""
        by_sheet = price_by_sheet(tx, new, reads, rules)
        if by_sheet is None:
            self.counts["no sheet"] += 1
            return None
        basket, applying = read_basket(
            tx,
            new.lines,
            reads.offers,
            new.pricing,
            customer_id=new.customer_id,
            currency_code=new.currency_code,
            shipping_minor=None,
            address=None,
            rules=rules,
            version=reads.version,
            facts=reads.facts,
            prices=reads.prices,
        )
        priced = price_basket(basket, applying)
        assert priced.refused_codes == ()
        assert sort_rates(by_sheet.pricing) == sort_rates(freeze_terms(basket, applying, priced, tax_address=None))
        self.counts["coupons" if new.pricing.codes else "sheet"] += 1
        return by_sheet


def sort_rates(pricing: OrderPricing) -> tuple[Any, ...]:
    """Return all that an order keeps; the order of its rates has no meaning."""
    return replace(pricing, rates=()), sorted(rate.name for rate in pricing.rates)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Iterator[Store]:
    """A shop with stock and customers of several groups."""
    prepare(database)
    opened = open_store(database.url, clock=clock)
    set_expirers(opened, EXPIRERS)
    for sku in SKUS:
        levels.adjust_stock(opened, CALL, ("main", sku), quantity_delta=1_000_000)
    CUSTOMERS.create(opened, CALL, Customer("gold", "Vera", groups=("gold",)))
    CUSTOMERS.create(opened, CALL, Customer("both", "Ines", groups=("gold", "silver")))
    yield opened
    opened.close()


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Compares the price of each order that is placed."""
    comparison = Comparison()
    monkeypatch.setattr(placing, "price_by_sheet", comparison.price)
    return comparison


def create_promotions(store: Store, rng: Random) -> list[str]:
    """Create percentages with and without a need of a coupon, and coupons of each. Return their codes."""
    codes = []
    for number in range(PROMOTIONS_MADE):
        skus = tuple(rng.sample(SKUS, rng.randint(1, 2))) if rng.random() < 0.3 else ()
        promotion = Promotion(
            f"p{number}",
            priority=rng.randrange(3),
            requires_coupon=rng.random() < 0.5,
            action=Action(percentage_ppm=rng.choice(PERCENTAGES_PPM), items=ItemSelection(skus=skus)),
            start_time_us=START_US + rng.randrange(30) * SECOND if rng.random() < 0.3 else None,
            end_time_us=START_US + rng.randrange(35, 60) * SECOND if rng.random() < 0.3 else None,
        )
        PROMOTIONS.create(store, CALL, promotion)
        activate_promotion(store, CALL, promotion.id, etag="")
        for index in range(COUPONS_EACH):
            coupon = Coupon(
                f"c{number}{index}",
                promotion_id=promotion.id,
                code=f"C{number}{index}",
                uses_max=rng.choice([0, 0, 5]),
                customer_uses_max=rng.choice([0, 0, 3]),
                end_time_us=START_US + rng.randrange(20, 60) * SECOND if rng.random() < 0.3 else None,
            )
            COUPONS.create(store, CALL, coupon)
            codes.append(coupon.code)
    return codes


@pytest.mark.parametrize("seed", SEEDS)
def test_random_orders_with_coupons_cost_what_the_calculation_says(
    store: Store, clock: Clock, comparison: Comparison, seed: int
) -> None:
    rng = Random(seed)
    codes = create_promotions(store, rng)
    for number in range(ORDERS):
        if number == ORDERS // 2:
            end_promotion(store, CALL, "p0", etag="")
        clock.now_us += rng.randrange(STEP_MAX_US)
        lines = [(sku, rng.randint(1, 3)) for sku in rng.sample(SKUS, rng.randint(1, 3))]
        chosen = rng.sample(codes, rng.choice([0, 0, 1, 1, 1, 2]))
        pricing = Pricing(codes=tuple(rng.choice([code, code.lower()]) for code in chosen))
        with suppress(DomainError):  # a coupon that has ended, or is used up
            order(*lines, customer_id=rng.choice(BUYERS), pricing=pricing)(store)
    assert comparison.counts["coupons"] >= 5, comparison.counts
    assert comparison.counts["sheet"] >= 5, comparison.counts
