"""Conversion of the resources of pricing between messages and domain values."""

from __future__ import annotations

from google.protobuf.message import Message

from storekeep.server.domain.catalog.price_history import LowestPrice, PastPrice
from storekeep.server.domain.money import Money
from storekeep.server.domain.pricing.amounts import check_currency
from storekeep.server.domain.pricing.coupons import Coupon
from storekeep.server.domain.pricing.prices import Price
from storekeep.server.domain.pricing.shipping_methods import ShippingMethod, ShippingPrice
from storekeep.server.domain.pricing.tax_rates import TaxRate
from storekeep.server.domain.pricing.tax_zones import TaxZone
from storekeep.server.domain.pricing.terms import TaxArea, TaxComponent, fold_code
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.servicers.converters import (
    Fields,
    build_money,
    build_optional_timestamp,
    build_timestamp,
    format_name,
    make_money_builder,
    parse_id,
    parse_money_message,
    parse_time_us,
)
from storekeep.v1 import pricing_pb2 as pb

SHIPPING_BASES = ("FLAT", "FLAT", "BY_WEIGHT", "BY_SUBTOTAL")
"""The bases of shipping prices by the number of the contract's enum, whose default is FLAT."""
WINDOW_FIELDS = {"start_time": "start_time_us", "end_time": "end_time_us"}
TAX_ZONE_FIELDS = {"display_name": "display_name", "areas": "areas"}
TAX_RATE_FIELDS = {
    "display_name": "display_name",
    "tax_class": "tax_class",
    "components": "components",
    **WINDOW_FIELDS,
}

PRICE_FIELDS = {
    "amount": "amount_minor",
    "customer_group": "customer_group",
    "minimum_quantity": "minimum_quantity",
    "compare_at": "compare_at_minor",
    "floor": "floor_minor",
    **WINDOW_FIELDS,
}
COUPON_FIELDS = {"max_uses": "uses_max", "max_uses_per_customer": "customer_uses_max", **WINDOW_FIELDS}
SHIPPING_METHOD_FIELDS = {
    "display_name": "display_name",
    "tax_zones": "zone_ids",
    "basis": "basis",
    "prices": "prices",
    "free_from": "free_from",
    "tax_class": "tax_class",
}


def build_times(resource: Fields) -> Fields:
    """Build the fields that all resources share."""
    return {
        "name": resource.name,
        "create_time": build_timestamp(resource.create_time_us),
        "update_time": build_timestamp(resource.update_time_us),
        "delete_time": build_optional_timestamp(resource.delete_time_us),
        "etag": make_etag(resource.version),
    }


def build_optional_money(amount: Money | None) -> Fields | None:
    """Build the message of an amount; None for None."""
    return None if amount is None else build_money(amount)


def parse_optional_money(message: Message, field: str, *, parent: str) -> Money | None:
    """Parse an amount; None if the message has none.

    Args:
        parent: the path of the message in the request, for errors.

    Raises: UnknownCurrency, InvalidAmount.
    """
    return parse_money_message(getattr(message, field), field=f"{parent}.{field}") if message.HasField(field) else None


def build_window(resource: Fields) -> Fields:
    """Build the fields of the window of a resource."""
    return {
        "start_time": build_optional_timestamp(resource.start_time_us),
        "end_time": build_optional_timestamp(resource.end_time_us),
    }


def parse_window(message: Fields) -> Fields:
    """Parse the window of a resource."""
    return {"start_time_us": _parse_time(message, "start_time"), "end_time_us": _parse_time(message, "end_time")}


def _parse_time(message: Message, field: str) -> int | None:
    return parse_time_us(getattr(message, field)) if message.HasField(field) else None


def build_tax_zone(zone: TaxZone) -> pb.TaxZone:
    """Build the message of a tax zone."""
    areas = [
        pb.TaxArea(
            region_code=area.region_code,
            administrative_area=area.administrative_area,
            postal_code_prefix=area.postal_prefix,
        )
        for area in zone.areas
    ]
    return pb.TaxZone(display_name=zone.display_name, areas=areas, **build_times(zone))


def parse_tax_zone(message: pb.TaxZone, zone_id: str) -> TaxZone:
    """Parse a tax zone from a request."""
    areas = (TaxArea(area.region_code, area.administrative_area, area.postal_code_prefix) for area in message.areas)
    return TaxZone(zone_id, display_name=message.display_name, areas=tuple(areas))


def build_tax_rate(rate: TaxRate) -> pb.TaxRate:
    """Build the message of a tax rate."""
    components = [
        pb.TaxComponent(display_name=part.display_name, rate_ppm=part.rate_ppm, compound=part.compound)
        for part in rate.components
    ]
    return pb.TaxRate(
        display_name=rate.display_name,
        tax_zone=f"taxZones/{rate.zone_id}",
        tax_class=rate.tax_class,
        components=components,
        **build_window(rate),
        **build_times(rate),
    )


