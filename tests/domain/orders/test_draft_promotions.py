"""Quotes with a promotion that is only tried: it applies as if it was active, and nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.v1 import orders_pb2, pricing_pb2
from tests.domain.orders.test_order_promotions import TENTH, make_coupon, promote, quote
from tests.domain.orders.test_order_taxes import show
from tests.support.refusals import refused
from tests.support.shops import Shop, money

pytestmark = pytest.mark.engine("sqlite", reason="the calculation does not depend on the engine")


def make_draft(sku: str, *, name: str = "", action: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Build a promotion on a SKU, 10 % off unless another action is given."""
    chosen = pricing_pb2.PromotionAction(**{"items": {"skus": [sku]}} | (action or TENTH))
    return pricing_pb2.Promotion(name=name, action=chosen, **fields)


def test_draft_reduces_the_quote_and_stores_nothing(shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    draft = make_draft(sku, display_name="Ten off", requires_coupon=True, max_uses=1)
    draft.start_time.seconds = 4_000_000_000  # it has not begun
    reply = quote(shop, (sku, 2), draft_promotion=draft)
    assert show(reply.total) == "18.00"
    assert [one.display_name for one in reply.price_details.discounts] == ["Ten off"]
    assert show(quote(shop, (sku, 2)).total) == "20.00"


def test_draft_replaces_the_active_promotion_of_its_name(shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    name = promote(shop, [sku])
    half = {"kind": "PROMOTION_ACTION_KIND_PERCENTAGE", "percentage_ppm": 500_000}
    assert show(quote(shop, (sku, 1), draft_promotion=make_draft(sku, name=name, action=half)).total) == "5.00"
    assert show(quote(shop, (sku, 1), draft_promotion=make_draft(sku)).total) == "8.10"  # beside it


def test_draft_that_needs_a_coupon_leaves_the_coupons_of_others_alone(shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    code = make_coupon(shop, promote(shop, [sku], requires_coupon=True))
    reply = quote(shop, (sku, 1), coupon_codes=[code], draft_promotion=make_draft(sku, requires_coupon=True))
    assert show(reply.total) == "8.10"
    assert not reply.refused_codes


def test_draft_for_a_group_counts_the_customer(shop: Shop):
    sku, customer = shop.variant(stock=9, prices={"EUR": "10"}).sku, shop.customer(groups=["wholesale"]).name
    draft = make_draft(sku, conditions=pricing_pb2.PromotionConditions(customer_groups=["wholesale"]))
    assert show(quote(shop, (sku, 1), draft_promotion=draft, customer=customer).total) == "9.00"
    assert show(quote(shop, (sku, 1), draft_promotion=draft).total) == "10.00"


def test_draft_in_another_currency_does_not_apply(shop: Shop):
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    assert show(quote(shop, (sku, 1), draft_promotion=make_draft(sku, currency_code="USD")).total) == "10.00"


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        (
            {"action": {"kind": "PROMOTION_ACTION_KIND_PERCENTAGE"}},
            "INVALID_FIELD",
            "draft_promotion.action",
        ),
        ({"currency_code": "XXQ"}, "UNKNOWN_CURRENCY", "draft_promotion.currency_code"),
        (
            {"action": {"kind": "PROMOTION_ACTION_KIND_AMOUNT", "amount": money("1", "USD")}, "currency_code": "EUR"},
            "CURRENCY_MISMATCH",
            "draft_promotion.action.amount",
        ),
    ],
)
def test_draft_whose_values_contradict_is_refused(shop: Shop, fields: dict[str, Any], reason: str, field: str):
    sku = shop.variant(stock=9, prices={"EUR": "10"}).sku
    request = orders_pb2.QuoteOrderRequest(
        lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=1)],
        currency_code="EUR",
        draft_promotion=make_draft(sku, **fields),
    )
    with refused(reason) as refusal:
        shop.orders.QuoteOrder(request)
    assert any(field in one for one in (*refusal.violations, *refusal.metadata.values(), refusal.text))
