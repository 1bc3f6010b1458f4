"""Compare PlaceOrder with a tax zone, and with promotions and a coupon, with PlaceOrder without; time QuoteOrder.

The processor time of an order is compared beside its rate, because it depends less on what else the machine does.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from google.protobuf.message import Message

from benchmarks import calls, catalogue, stocking, subjects
from benchmarks.calling import build_figures, list_warnings, verify_orders
from benchmarks.loads import orders
from benchmarks.results import Bar, Section
from benchmarks.rounds import Pace, Send, Spread, measure
from benchmarks.subjects import Storekeep
from storekeep.v1 import orders_pb2, pricing_pb2, pricing_pb2_grpc

NONE, TAX, PROMOTIONS = "no pricing", "a tax zone", "20 promotions and a coupon"
UNMET = "promotions that do not apply"
TAX_RATIO_MIN, PROMOTIONS_RATIO_MIN = 0.9, 0.6
QUOTED_LINES, QUOTED_PROMOTIONS, QUOTES = 500, 50, 10
QUOTE_MS_MAX = 50.0
COUPON = "BENCH"
ZONE = "taxZones/home"
SETTINGS = {"STOREKEEP_QUEUE_WAIT_MAX_S": "30"}
"""A contender that takes 0.1 s for all orders in flight would reject some of them as overload."""
TAX_SETTINGS = {**SETTINGS, "STOREKEEP_HOME_TAX_ZONE": ZONE}
"""Orders of the load have no address, so that they are in the home zone."""
SMALL_LINES, SMALL_QUOTES = 3, 1_000
UNMET_CPU_RATIO_MAX = 1.15
"""What the processor time of equal calls differs by."""


def measure_pricing(folder: Path, pace: Pace, *, unmet: int) -> Section:
    """Measure PlaceOrder with and without taxes and promotions, and the CPU time of QuoteOrder.

    Args:
        unmet: the promotions that do not apply.
    """
    with ExitStack() as stack:
        shops = {
            name: stack.enter_context(subjects.run_storekeep(folder / str(number), name=name, settings=settings))
            for number, (name, settings) in enumerate(
                {NONE: SETTINGS, TAX: TAX_SETTINGS, PROMOTIONS: SETTINGS, UNMET: SETTINGS}.items()
            )
        }
        for shop in shops.values():
            stocking.stock_catalogue(shop)
        _create_tax(shops[TAX])
        _create_promotions(shops[PROMOTIONS], 20)
        sends = {
            name: _build_orders(shops[name], COUPON if name == PROMOTIONS else "") for name in (NONE, TAX, PROMOTIONS)
        }
        turns = measure(sends, pace)
        _create_promotions(shops[TAX], QUOTED_PROMOTIONS)
        quote_ms = Spread.from_numbers([_time_quotes(shops[TAX]) for _ in range(pace.rounds)])
        _create_unmet(shops[NONE], 1)
        _create_unmet(shops[UNMET], unmet)
        unmet_ratio = Spread.from_numbers(
            [_time_small_quotes(shops[UNMET]) / _time_small_quotes(shops[NONE]) for _ in range(pace.rounds)]
        )
    bars = [
        bar
        for name, least in ((TAX, TAX_RATIO_MIN), (PROMOTIONS, PROMOTIONS_RATIO_MIN))
        for bar in (
            Bar(f"PlaceOrder with {name} / {NONE}", turns[name].compute_ratio(turns[NONE]), least),
            Bar(
                f"the same, orders with {name} for each second of CPU",
                turns[NONE].compute_cpu_ratio(turns[name]),
                least,
            ),
        )
    ]
    bars += [
        Bar(
            f"ms of CPU of QuoteOrder, {QUOTED_LINES} lines, {QUOTED_PROMOTIONS} promotions",
            quote_ms,
            QUOTE_MS_MAX,
            at_most=True,
        ),
        Bar(f"CPU of QuoteOrder with {unmet:,} {UNMET} / with one", unmet_ratio, UNMET_CPU_RATIO_MAX, at_most=True),
    ]
    return Section("Pricing", build_figures(turns.values()), bars, list_warnings(turns.values()))


def _call(shop: Storekeep, rpc: str, message: Message) -> bytes:
    return calls.call_unary(shop, f"/storekeep.v1.PricingService/{rpc}", message)


def _create_tax(shop: Storekeep) -> None:
    zone = pricing_pb2.TaxZone(areas=[pricing_pb2.TaxArea(region_code="DE")])
    _call(shop, "CreateTaxZone", pricing_pb2.CreateTaxZoneRequest(tax_zone=zone, tax_zone_id="home"))
    vat = pricing_pb2.TaxComponent(display_name="VAT", rate_ppm=190_000)
    rate = pricing_pb2.TaxRate(tax_zone=ZONE, components=[vat])
    _call(shop, "CreateTaxRate", pricing_pb2.CreateTaxRateRequest(tax_rate=rate))


def _create_promotions(shop: Storekeep, count: int) -> None:
    """Create active promotions of 1 % on all lines, the first of them with a coupon."""
    action = pricing_pb2.PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=10_000)
    for number in range(count):
        promotion = pricing_pb2.Promotion(action=action, requires_coupon=number == 0)
        promotion_id = f"promotion-{number:02}"
        create = pricing_pb2.CreatePromotionRequest(promotion=promotion, promotion_id=promotion_id)
        _call(shop, "CreatePromotion", create)
        name = f"promotions/{promotion_id}"
        _call(shop, "ActivatePromotion", pricing_pb2.ActivatePromotionRequest(name=name))
        if number == 0:
            coupon = pricing_pb2.Coupon(promotion=name)
            _call(shop, "CreateCoupon", pricing_pb2.CreateCouponRequest(coupon=coupon, coupon_id=COUPON))


def _build_orders(shop: Storekeep, coupon: str) -> Send:
    client = (orders.GRPC, "--coupon", coupon) if coupon else orders.GRPC
    return verify_orders(
        shop.database, lambda seconds: orders.send(client, shop.server, token=shop.get_token(), seconds=seconds)
    )


def _create_unmet(shop: Storekeep, count: int) -> None:
    """Create active promotions, each for a SKU that nobody orders or for a customer group without members.

    Raises: grpc.RpcError.
    """
    skus = catalogue.list_skus()[SMALL_LINES:]
    action = pricing_pb2.PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=10_000)
    creations, activations = [], []
    for number in range(count):
        promotion = pricing_pb2.Promotion(action=action)
        if number % 2:
            promotion.action.items.skus.append(skus[number % len(skus)])
        else:
            promotion.conditions.customer_groups.append(f"group-{number}")
        promotion_id = f"unmet-{number:05}"
        creations.append(pricing_pb2.CreatePromotionRequest(promotion=promotion, promotion_id=promotion_id))
        activations.append(pricing_pb2.ActivatePromotionRequest(name=f"promotions/{promotion_id}"))
    pricing = pricing_pb2_grpc.PricingServiceStub(shop.channel)
    stocking.call_all(pricing.CreatePromotion, iter(creations), metadata=shop.build_metadata())
    stocking.call_all(pricing.ActivatePromotion, iter(activations), metadata=shop.build_metadata())


def _time_small_quotes(shop: Storekeep) -> float:
    """Return the seconds of CPU that small quotes cost the server."""
    request = _build_quote(catalogue.list_skus()[:SMALL_LINES])
    return _time_calls(shop, request, count=SMALL_QUOTES)


def _time_quotes(shop: Storekeep) -> float:
    """Return the milliseconds of CPU that a large quote costs the server."""
    request = _build_quote(catalogue.list_skus()[:QUOTED_LINES], COUPON)
    return _time_calls(shop, request, count=QUOTES) * 1000 / QUOTES


def _build_quote(skus: list[str], *codes: str) -> orders_pb2.QuoteOrderRequest:
    return orders_pb2.QuoteOrderRequest(
        lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=1) for sku in skus],
        currency_code=catalogue.CURRENCY,
        coupon_codes=codes,
    )


def _time_calls(shop: Storekeep, request: orders_pb2.QuoteOrderRequest, *, count: int) -> float:
    """Return the seconds of CPU that QuoteOrder costs the server, after a call that loads what it needs."""
    method = "/storekeep.v1.OrderService/QuoteOrder"
    calls.call_unary(shop, method, request)
    before_s = shop.server.read_cpu_s()
    for _ in range(count):
        calls.call_unary(shop, method, request)
    return shop.server.read_cpu_s() - before_s
