"""Promotions: what they refuse, their states, and which of them a basket is compared with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from storekeep.client import (
    AlreadyExists,
    Coupon,
    CurrencyMismatch,
    IllegalState,
    InvalidField,
    Price,
    Promotion,
    PromotionAction,
    PromotionNotFound,
    ShippingMethod,
    ShippingPrice,
    SkuNotFound,
    Storekeep,
    TaxZoneNotFound,
    UnknownCurrency,
)
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.catalog.categories import CATEGORIES, Category
from storekeep.server.domain.pricing import promotions, terms
from storekeep.server.domain.pricing.promotion_index import index_promotions
from storekeep.server.domain.pricing.promotions import PROMOTIONS, Action, ItemSelection, activate_promotion
from storekeep.server.domain.pricing.snapshot import read_snapshot
from storekeep.server.store.engine import Store
from tests.support.databases import Database
from tests.support.pricing import SELECTION, TEN_PERCENT, WINDOW
from tests.support.shops import money, new_id
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.PricingService/Test")
PERCENTAGE, AMOUNT = "PROMOTION_ACTION_KIND_PERCENTAGE", "PROMOTION_ACTION_KIND_AMOUNT"
FIXED, GROUPS = "PROMOTION_ACTION_KIND_FIXED_UNIT_PRICE", "PROMOTION_ACTION_KIND_BUY_X_GET_Y"
EUR_5 = money("5")


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """A store of a database of the test's own."""
    with closing(open_store(database.url)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ({}, "kind"),
        ({"kind": PERCENTAGE}, "percentage_ppm"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1_000_001}, "percentage_ppm"),
        ({"kind": PERCENTAGE, "percentage_ppm": -1}, "percentage_ppm"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1, "amount": EUR_5}, "percentage_ppm"),
        ({"kind": AMOUNT}, "amount"),
        ({"kind": AMOUNT, "amount": EUR_5, "percentage_ppm": 1}, "amount"),
        ({"kind": FIXED, "amount": EUR_5, "target": "PROMOTION_TARGET_ORDER"}, "target"),
        ({"kind": GROUPS, "percentage_ppm": 1, "buy_units": 2}, "buy_units"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1, "buy_units": 2, "get_units": 1}, "buy_units"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1, "bought": SELECTION}, "bought"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1, "tiers": [{"percentage_ppm": 2, "min_units": 3}] * 2}, "tiers[1]"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1, "tiers": [{"amount": EUR_5, "min_units": 3}]}, "tiers[0]"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1, "items": {"skus": [f"S{n}" for n in range(501)]}}, "skus"),
        ({"kind": PERCENTAGE, "percentage_ppm": 1, "max_units": 10**18}, "max_units"),
    ],
    ids=str,
)
def test_action_that_contradicts_itself_is_refused(client: Storekeep, action: dict[str, Any], field: str):
    with pytest.raises(InvalidField) as refused:
        client.promotions.create(Promotion(currency_code="EUR", action=PromotionAction(**action)))
    assert field in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"budget": EUR_5}, CurrencyMismatch),
        ({"budget": EUR_5, "currency_code": "USD"}, CurrencyMismatch),
        ({"conditions": {"min_amount": EUR_5}, "currency_code": "USD"}, CurrencyMismatch),
        ({"currency_code": "ABC"}, UnknownCurrency),
        ({"start_time": WINDOW["end_time"], "end_time": WINDOW["start_time"]}, InvalidField),
        ({"priority": 1_000_001}, InvalidField),
        ({"max_uses": -1}, InvalidField),
    ],
    ids=str,
)
def test_promotion_with_other_currencies_or_bounds_is_refused(
    client: Storekeep, fields: dict[str, Any], error: type[Exception]
):
    with pytest.raises(error):
        client.promotions.create(Promotion(action=TEN_PERCENT.action, **fields))


