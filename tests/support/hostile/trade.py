"""Each mutation of pricing, quotes and webhooks once, as a request that succeeds."""

from __future__ import annotations

from typing import Any

from storekeep.v1 import batches_pb2, quotes_pb2, webhooks_pb2
from storekeep.v1 import pricing_pb2 as pb
from tests.support.hostile.standard import Standard
from tests.support.order_cases import Prepare
from tests.support.shops import Shop, money, new_id


def _build_zone(_shop: Shop) -> pb.TaxZone:
    return pb.TaxZone(areas=[pb.TaxArea(region_code="DE", postal_code_prefix=new_id("a"))])


def _build_rate(shop: Shop) -> pb.TaxRate:
    vat = pb.TaxComponent(display_name="VAT", rate_ppm=190_000)
    return pb.TaxRate(tax_zone=ZONE.make_name(shop), components=[vat])


def _build_price(shop: Shop) -> pb.Price:
    return pb.Price(sku=shop.variant().sku, amount=money("5"), customer_group="wholesale", minimum_quantity=1)


def _build_promotion(_shop: Shop) -> pb.Promotion:
    """Return a promotion that no order of another test gets."""
    action = pb.PromotionAction(kind=pb.PROMOTION_ACTION_KIND_PERCENTAGE, percentage_ppm=100_000)
    return pb.Promotion(action=action, requires_coupon=True)


def _build_coupon(shop: Shop) -> pb.Coupon:
    return pb.Coupon(promotion=PROMOTION.make_name(shop), max_uses=1)


def _build_method(_shop: Shop) -> pb.ShippingMethod:
    price = pb.ShippingPrice(amount=money("4.90"))
    return pb.ShippingMethod(prices=[price], basis=pb.SHIPPING_BASIS_BY_WEIGHT)


def _build_quote(shop: Shop) -> quotes_pb2.Quote:
    order = shop.order_request()
    return quotes_pb2.Quote(customer=order.customer, lines=order.lines, currency_code="EUR")


def _build_endpoint(_shop: Shop) -> webhooks_pb2.WebhookEndpoint:
    """Return an endpoint that no other call sends an event to."""
    return webhooks_pb2.WebhookEndpoint(url="https://hooks.example/", event_types=["location.undeleted"])


ZONE = Standard(pb, "TaxZone", "tax_zone", _build_zone, display_name="Changed")
RATE = Standard(pb, "TaxRate", "tax_rate", _build_rate, display_name="Changed")
PRICE = Standard(pb, "Price", "price", _build_price, minimum_quantity=2)
PROMOTION = Standard(pb, "Promotion", "promotion", _build_promotion, display_name="Changed")
COUPON = Standard(pb, "Coupon", "coupon", _build_coupon, max_uses=2)
METHOD = Standard(pb, "ShippingMethod", "shipping_method", _build_method, display_name="Changed")
QUOTE = Standard(quotes_pb2, "Quote", "quote", _build_quote, note="Changed")
ENDPOINT = Standard(webhooks_pb2, "WebhookEndpoint", "webhook_endpoint", _build_endpoint, display_name="Changed")


def _batch(rpc: str, prepare: Prepare) -> Prepare:
    return lambda shop: PRICE.request(rpc, requests=[prepare(shop)], mode=batches_pb2.BATCH_MODE_ALL_OR_NOTHING)


def _redeliver(shop: Shop) -> Any:
    span = {"start_time": {"seconds": 1_700_000_000}, "end_time": {"seconds": 1_700_000_001}}
    return webhooks_pb2.RedeliverEventsRequest(name=ENDPOINT.make_name(shop), **span)


TRADE: dict[str, Prepare] = {
    **{rpc: call for kind in (ZONE, RATE, PRICE, PROMOTION, COUPON, METHOD) for rpc, call in kind.all().items()},
    "ActivatePromotion": PROMOTION.named("Activate"),
    "EndPromotion": PROMOTION.named("End", "Activate"),
    "GenerateCoupons": lambda shop: pb.GenerateCouponsRequest(promotion=PROMOTION.make_name(shop), count=2),
    "BatchCreatePrices": _batch("BatchCreatePrices", PRICE.create_request),
    "BatchUpdatePrices": _batch("BatchUpdatePrices", PRICE.update_request),
    "BatchCreateCoupons": _batch("BatchCreateCoupons", COUPON.create_request),
    "BatchUpdateCoupons": _batch("BatchUpdateCoupons", COUPON.update_request),
    "CreateQuote": QUOTE.create_request,
    "UpdateQuote": QUOTE.update_request,
    "SendQuote": QUOTE.named("Send"),
    "AcceptQuote": QUOTE.named("Accept", "Send"),
    "ExpireQuote": QUOTE.named("Expire", "Send"),
    **ENDPOINT.all(),
    "PauseWebhookEndpoint": ENDPOINT.named("Pause"),
    "ResumeWebhookEndpoint": ENDPOINT.named("Resume", "Pause"),
    "RotateWebhookSecret": lambda shop: webhooks_pb2.RotateWebhookSecretRequest(name=ENDPOINT.make_name(shop)),
    "TestWebhookEndpoint": ENDPOINT.named("Test"),
    "RedeliverEvents": _redeliver,
}
"""RPC -> function that creates the required resources and returns a request that succeeds."""
