"""PricingService: prices, taxes, promotions, coupons and shipping methods."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from storekeep.server.domain.catalog import price_history
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.mutations import mutate
from storekeep.server.domain.pricing import coupons, prices, promotions, shipping_methods, tax_rates, tax_zones
from storekeep.server.domain.pricing.coupons import COUPONS, Coupon, generate_code
from storekeep.server.domain.pricing.prices import PRICES, Price
from storekeep.server.domain.pricing.promotions import PROMOTIONS
from storekeep.server.domain.pricing.shipping_methods import SHIPPING_METHODS
from storekeep.server.domain.pricing.tax_rates import TAX_RATES
from storekeep.server.domain.pricing.tax_zones import TAX_ZONES
from storekeep.server.domain.pricing.terms import fold_code
from storekeep.server.domain.standard.batches import Effect
from storekeep.server.domain.standard.collections import Addition, Edit
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.servicers.batches import build_results, change_batch
from storekeep.server.servicers.calls import build_call, build_list_request, build_page_fields
from storekeep.server.servicers.converters import parse_id, parse_key, parse_time_us, parse_update_mask
from storekeep.server.servicers.pricing_messages import (
    COUPON_FIELDS,
    PRICE_FIELDS,
    SHIPPING_METHOD_FIELDS,
    TAX_RATE_FIELDS,
    TAX_ZONE_FIELDS,
    build_coupon,
    build_lowest_price,
    build_past_price,
    build_price,
    build_shipping_method,
    build_tax_rate,
    build_tax_zone,
    parse_coupon,
    parse_price,
    parse_shipping_method,
    parse_tax_rate,
    parse_tax_zone,
)
from storekeep.server.servicers.promotion_messages import PROMOTION_FIELDS, build_promotion, parse_promotion
from storekeep.server.store.engine import Store
from storekeep.v1 import pricing_pb2 as pb
from storekeep.v1 import pricing_pb2_grpc

AMOUNTS = ("amount", "compare_at", "floor")
"""The amounts of a price, which have one currency."""


def _require_amount(price: pb.Price) -> None:
    """Raise InvalidField unless a price has an amount. The contract cannot require it, as an update may omit it."""
    if not price.HasField("amount"):
        raise InvalidField("price.amount", "is required")


def parse_price_creation(request: pb.CreatePriceRequest) -> Effect[Price]:
    """Parse the creation of a price. Return the effect that creates it.

    Raises: InvalidField, UnknownCurrency, InvalidAmount, CurrencyMismatch.
    """
    _require_amount(request.price)
    price = parse_price(request.price, request.price_id or new_id())
    return Addition(PRICES, price)


def parse_price_update(request: pb.UpdatePriceRequest) -> Effect[Price]:
    """Parse the update of a price. Return the effect that updates it.

    Raises: InvalidUpdateMask, InvalidField, UnknownCurrency, InvalidAmount, CurrencyMismatch.
    """
    fields: Sequence[str] = parse_update_mask(request.update_mask, request.price, PRICE_FIELDS)
    price = parse_price(request.price, parse_id(request.price.name))
    if PRICE_FIELDS["amount"] in fields:
        _require_amount(request.price)
    if any(field.name in AMOUNTS and PRICE_FIELDS[field.name] in fields for field, _ in request.price.ListFields()):
        fields = [*fields, "currency_code"]
    return Edit(PRICES, price, fields, request.price.etag)


def parse_coupon_creation(request: pb.CreateCouponRequest) -> Effect[Coupon]:
    """Parse the creation of a coupon. Return the effect that creates it."""
    coupon = parse_coupon(request.coupon, request.coupon_id or generate_code())
    return Addition(COUPONS, coupon)


def parse_coupon_update(request: pb.UpdateCouponRequest) -> Effect[Coupon]:
    """Parse the update of a coupon. Return the effect that updates it.

    Raises: InvalidUpdateMask.
    """
    fields = parse_update_mask(request.update_mask, request.coupon, COUPON_FIELDS)
    coupon = parse_coupon(request.coupon, parse_id(request.coupon.name))
    return Edit(COUPONS, coupon, fields, request.coupon.etag)


class PricingServicer(pricing_pb2_grpc.PricingServiceServicer):
    """The RPCs of PricingService; the contract documents each one."""

    def __init__(self, store: Store, tokens: PageTokens) -> None:
        self._store = store
        self._tokens = tokens

    def GetPrice(self, request: pb.GetPriceRequest, context: grpc.ServicerContext) -> pb.Price:
        return build_price(PRICES.get(self._store, parse_key(request.name)))

    def ListPrices(self, request: pb.ListPricesRequest, context: grpc.ServicerContext) -> pb.ListPricesResponse:
        page = PRICES.page(self._store, build_list_request(request), listing=prices.LISTING, tokens=self._tokens)
        return pb.ListPricesResponse(prices=[build_price(item) for item in page.items], **build_page_fields(page))

    def CreatePrice(self, request: pb.CreatePriceRequest, context: grpc.ServicerContext) -> pb.Price:
        return build_price(mutate(self._store, build_call(request), parse_price_creation(request), Price))

    def UpdatePrice(self, request: pb.UpdatePriceRequest, context: grpc.ServicerContext) -> pb.Price:
        return build_price(mutate(self._store, build_call(request), parse_price_update(request), Price))

    def DeletePrice(self, request: pb.DeletePriceRequest, context: grpc.ServicerContext) -> pb.Price:
        result = PRICES.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_price(result)

    def UndeletePrice(self, request: pb.UndeletePriceRequest, context: grpc.ServicerContext) -> pb.Price:
        result = PRICES.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_price(result)

    def GetTaxZone(self, request: pb.GetTaxZoneRequest, context: grpc.ServicerContext) -> pb.TaxZone:
        return build_tax_zone(TAX_ZONES.get(self._store, parse_key(request.name)))

    def ListTaxZones(self, request: pb.ListTaxZonesRequest, context: grpc.ServicerContext) -> pb.ListTaxZonesResponse:
        page = TAX_ZONES.page(self._store, build_list_request(request), listing=tax_zones.LISTING, tokens=self._tokens)
        return pb.ListTaxZonesResponse(
            tax_zones=[build_tax_zone(item) for item in page.items], **build_page_fields(page)
        )

    def CreateTaxZone(self, request: pb.CreateTaxZoneRequest, context: grpc.ServicerContext) -> pb.TaxZone:
        new = parse_tax_zone(request.tax_zone, request.tax_zone_id or new_id())
        return build_tax_zone(TAX_ZONES.create(self._store, build_call(request), new))

    def UpdateTaxZone(self, request: pb.UpdateTaxZoneRequest, context: grpc.ServicerContext) -> pb.TaxZone:
        fields = parse_update_mask(request.update_mask, request.tax_zone, TAX_ZONE_FIELDS)
        new = parse_tax_zone(request.tax_zone, parse_id(request.tax_zone.name))
        etag = request.tax_zone.etag
        return build_tax_zone(TAX_ZONES.update(self._store, build_call(request), new, fields=fields, etag=etag))

    def DeleteTaxZone(self, request: pb.DeleteTaxZoneRequest, context: grpc.ServicerContext) -> pb.TaxZone:
        result = TAX_ZONES.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_tax_zone(result)

    def UndeleteTaxZone(self, request: pb.UndeleteTaxZoneRequest, context: grpc.ServicerContext) -> pb.TaxZone:
        result = TAX_ZONES.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_tax_zone(result)

    def GetTaxRate(self, request: pb.GetTaxRateRequest, context: grpc.ServicerContext) -> pb.TaxRate:
        return build_tax_rate(TAX_RATES.get(self._store, parse_key(request.name)))

    def ListTaxRates(self, request: pb.ListTaxRatesRequest, context: grpc.ServicerContext) -> pb.ListTaxRatesResponse:
        page = TAX_RATES.page(self._store, build_list_request(request), listing=tax_rates.LISTING, tokens=self._tokens)
        return pb.ListTaxRatesResponse(
            tax_rates=[build_tax_rate(item) for item in page.items], **build_page_fields(page)
        )

    def CreateTaxRate(self, request: pb.CreateTaxRateRequest, context: grpc.ServicerContext) -> pb.TaxRate:
        new = parse_tax_rate(request.tax_rate, request.tax_rate_id or new_id())
        return build_tax_rate(TAX_RATES.create(self._store, build_call(request), new))

    def UpdateTaxRate(self, request: pb.UpdateTaxRateRequest, context: grpc.ServicerContext) -> pb.TaxRate:
        fields = parse_update_mask(request.update_mask, request.tax_rate, TAX_RATE_FIELDS)
        new = parse_tax_rate(request.tax_rate, parse_id(request.tax_rate.name))
        etag = request.tax_rate.etag
        return build_tax_rate(TAX_RATES.update(self._store, build_call(request), new, fields=fields, etag=etag))

    def DeleteTaxRate(self, request: pb.DeleteTaxRateRequest, context: grpc.ServicerContext) -> pb.TaxRate:
        result = TAX_RATES.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_tax_rate(result)

    def UndeleteTaxRate(self, request: pb.UndeleteTaxRateRequest, context: grpc.ServicerContext) -> pb.TaxRate:
        result = TAX_RATES.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_tax_rate(result)

    def GetPromotion(self, request: pb.GetPromotionRequest, context: grpc.ServicerContext) -> pb.Promotion:
        return build_promotion(PROMOTIONS.get(self._store, parse_key(request.name)))

    def ListPromotions(
        self, request: pb.ListPromotionsRequest, context: grpc.ServicerContext
    ) -> pb.ListPromotionsResponse:
        page = PROMOTIONS.page(
            self._store, build_list_request(request), listing=promotions.LISTING, tokens=self._tokens
        )
        return pb.ListPromotionsResponse(
            promotions=[build_promotion(item) for item in page.items], **build_page_fields(page)
        )

    def CreatePromotion(self, request: pb.CreatePromotionRequest, context: grpc.ServicerContext) -> pb.Promotion:
        new = parse_promotion(request.promotion, request.promotion_id or new_id())
        return build_promotion(PROMOTIONS.create(self._store, build_call(request), new))

    def UpdatePromotion(self, request: pb.UpdatePromotionRequest, context: grpc.ServicerContext) -> pb.Promotion:
        fields = parse_update_mask(request.update_mask, request.promotion, PROMOTION_FIELDS)
        new = parse_promotion(request.promotion, parse_id(request.promotion.name))
        etag = request.promotion.etag
        return build_promotion(PROMOTIONS.update(self._store, build_call(request), new, fields=fields, etag=etag))

    def DeletePromotion(self, request: pb.DeletePromotionRequest, context: grpc.ServicerContext) -> pb.Promotion:
        result = PROMOTIONS.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_promotion(result)

    def UndeletePromotion(self, request: pb.UndeletePromotionRequest, context: grpc.ServicerContext) -> pb.Promotion:
        result = PROMOTIONS.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_promotion(result)

    def GetCoupon(self, request: pb.GetCouponRequest, context: grpc.ServicerContext) -> pb.Coupon:
        return build_coupon(COUPONS.get(self._store, (fold_code(parse_id(request.name)),)))

    def ListCoupons(self, request: pb.ListCouponsRequest, context: grpc.ServicerContext) -> pb.ListCouponsResponse:
        page = COUPONS.page(self._store, build_list_request(request), listing=coupons.LISTING, tokens=self._tokens)
        return pb.ListCouponsResponse(coupons=[build_coupon(item) for item in page.items], **build_page_fields(page))

    def CreateCoupon(self, request: pb.CreateCouponRequest, context: grpc.ServicerContext) -> pb.Coupon:
        return build_coupon(mutate(self._store, build_call(request), parse_coupon_creation(request), Coupon))

    def UpdateCoupon(self, request: pb.UpdateCouponRequest, context: grpc.ServicerContext) -> pb.Coupon:
        return build_coupon(mutate(self._store, build_call(request), parse_coupon_update(request), Coupon))

    def DeleteCoupon(self, request: pb.DeleteCouponRequest, context: grpc.ServicerContext) -> pb.Coupon:
        result = COUPONS.delete(
            self._store, build_call(request), (fold_code(parse_id(request.name)),), etag=request.etag
        )
        return build_coupon(result)

    def UndeleteCoupon(self, request: pb.UndeleteCouponRequest, context: grpc.ServicerContext) -> pb.Coupon:
        result = COUPONS.undelete(
            self._store, build_call(request), (fold_code(parse_id(request.name)),), etag=request.etag
        )
        return build_coupon(result)

    def GetShippingMethod(
        self, request: pb.GetShippingMethodRequest, context: grpc.ServicerContext
    ) -> pb.ShippingMethod:
        return build_shipping_method(SHIPPING_METHODS.get(self._store, parse_key(request.name)))

    def ListShippingMethods(
        self, request: pb.ListShippingMethodsRequest, context: grpc.ServicerContext
    ) -> pb.ListShippingMethodsResponse:
        page = SHIPPING_METHODS.page(
            self._store, build_list_request(request), listing=shipping_methods.LISTING, tokens=self._tokens
        )
        return pb.ListShippingMethodsResponse(
            shipping_methods=[build_shipping_method(item) for item in page.items], **build_page_fields(page)
        )

    def CreateShippingMethod(
        self, request: pb.CreateShippingMethodRequest, context: grpc.ServicerContext
    ) -> pb.ShippingMethod:
        new = parse_shipping_method(request.shipping_method, request.shipping_method_id or new_id())
        return build_shipping_method(SHIPPING_METHODS.create(self._store, build_call(request), new))

    def UpdateShippingMethod(
        self, request: pb.UpdateShippingMethodRequest, context: grpc.ServicerContext
    ) -> pb.ShippingMethod:
        fields = parse_update_mask(request.update_mask, request.shipping_method, SHIPPING_METHOD_FIELDS)
        new = parse_shipping_method(request.shipping_method, parse_id(request.shipping_method.name))
        etag = request.shipping_method.etag
        return build_shipping_method(
            SHIPPING_METHODS.update(self._store, build_call(request), new, fields=fields, etag=etag)
        )

    def DeleteShippingMethod(
        self, request: pb.DeleteShippingMethodRequest, context: grpc.ServicerContext
    ) -> pb.ShippingMethod:
        result = SHIPPING_METHODS.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_shipping_method(result)

    def UndeleteShippingMethod(
        self, request: pb.UndeleteShippingMethodRequest, context: grpc.ServicerContext
    ) -> pb.ShippingMethod:
        result = SHIPPING_METHODS.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_shipping_method(result)

    def ActivatePromotion(self, request: pb.ActivatePromotionRequest, context: grpc.ServicerContext) -> pb.Promotion:
        promotion_id = parse_id(request.name)
        result = promotions.activate_promotion(self._store, build_call(request), promotion_id, etag=request.etag)
        return build_promotion(result)

    def EndPromotion(self, request: pb.EndPromotionRequest, context: grpc.ServicerContext) -> pb.Promotion:
        promotion_id = parse_id(request.name)
        return build_promotion(
            promotions.end_promotion(self._store, build_call(request), promotion_id, etag=request.etag)
        )

    def GenerateCoupons(
        self, request: pb.GenerateCouponsRequest, context: grpc.ServicerContext
    ) -> pb.GenerateCouponsResponse:
        pattern = parse_coupon(request, "")
        made = coupons.generate_coupons(
            self._store, build_call(request), pattern, count=request.count, prefix=request.prefix
        )
        return pb.GenerateCouponsResponse(coupons=[build_coupon(coupon) for coupon in made])

    def BatchCreateCoupons(
        self, request: pb.BatchCreateCouponsRequest, context: grpc.ServicerContext
    ) -> pb.BatchCreateCouponsResponse:
        results = change_batch(
            self._store,
            request,
            parse_coupon_creation,
            get_keys=lambda item: [("coupon_id", fold_code(item.coupon_id))],
            resource=Coupon,
        )
        messages = build_results(results, pb.CouponResult, field="coupon", build=build_coupon)
        return pb.BatchCreateCouponsResponse(results=messages)

    def BatchUpdateCoupons(
        self, request: pb.BatchUpdateCouponsRequest, context: grpc.ServicerContext
    ) -> pb.BatchUpdateCouponsResponse:
        results = change_batch(
            self._store,
            request,
            parse_coupon_update,
            get_keys=lambda item: [("coupon.name", fold_code(item.coupon.name))],
            resource=Coupon,
        )
        messages = build_results(results, pb.CouponResult, field="coupon", build=build_coupon)
        return pb.BatchUpdateCouponsResponse(results=messages)

    def BatchCreatePrices(
        self, request: pb.BatchCreatePricesRequest, context: grpc.ServicerContext
    ) -> pb.BatchCreatePricesResponse:
        results = change_batch(
            self._store,
            request,
            parse_price_creation,
            get_keys=lambda item: [("price_id", item.price_id)],
            resource=Price,
        )
        messages = build_results(results, pb.PriceResult, field="price", build=build_price)
        return pb.BatchCreatePricesResponse(results=messages)

    def BatchUpdatePrices(
        self, request: pb.BatchUpdatePricesRequest, context: grpc.ServicerContext
    ) -> pb.BatchUpdatePricesResponse:
        results = change_batch(
            self._store,
            request,
            parse_price_update,
            get_keys=lambda item: [("price.name", item.price.name)],
            resource=Price,
        )
        messages = build_results(results, pb.PriceResult, field="price", build=build_price)
        return pb.BatchUpdatePricesResponse(results=messages)

    def ListPriceHistory(
        self, request: pb.ListPriceHistoryRequest, context: grpc.ServicerContext
    ) -> pb.ListPriceHistoryResponse:
        listing = price_history.make_listing(request.sku, request.currency_code)
        listed = build_list_request(request, parent=f"{request.sku}/{request.currency_code}")
        page = self._store.snapshot(lambda tx: listing.page(tx, listed, tokens=self._tokens))
        past = [build_past_price(price) for price in page.items]
        return pb.ListPriceHistoryResponse(past_prices=past, **build_page_fields(page))

    def GetLowestPrice(self, request: pb.GetLowestPriceRequest, context: grpc.ServicerContext) -> pb.LowestPrice:
        lowest = price_history.find_lowest_price(
            self._store,
            request.sku,
            request.currency_code,
            customer_group=request.customer_group,
            days=request.days,
            time_us=parse_time_us(request.time) if request.HasField("time") else None,
        )
        return build_lowest_price(lowest)