def test_promotion_goes_from_draft_to_active_to_ended_and_not_back(client: Storekeep):
    name = client.promotions.create(TEN_PERCENT).name
    client.promotions.activate(name)
    with pytest.raises(IllegalState):
        client.promotions.activate(name)
    client.promotions.update(Promotion(name=name, priority=2), update_mask=["priority"])
    client.promotions.end(name)
    for call in (client.promotions.activate, client.promotions.end):
        with pytest.raises(IllegalState):
            call(name)
    with pytest.raises(IllegalState):
        client.promotions.update(Promotion(name=name, priority=3), update_mask=["priority"])
    events = [event.type for event in client.events.list(filter=f'resource = "{name}"')]
    assert events == [f"promotion.{verb}" for verb in ("created", "activated", "updated", "ended")]


def test_code_is_the_same_in_either_case(client: Storekeep):
    coupon = Coupon(promotion=client.promotions.create(TEN_PERCENT).name)
    code = new_id("Summer")
    made = client.coupons.create(coupon, coupon_id=code)
    assert (made.name, made.code) == (f"coupons/{code.lower()}", code)
    assert client.coupons.get(f"coupons/{code.upper()}") == made
    with pytest.raises(AlreadyExists):
        client.coupons.create(coupon, coupon_id=code.upper())
    assert client.coupons.delete(f"coupons/{code.upper()}").HasField("delete_time")


