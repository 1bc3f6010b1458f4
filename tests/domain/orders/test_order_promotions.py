"""Orders with promotions, coupons, special prices and shipping methods, from the stored resources to the total."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from storekeep.v1 import orders_pb2, pricing_pb2
from tests.domain.orders.test_order_taxes import show
from tests.support.buyers import verify
from tests.support.order_cases import apply, units
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal, refused
from tests.support.shops import Shop, money, new_id

TENTH = {"kind": "PROMOTION_ACTION_KIND_PERCENTAGE", "percentage_ppm": 100_000, "target": "PROMOTION_TARGET_LINES"}
CALLERS = 50


def promote(shop: Shop, skus: list[str], *, active: bool = True, action: Any = None, **fields: Any) -> str:
    """Create a promotion on some SKUs, 10 % off unless another action is given; return its name."""
    chosen = pricing_pb2.PromotionAction(**{"items": {"skus": skus}} | (action or TENTH))
    made = shop.pricing.CreatePromotion(
        pricing_pb2.CreatePromotionRequest(
            promotion_id=new_id("p"), promotion=pricing_pb2.Promotion(action=chosen, **fields)
        )
    )
    if active:
        shop.pricing.ActivatePromotion(pricing_pb2.ActivatePromotionRequest(name=made.name))
    return str(made.name)


def make_coupon(shop: Shop, promotion: str, **fields: Any) -> str:
    """Create a coupon and return its code in capital letters."""
    code = new_id("C").upper()
    shop.pricing.CreateCoupon(
        pricing_pb2.CreateCouponRequest(coupon_id=code, coupon=pricing_pb2.Coupon(promotion=promotion, **fields))
    )
    return code


def quote(shop: Shop, *lines: tuple[str, int], **fields: Any) -> orders_pb2.QuoteOrderResponse:
    """Quote lines of (SKU, units)."""
    requested = [orders_pb2.PlaceOrderLine(sku=sku, quantity=quantity) for sku, quantity in lines]
    return shop.orders.QuoteOrder(orders_pb2.QuoteOrderRequest(lines=requested, currency_code="EUR", **fields))


def list_problems(reply: orders_pb2.QuoteOrderResponse) -> list[str]:
    """Return the problems of the refused codes."""
    return [
        orders_pb2.CouponProblem.Name(refused.problem).removeprefix("COUPON_PROBLEM_")
        for refused in reply.refused_codes
    ]


def order_or_reason(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> str:
    """Place an order; return its total or the problem of its code."""
    try:
        return show(shop.orders.PlaceOrder(request).total)
    except grpc.RpcError as error:
        refusal = parse_refusal(error)
        return refusal.metadata.get("problem", refusal.reason)


def test_promotion_takes_its_share_off_each_line(shop: Shop):
    first, second = (shop.variant(stock=9, prices={"EUR": price}).sku for price in ("10", "3.33"))
    action = {"kind": "PROMOTION_ACTION_KIND_AMOUNT", "amount": money("2"), "target": "PROMOTION_TARGET_ORDER"}
    name = promote(shop, [first, second], action=action, display_name="Two off", currency_code="EUR")
    order = shop.order((first, 1), (second, 1))
    assert [(share.promotion, show(share.amount)) for line in order.lines for share in line.discount_shares] == [
        (name, "1.50"),
        (name, "0.50"),
    ]
    (discount,) = order.price_details.discounts
    assert (discount.display_name, show(discount.amount), show(order.total)) == ("Two off", "2.00", "11.33")


def test_coupon_applies_in_either_case_and_every_other_code_has_a_reason(shop: Shop):
    sku = shop.variant(stock=9).sku
    code = make_coupon(shop, promote(shop, [sku], requires_coupon=True))
    elsewhere = make_coupon(shop, promote(shop, [shop.variant().sku], requires_coupon=True))
    draft = make_coupon(shop, promote(shop, [sku], requires_coupon=True, active=False))
    reply = quote(shop, (sku, 1), coupon_codes=[code.lower(), elsewhere, draft, "NOWHERE"])
    assert show(reply.total) == "9.00"
    assert [refused.code for refused in reply.refused_codes] == [elsewhere, draft, "NOWHERE"]
    assert list_problems(reply) == ["CONDITIONS_NOT_MET", "EXPIRED", "UNKNOWN"]
    assert show(shop.order((sku, 1), coupon_codes=[code]).total) == "9.00"


def test_last_use_of_a_coupon_is_of_one_of_many_callers(shop: Shop):
    sku = shop.variant(stock=200).sku
    code = make_coupon(shop, promote(shop, [sku], requires_coupon=True), max_uses=1)
    requests = [shop.order_request((sku, 1), coupon_codes=[code]) for _ in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as pool:
        results = sorted(pool.map(lambda request: order_or_reason(shop, request), requests))
    assert results == ["9.00"] + ["USED_UP"] * (CALLERS - 1)


def test_budget_is_never_exceeded_by_many_callers(shop: Shop):
    sku = shop.variant(stock=200).sku
    name = promote(shop, [sku], currency_code="EUR", budget=money("7.50"))
    requests = [shop.order_request((sku, 1)) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        results = sorted(pool.map(lambda request: order_or_reason(shop, request), requests))
    assert results == ["10.00"] * 12 + ["9.00"] * 7 + ["9.50"]
    promotion = shop.pricing.GetPromotion(pricing_pb2.GetPromotionRequest(name=name))
    assert (promotion.uses, show(promotion.spent)) == (8, "7.50")


def test_cancelled_order_gives_its_use_back_and_a_customer_has_uses_of_his_own(shop: Shop):
    sku, customer = shop.variant(stock=9).sku, shop.customer().name
    code = make_coupon(shop, promote(shop, [sku], requires_coupon=True), max_uses_per_customer=1)
    order = shop.order((sku, 1), coupon_codes=[code], customer=customer)
    assert list_problems(quote(shop, (sku, 1), coupon_codes=[code], customer=customer)) == ["USED_BY_CUSTOMER"]
    assert not list_problems(quote(shop, (sku, 1), coupon_codes=[code]))
    shop.cancel(order)
    assert show(shop.order((sku, 1), coupon_codes=[code], customer=customer).total) == "9.00"


def test_promotion_that_ends_between_quote_and_order_changes_the_price(shop: Shop):
    sku = shop.variant(stock=9).sku
    name = promote(shop, [sku])
    shown = quote(shop, (sku, 1)).total
    shop.pricing.EndPromotion(pricing_pb2.EndPromotionRequest(name=name))
    with refused("PRICE_CHANGED"):
        shop.order((sku, 1), expected_total=shown)
    assert show(shop.order((sku, 1)).total) == "10.00"


def test_edit_keeps_the_promotions_of_the_order(shop: Shop):
    sku, other = shop.variant(stock=9).sku, shop.variant(stock=9).sku
    name = promote(shop, [sku])
    order = shop.order((sku, 2))
    shop.pricing.EndPromotion(pricing_pb2.EndPromotionRequest(name=name))
    promote(shop, [other])
    edited = shop.orders.ApplyOrderEdit(apply(order, change={1: 3}, add={other: 1}))
    assert [show(line.total) for line in edited.lines] == ["27.00", "10.00"]
    lines = units((1, 1))
    cancelled = shop.orders.CancelOrderLines(orders_pb2.CancelOrderLinesRequest(name=order.name, lines=lines))
    assert (show(cancelled.total), show(cancelled.price_details.discounts[0].amount)) == ("28.00", "2.00")


def test_price_of_a_group_and_of_a_quantity(shop: Shop):
    sku, member = shop.variant(stock=99).sku, shop.customer(groups=["trade"]).name
    for amount, fields in (("8", {"customer_group": "trade"}), ("9", {"minimum_quantity": 5})):
        price = pricing_pb2.Price(sku=sku, amount=money(amount), **fields)
        shop.pricing.CreatePrice(pricing_pb2.CreatePriceRequest(price=price, price_id=new_id("price")))
    orders = [shop.order((sku, 4)), shop.order((sku, 2), (sku, 3)), shop.order((sku, 1), customer=member)]
    assert [show(order.lines[0].unit_price) for order in orders] == ["10.00", "9.00", "8.00"]
    assert [bool(order.lines[0].price) for order in orders] == [False, True, True]
    edited = shop.orders.ApplyOrderEdit(apply(orders[2], add={sku: 4}))
    assert [show(line.unit_price) for line in edited.lines] == ["8.00", "8.00"]


def test_sum_that_no_order_can_have_is_refused_whatever_is_taken_off(shop: Shop):
    sku = shop.variant(prices={"JPY": str(10**12)}).sku
    promote(shop, [sku], action=TENTH | {"percentage_ppm": 1_000_000})
    lines = [orders_pb2.PlaceOrderLine(sku=sku, quantity=10**6)] * 10
    with refused("INVALID_AMOUNT"):
        shop.orders.QuoteOrder(orders_pb2.QuoteOrderRequest(lines=lines, currency_code="JPY"))


def test_category_above_that_of_the_product_counts(shop: Shop):
    top = shop.category()
    below = shop.category(parent_category=top.name)
    sku = shop.variant(stock=9, parent=shop.product(category=below.name).name).sku
    promote(shop, [], action=TENTH | {"items": {"categories": [top.name]}})
    assert show(quote(shop, (sku, 1)).total) == "9.00"


def test_first_order_of_a_customer(shop: Shop):
    sku, customer = shop.variant(stock=9).sku, shop.customer().name
    promote(shop, [sku], conditions={"first_order": True})
    assert [show(shop.order((sku, 1), customer=customer).total) for _ in range(2)] == ["9.00", "10.00"]


def test_shipping_method_sets_the_price_and_a_promotion_can_take_it_off(shop: Shop):
    sku = shop.variant(stock=9).sku
    method = shop.pricing.CreateShippingMethod(
        pricing_pb2.CreateShippingMethodRequest(
            shipping_method_id=new_id("s"),
            shipping_method=pricing_pb2.ShippingMethod(
                display_name="Parcel",
                basis="SHIPPING_BASIS_FLAT",
                prices=[pricing_pb2.ShippingPrice(amount=money("4.90"))],
                free_from=money("30"),
            ),
        )
    ).name
    totals = [show(shop.order((sku, count), shipping_method=method).total) for count in (2, 3)]
    assert totals == ["24.90", "30.00"]
    free = {"kind": "PROMOTION_ACTION_KIND_PERCENTAGE", "percentage_ppm": 1_000_000, "items": None}
    code = make_coupon(
        shop,
        promote(shop, [], action=free | {"target": "PROMOTION_TARGET_SHIPPING"}, requires_coupon=True),
    )
    order = shop.order((sku, 1), shipping_method=method, coupon_codes=[code])
    assert (show(order.total), show(order.price_details.shipping.price)) == ("10.00", "4.90")
    with refused("INVALID_FIELD"):
        shop.order((sku, 1), shipping_method="shippingMethods/nowhere")


@pytest.fixture(scope="module", autouse=True)
def verified(server: ServerProcess):
    """Verify the database after all tests."""
    yield
    verify(server)