def parse_tax_rate(message: pb.TaxRate, rate_id: str) -> TaxRate:
    """Parse a tax rate from a request."""
    return TaxRate(
        rate_id,
        display_name=message.display_name,
        zone_id=parse_id(message.tax_zone),
        tax_class=message.tax_class,
        components=tuple(TaxComponent(c.display_name, c.rate_ppm, c.compound) for c in message.components),
        **parse_window(message),
    )


def build_price(price: Price) -> pb.Price:
    """Build the message of a price."""
    money = make_money_builder(price.currency_code)
    return pb.Price(
        sku=price.sku,
        amount=money(price.amount_minor),
        customer_group=price.customer_group,
        minimum_quantity=price.minimum_quantity,
        compare_at=None if price.compare_at_minor is None else money(price.compare_at_minor),
        floor=None if price.floor_minor is None else money(price.floor_minor),
        **build_window(price),
        **build_times(price),
    )


def parse_price(message: pb.Price, price_id: str) -> Price:
    """Parse a price from a request. An update may have none of the amounts.

    Raises: UnknownCurrency, InvalidAmount, CurrencyMismatch.
    """
    amount, compare_at, floor = (
        parse_optional_money(message, field, parent="price") for field in ("amount", "compare_at", "floor")
    )
    main = amount or compare_at or floor or Money("", 0)
    check_currency((("price.compare_at", compare_at), ("price.floor", floor)), currency_code=main.currency_code)
    return Price(
        price_id,
        sku=message.sku,
        currency_code=main.currency_code,
        amount_minor=0 if amount is None else amount.amount_minor,
        customer_group=message.customer_group,
        minimum_quantity=message.minimum_quantity or 1,
        compare_at_minor=None if compare_at is None else compare_at.amount_minor,
        floor_minor=None if floor is None else floor.amount_minor,
        **parse_window(message),
    )


def build_past_price(price: PastPrice) -> pb.PastPrice:
    """Build the message of a price of the past."""
    return pb.PastPrice(
        price=format_name("prices", price.price_id),
        sku=price.sku,
        amount=make_money_builder(price.currency_code)(price.amount_minor),
        customer_group=price.customer_group,
        minimum_quantity=price.minimum_quantity,
        **build_window(price),
    )


def build_lowest_price(lowest: LowestPrice) -> pb.LowestPrice:
    """Build the message of the lowest price of a span of time."""
    return pb.LowestPrice(amount=build_money(lowest.amount), **build_window(lowest))


def build_coupon(coupon: Coupon) -> pb.Coupon:
    """Build the message of a coupon."""
    return pb.Coupon(
        promotion=f"promotions/{coupon.promotion_id}",
        code=coupon.code,
        max_uses=coupon.uses_max,
        max_uses_per_customer=coupon.customer_uses_max,
        uses=coupon.uses,
        **build_window(coupon),
        **build_times(coupon),
    )


def parse_coupon(message: pb.Coupon | pb.GenerateCouponsRequest, code: str) -> Coupon:
    """Parse a coupon from a request."""
    return Coupon(
        fold_code(code),
        promotion_id=parse_id(message.promotion),
        code=code,
        uses_max=message.max_uses,
        customer_uses_max=message.max_uses_per_customer,
        **parse_window(message),
    )


def build_shipping_method(method: ShippingMethod) -> pb.ShippingMethod:
    """Build the message of a shipping method."""
    prices = [
        pb.ShippingPrice(
            amount=build_money(price.amount),
            min_weight_g=price.weight_min_g,
            min_subtotal=build_optional_money(price.subtotal_min),
        )
        for price in method.prices
    ]
    return pb.ShippingMethod(
        display_name=method.display_name,
        tax_zones=[f"taxZones/{zone_id}" for zone_id in method.zone_ids],
        basis=pb.ShippingBasis.Value(f"SHIPPING_BASIS_{method.basis}"),
        prices=prices,
        free_from=build_optional_money(method.free_from),
        tax_class=method.tax_class,
        **build_times(method),
    )


def parse_shipping_method(message: pb.ShippingMethod, method_id: str) -> ShippingMethod:
    """Parse a shipping method from a request.

    Raises: UnknownCurrency, InvalidAmount.
    """
    field = "shipping_method.prices"
    prices = [
        ShippingPrice(
            parse_money_message(price.amount, field=f"{field}[{index}].amount"),
            weight_min_g=price.min_weight_g,
            subtotal_min=parse_optional_money(price, "min_subtotal", parent=f"{field}[{index}]"),
        )
        for index, price in enumerate(message.prices)
    ]
    return ShippingMethod(
        method_id,
        display_name=message.display_name,
        zone_ids=tuple(parse_id(zone) for zone in message.tax_zones),
        basis=SHIPPING_BASES[message.basis],
        prices=tuple(prices),
        free_from=parse_optional_money(message, "free_from", parent="shipping_method"),
        tax_class=message.tax_class,
    )