def test_generated_codes_differ_and_no_call_makes_more_than_a_thousand(client: Storekeep):
    promotion = client.promotions.create(TEN_PERCENT).name
    coupons = client.coupons.generate(promotion, 1_000, prefix="SP", max_uses=1)
    assert len({coupon.name for coupon in coupons}) == 1_000
    for count in (0, 1_001, 1_000_000):
        with pytest.raises(InvalidField):
            client.coupons.generate(promotion, count)
    with pytest.raises(InvalidField):
        client.coupons.generate(promotion, 1, prefix="a b")
    with pytest.raises(PromotionNotFound):
        client.coupons.generate("promotions/nowhere", 1)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"customer_group": "", "minimum_quantity": 1}, InvalidField),
        ({"compare_at": money("4.99")}, InvalidField),
        ({"floor": money("5.01")}, InvalidField),
        ({"floor": money("1", "USD")}, CurrencyMismatch),
        ({"sku": "NOWHERE"}, SkuNotFound),
        ({"minimum_quantity": 10**10}, InvalidField),
        (WINDOW | {"end_time": WINDOW["start_time"]}, InvalidField),
    ],
    ids=str,
)
def test_price_that_contradicts_itself_is_refused(client: Storekeep, fields: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        client.prices.create(Price(**{"sku": "X", "amount": EUR_5, "customer_group": "gold"} | fields))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"prices": []}, InvalidField),
        ({"prices": [{"amount": EUR_5}, {"amount": money("1", "USD")}]}, CurrencyMismatch),
        ({"prices": [{"amount": EUR_5}] * 2}, InvalidField),
        ({"prices": [{"amount": EUR_5, "min_weight_g": 5}]}, InvalidField),
        ({"prices": [{"amount": EUR_5, "min_weight_g": 5}], "basis": "SHIPPING_BASIS_BY_WEIGHT"}, InvalidField),
        ({"free_from": money("1", "USD")}, CurrencyMismatch),
        ({"tax_zones": ["taxZones/nowhere"]}, TaxZoneNotFound),
    ],
    ids=str,
)
def test_shipping_that_contradicts_itself_is_refused(client: Storekeep, fields: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        client.shipping_methods.create(ShippingMethod(**{"prices": [ShippingPrice(amount=EUR_5)]} | fields))


# -- the index


def make_terms(name: str, **fields: Any) -> terms.Promotion:
    action = terms.Action(terms.PERCENTAGE, 1, items=fields.pop("items", terms.EVERYTHING))
    return terms.Promotion(f"promotions/{name}", action, **fields)


def select(*found: terms.Promotion, **fields: Any) -> list[str]:
    item = terms.Item("A", "p", frozenset({"teas"}), {"sale": "yes"})
    facts: dict[str, Any] = {"groups": (), "coupon_promotions": (), "currency_code": "EUR", "now_us": 5}
    selected = index_promotions(found).select([item], **facts | fields)
    return [one.name.removeprefix("promotions/") for one in selected.promotions]


def test_basket_gets_the_promotions_that_may_apply_by_priority_and_name():
    one = frozenset({"A"})
    found = [
        make_terms("b"),
        make_terms("a"),
        make_terms("first", priority=9),
        make_terms("sku", items=terms.Selection(skus=one)),
        make_terms("product", items=terms.Selection(product_ids=frozenset({"p"}))),
        make_terms("category", items=terms.Selection(category_ids=frozenset({"teas"}))),
        make_terms("label", items=terms.Selection(labels=frozenset({("sale", "yes")}))),
        make_terms("not-b", items=terms.Selection(skus=frozenset({"B"}), inverted=True)),
    ]
    assert select(*found) == ["first", "a", "b", "category", "label", "not-b", "product", "sku"]


def test_basket_does_not_get_what_cannot_apply():
    others = [
        make_terms("sku", items=terms.Selection(skus=frozenset({"B"}))),
        make_terms("label", items=terms.Selection(labels=frozenset({("sale", "no")}))),
        make_terms("group", conditions=terms.Conditions(groups=frozenset({"gold"}))),
        make_terms("coupon", requires_coupon=True),
        make_terms("dollars", currency_code="USD"),
        make_terms("ended", window=terms.Window(None, 5)),
        make_terms("later", window=terms.Window(6, None)),
    ]
    assert select(*others) == []
    assert select(*others, groups=["gold"]) == ["group"]
    assert select(*others, coupon_promotions=["promotions/coupon"]) == ["coupon"]


def test_basket_gets_the_promotion_of_its_coupon_to_tell_why_it_does_not_apply():
    others = [
        make_terms("dollars", currency_code="USD"),
        make_terms("sku", items=terms.Selection(skus=frozenset({"B"}))),
        make_terms("ended", window=terms.Window(None, 5)),
    ]
    assert select(*others, coupon_promotions=[one.name for one in others]) == ["dollars", "sku"]
    facts: dict[str, Any] = {"groups": (), "currency_code": "EUR", "now_us": 5}
    applicable = index_promotions(others).select([], coupon_promotions=["promotions/dollars"], **facts)
    assert applicable.separable is None


def test_ten_thousand_promotions_of_other_items_cost_a_basket_nothing():
    others = [make_terms(f"p{n}", items=terms.Selection(skus=frozenset({f"S{n}"}))) for n in range(10_000)]
    item = terms.Item("A")
    facts: dict[str, Any] = {"groups": (), "coupon_promotions": (), "currency_code": "EUR", "now_us": 5}
    few, many = index_promotions([make_terms("a")]), index_promotions([*others, make_terms("a")])

    def measure(index: Any) -> float:
        best = float("inf")
        for _ in range(20):
            start_s = time.process_time()
            for _ in range(200):
                index.select([item], **facts)
            best = min(best, time.process_time() - start_s)
        return best

    assert many.select([item], **facts).promotions == few.select([item], **facts).promotions
    assert measure(many) < 3 * measure(few)


def test_only_active_promotions_are_in_the_snapshot_with_all_categories_below(store: Store):
    for category_id, parent_id in (("drinks", ""), ("teas", "drinks"), ("green", "teas")):
        CATEGORIES.create(store, CALL, Category(category_id, category_id, parent_id=parent_id))
    action = Action(percentage_ppm=1, items=ItemSelection(category_ids=("drinks",)))
    for promotion_id in ("draft", "active"):
        PROMOTIONS.create(store, CALL, promotions.Promotion(promotion_id, action=action))
    activate_promotion(store, CALL, "active", etag="")

    def find(category_id: str) -> list[str]:
        index = store.read(read_snapshot).promotions
        item = terms.Item("A", category_ids=frozenset({category_id}))
        found = index.select([item], groups=(), coupon_promotions=(), currency_code="EUR", now_us=1)
        return [one.name for one in found.promotions]

    assert find("green") == find("drinks") == ["promotions/active"]
    assert find("white") == []
    CATEGORIES.create(store, CALL, Category("white", "White", parent_id="teas"))
    assert find("white") == ["promotions/active"]
