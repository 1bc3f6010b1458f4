"""Uses of promotions and coupons: their limits hold for any number of orders, and uses are given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.money import Money
from storekeep.server.domain.pricing.counts import claim_use, find_coupons, release_uses
from storekeep.server.domain.pricing.coupons import COUPONS, Coupon
from storekeep.server.domain.pricing.promotions import PROMOTIONS, Action, Promotion
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from tests.support.databases import Database
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.PricingService/Test")


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """A store of a database of the test's own."""
    with closing(open_store(database.url)) as opened:
        yield opened


def make_promotion(store: Store, **fields: Any) -> Promotion:
    new = Promotion("spring", currency_code="EUR", action=Action(percentage_ppm=100_000), **fields)
    return PROMOTIONS.create(store, CALL, new)


def make_coupon(store: Store, **fields: Any) -> None:
    COUPONS.create(store, CALL, Coupon("ten", "spring", "TEN", **fields))


def claim(
    store: Store, promotion: Promotion, order_id: str, *, code: str = "", customer_id: str = "ada", discount: int = 100
) -> bool:
    def work(tx: Transaction) -> bool:
        coupon = find_coupons(tx, [code], customer_id=customer_id)[code.lower()] if code else None
        return claim_use(
            tx, promotion.build_terms(), coupon, order_id=order_id, customer_id=customer_id, discount_minor=discount
        )

    return store.write(work)


def release(store: Store, order_id: str) -> None:
    store.write(lambda tx: release_uses(tx, order_id))


def test_discounts_are_counted_up_to_the_largest_integer_of_the_database(store: Store):
    promotion = make_promotion(store)
    make_coupon(store)
    assert [claim(store, promotion, f"o{n}", code="TEN", discount=2**62) for n in range(3)] == [True, False, False]
    assert claim(store, promotion, "o3", code="TEN", discount=2**62 - 1)
    release(store, "o0")
    assert claim(store, promotion, "o4", code="TEN", discount=1)


def test_uses_are_limited_and_given_back(store: Store):
    promotion = make_promotion(store, uses_max=2)
    assert [claim(store, promotion, f"o{number}") for number in range(3)] == [True, True, False]
    release(store, "o0")
    release(store, "o0")
    assert claim(store, promotion, "o3")
    assert not claim(store, promotion, "o4")
    found = PROMOTIONS.get(store, ("spring",))
    assert (found.uses, found.spent_minor) == (2, 200)


def test_budget_is_never_exceeded(store: Store):
    promotion = make_promotion(store, budget=Money("EUR", 1_000))
    assert claim(store, promotion, "o1", discount=600)
    assert not claim(store, promotion, "o2", discount=401)
    assert claim(store, promotion, "o3", discount=400)
    assert not claim(store, promotion, "o4", discount=1)
    assert PROMOTIONS.get(store, ("spring",)).spent_minor == 1_000


def test_coupon_is_limited_in_all_and_for_each_customer(store: Store):
    promotion = make_promotion(store)
    make_coupon(store, uses_max=2, customer_uses_max=1)
    assert claim(store, promotion, "o1", code="TEN")
    assert not claim(store, promotion, "o2", code="ten")
    assert claim(store, promotion, "o3", code="Ten", customer_id="bob")
    assert not claim(store, promotion, "o4", code="TEN", customer_id="eve")
    release(store, "o1")
    assert not claim(store, promotion, "o5", code="TEN", customer_id="bob")
    assert claim(store, promotion, "o6", code="TEN")
    assert COUPONS.get(store, ("ten",)).uses == 2
    (coupon,) = store.read(lambda tx: find_coupons(tx, ["TEN", "none"], customer_id="bob")).values()
    assert (coupon.uses, coupon.customer_uses) == (2, 1)


def test_use_without_a_limit_is_not_counted(store: Store):
    promotion = make_promotion(store)
    assert claim(store, promotion, "o1")
    assert PROMOTIONS.get(store, ("spring",)).uses == 0


def test_last_use_goes_to_one_of_many_at_once(store: Store, database: Database):
    promotion = make_promotion(store)
    make_coupon(store, uses_max=1)
    outcomes: list[bool] = []

    def buy(number: int, own: Store) -> None:
        outcomes.append(claim(own, promotion, f"o{number}", code="TEN", customer_id=f"c{number}"))

    with closing(open_store(database.url)) as other:
        buyers = [threading.Thread(target=buy, args=(number, (store, other)[number % 2])) for number in range(50)]
        for buyer in buyers:
            buyer.start()
        for buyer in buyers:
            buyer.join()
    assert sorted(outcomes) == [False] * 49 + [True]
    assert COUPONS.get(store, ("ten",)).uses == 1
