"""Batches of prices and coupons, and the history of prices, through the contract."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.client import (
    AlreadyExists,
    Coupon,
    CouponNotFound,
    CreateCouponRequest,
    CreatePriceRequest,
    CurrencyMismatch,
    InvalidField,
    InvalidRequest,
    Price,
    PriceNotFound,
    PromotionNotFound,
    SkuNotFound,
    Storekeep,
    UpdateCouponRequest,
    UpdatePriceRequest,
)
from storekeep.client.methods import new_request
from tests.support.pricing import TEN_PERCENT, build_price
from tests.support.shops import money, new_id


def call(client: Storekeep, rpc: str, **fields: Any) -> Any:
    method = client.methods.find(rpc)
    request = new_request(method)
    request.MergeFrom(type(request)(**fields))
    return client.methods.call(method, request)


def test_batch_creates_and_updates_all_prices_or_none(client: Storekeep):
    price = build_price(client)
    items = [CreatePriceRequest(price=price, price_id=new_id("r")) for _ in range(3)]
    made = call(client, "BatchCreatePrices", requests=items).results
    assert [result.price.name for result in made] == [f"prices/{item.price_id}" for item in items]
    wrong = Price(sku="NOWHERE", amount=money("1"), customer_group="gold")
    with pytest.raises(SkuNotFound):
        client.prices.batch_create([CreatePriceRequest(price=price, price_id="x"), CreatePriceRequest(price=wrong)])
    with pytest.raises(PriceNotFound):
        client.prices.get("prices/x")
    changes = [Price(name=result.price.name, amount=money("9")) for result in made]
    changed = call(client, "BatchUpdatePrices", requests=[UpdatePriceRequest(price=change) for change in changes])
    assert {result.price.amount.units for result in changed.results} == {9}


def test_batch_by_itself_tells_what_failed(client: Storekeep):
    price = build_price(client)
    wrong = Price(sku=price.sku, amount=money("1"))
    results = client.prices.batch_create(
        [CreatePriceRequest(price=price), CreatePriceRequest(price=wrong)], per_item=True
    )
    assert [type(failure) for failure in results.failures.values()] == [InvalidField]


def test_price_needs_a_sku_and_an_amount(client: Storekeep):
    made = client.prices.create(build_price(client))
    for wrong in (Price(sku=made.sku, customer_group="gold"), Price(amount=money("1"), customer_group="gold")):
        with pytest.raises(InvalidField, match="required"):
            client.prices.create(wrong)
    with pytest.raises(InvalidField, match="required"):
        client.prices.update(Price(name=made.name), update_mask=["amount"])
    changes = [UpdatePriceRequest(price=Price(name=made.name, minimum_quantity=3))]
    (changed,) = client.prices.batch_update(changes).resources
    assert (changed.minimum_quantity, changed.amount) == (3, made.amount)


def test_update_in_another_currency_is_refused(client: Storekeep):
    made = client.prices.create(build_price(client))
    for field in ("amount", "floor", "compare_at"):
        with pytest.raises(CurrencyMismatch):
            client.prices.update(Price(name=made.name, **{field: money("15", "USD")}))


def test_history_and_the_lowest_price_of_a_sku(client: Storekeep):
    made = client.prices.create(build_price(client))
    client.prices.update(Price(name=made.name, amount=money("12")))
    page = call(client, "ListPriceHistory", sku=made.sku, page_size=2)
    latest = page.past_prices[0]
    assert (latest.price, latest.amount.units, latest.HasField("end_time")) == (made.name, 12, False)
    assert page.next_page_token
    assert [past.amount.units for past in client.prices.list_history(made.sku)] == [12, 15, 20]
    for group, units in (("", 20), ("wholesale", 12)):
        lowest = call(client, "GetLowestPrice", sku=made.sku, currency_code="EUR", customer_group=group)
        assert lowest.amount.units == units
    with pytest.raises(PriceNotFound):
        client.prices.get_lowest("NOWHERE", "EUR")


def test_batch_of_coupons_creates_and_updates_all_or_each(client: Storekeep):
    promotion, prefix = client.promotions.create(TEN_PERCENT).name, new_id("B")
    codes = [f"{prefix}-{number}" for number in range(3)]
    items = [CreateCouponRequest(coupon=Coupon(promotion=promotion, max_uses=1), coupon_id=code) for code in codes]
    made = client.coupons.batch_create(items).resources
    assert [(coupon.name, coupon.code) for coupon in made] == [(f"coupons/{code.lower()}", code) for code in codes]
    lost = CreateCouponRequest(coupon=Coupon(promotion="promotions/nowhere"), coupon_id=f"{prefix}-4")
    fresh = CreateCouponRequest(coupon=Coupon(promotion=promotion), coupon_id=f"{prefix}-5")
    with pytest.raises(PromotionNotFound):
        client.coupons.batch_create([fresh, lost])
    results = client.coupons.batch_create([fresh, lost, items[0]], per_item=True)
    assert {place: type(error) for place, error in results.failures.items()} == {1: PromotionNotFound, 2: AlreadyExists}
    changes = [UpdateCouponRequest(coupon=Coupon(name=coupon.name, max_uses=7)) for coupon in made]
    assert {coupon.max_uses for coupon in client.coupons.batch_update(changes).resources} == {7}
    missing = UpdateCouponRequest(coupon=Coupon(name="coupons/nowhere", max_uses=1))
    with pytest.raises(CouponNotFound):
        client.coupons.batch_update([changes[0], missing])
    assert list(client.coupons.batch_update([missing, changes[0]], per_item=True).failures) == [0]


def test_batch_with_one_code_in_two_spellings_is_refused(client: Storekeep):
    promotion, code = client.promotions.create(TEN_PERCENT).name, new_id("B")
    items = [CreateCouponRequest(coupon=Coupon(promotion=promotion), coupon_id=one) for one in (code, code.lower())]
    with pytest.raises(InvalidRequest):
        client.coupons.batch_create(items)
