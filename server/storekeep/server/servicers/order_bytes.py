"""Orders on the wire, which are made too often to build their messages field by field.

They repeat states, locations, amounts, promotions and rates, so they are joined from parts that are encoded once.
Fields of a message may have any order on the wire, so what varies follows what is cached.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from google.protobuf.descriptor import Descriptor
from google.type import money_pb2

from storekeep.server.domain.money import get_minor_digits
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.pricing import OrderPricing
from storekeep.server.domain.orders.prorating import build_price_view
from storekeep.server.domain.pricing.baskets import AppliedPromotion, PricedAmount, TaxAmount
from storekeep.server.domain.pricing.terms import UnitPrice
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.servicers.converters import (
    build_address,
    build_optional_timestamp,
    fill_labels,
    make_money_builder,
)
from storekeep.server.servicers.order_price_messages import build_exemption
from storekeep.server.transport.wire import (
    LENGTH,
    SHORT,
    VARINT,
    encode_time,
    make_tag,
    write_bytes,
    write_varint,
)
from storekeep.v1 import orders_pb2 as pb

LINES_CACHED = 4_000
"""Lines that are cached: with their amounts, which are the key, some 1.5 KB each, and 8 KB with the most shares."""
SHARES_CACHED_MAX = 20
"""The most shares of a line that is cached."""
DISCOUNTS_CACHED = 8_192
"""Discounts that are cached, with their key some 400 bytes each, and 2 KB with long names."""
TOTALS_CACHED = 8_192
"""Totals of orders that are cached, some 200 bytes each: an order with price details has several, some twice."""
PARTS_CACHED = 1_024
"""Encoded promotions, coupons and rates that are cached."""


def _make_tags(message: Descriptor) -> dict[str, bytes]:
    """Return the tag of each field of a message that is a message itself."""
    return {field.name: make_tag(field.number, LENGTH) for field in message.fields if field.message_type is not None}


_LINE, _DETAILS, _SHIPPING = (
    _make_tags(message.DESCRIPTOR) for message in (pb.OrderLine, pb.PriceDetails, pb.ShippingLine)
)
_SUBTOTAL, _DISCOUNT_TOTAL, _NET_TOTAL, _TAX_TOTAL, _GROSS_TOTAL, _TAXES = (
    _DETAILS[name] for name in ("subtotal", "discount_total", "net_total", "tax_total", "gross_total", "taxes")
)
_SHARE_AMOUNT, _DISCOUNT_AMOUNT, _TAX_AMOUNT = (
    _make_tags(message.DESCRIPTOR)["amount"] for message in (pb.DiscountShare, pb.OrderDiscount, pb.TaxAmount)
)
_UNITS = make_tag(money_pb2.Money.DESCRIPTOR.fields_by_name["units"].number, VARINT)
HEADS_CACHED = 256
"""Encoded states, locations and sources that are cached."""
STATES = {
    "": pb.ORDER_STATE_UNSPECIFIED,
    "PLACED": pb.ORDER_STATE_PLACED,
    "CONFIRMED": pb.ORDER_STATE_CONFIRMED,
    "PARTIALLY_FULFILLED": pb.ORDER_STATE_PARTIALLY_FULFILLED,
    "FULFILLED": pb.ORDER_STATE_FULFILLED,
    "COMPLETED": pb.ORDER_STATE_COMPLETED,
    "CANCELLED": pb.ORDER_STATE_CANCELLED,
    "EXPIRED": pb.ORDER_STATE_EXPIRED,
}


def _make_text_tags(message: Descriptor) -> dict[str, bytes]:
    """Return the tag of each text of a message."""
    return {field.name: make_tag(field.number, LENGTH) for field in message.fields if field.type == field.TYPE_STRING}


_ORDER, _ORDER_TEXTS = _make_tags(pb.Order.DESCRIPTOR), _make_text_tags(pb.Order.DESCRIPTOR)
_SHIPPING_COSTS, _TOTAL = _ORDER["shipping"], _ORDER["total"]
_CREATE_TIME, _UPDATE_TIME, _EXPIRE_TIME = (_ORDER[name] for name in ("create_time", "update_time", "expire_time"))
_NAME, _CUSTOMER, _NUMBER, _ETAG = (_ORDER_TEXTS[name] for name in ("name", "customer", "number", "etag"))
PricedOrderLine = tuple[OrderLine, PricedAmount | None, UnitPrice | None]


def encode_order(order: Order, *, with_contact: bool, lines: bytes | None = None) -> bytes:
    """Return an order as a `storekeep.v1.Order`.

    Args:
        with_contact: whether it has the email address and the phone number.
        lines: the lines of an order without price details, in place of its own: each as `encode_line` returns it.
    """
    name, customer = f"orders/{order.id}".encode(), f"customers/{order.customer_id}".encode()
    number, total = order.number.encode(), encode_total(order.currency_code, order.total_minor)
    create_time, update_time = encode_time(order.create_time_us), encode_time(order.update_time_us)
    parts = [
        _encode_head(order.state, order.location_id, order.source, order.language_code),
        _NAME,
        SHORT[len(name)],
        name,
        _CUSTOMER,
        SHORT[len(customer)],
        customer,
        _encode_etag(order.version),
        _TOTAL,
        total,
        _CREATE_TIME,
        SHORT[len(create_time)],
        create_time,
        _UPDATE_TIME,
        SHORT[len(update_time)],
        update_time,
    ]
    if number:
        parts += (_NUMBER, SHORT[len(number)], number)
    if order.expire_time_us is not None:
        expire_time = encode_time(order.expire_time_us)
        parts += (_EXPIRE_TIME, SHORT[len(expire_time)], expire_time)
    if order.shipping_minor:
        parts += (_SHIPPING_COSTS, _encode_sized_money(order.currency_code, order.shipping_minor))
    if _has_more(order, with_contact=with_contact):
        parts.append(_encode_more(order, with_contact=with_contact))
    parts.append(encode_parts(order, pb.Order.DESCRIPTOR) if lines is None else lines)
    return b"".join(parts)


def encode_orders(orders: Iterable[Order], message: Descriptor, *, with_contact: bool) -> bytes:
    """Return orders as the field `orders` of a message to merge them into."""
    tag = _get_tags(message)["orders"]
    return b"".join([write_bytes(tag, encode_order(order, with_contact=with_contact)) for order in orders])


@functools.lru_cache(HEADS_CACHED)
def _encode_head(state: str, location_id: str, source: str, language_code: str) -> bytes:
    message = pb.Order(
        state=STATES[state], location=f"locations/{location_id}", source=source, language_code=language_code
    )
    return message.SerializeToString()


@functools.lru_cache(HEADS_CACHED)
def _encode_etag(version: int) -> bytes:
    return write_bytes(_ETAG, make_etag(version).encode())


def _has_more(order: Order, *, with_contact: bool) -> object:
    """Return whether an order has any of the fields that few orders have."""
    return (
        order.shipping_address
        or order.billing_address
        or (with_contact and (order.email or order.phone))
        or order.labels
        or order.external_reference
        or order.note
        or order.held
        or order.hold_reason
        or order.cancel_reason
        or order.unique_reference
        or order.ship_by_time_us is not None
        or order.deliver_by_time_us is not None
        or (order.pricing is not None and order.pricing.quote)
    )


def _encode_more(order: Order, *, with_contact: bool) -> bytes:
    """Return these fields."""
    shipping, billing = order.shipping_address, order.billing_address
    message = pb.Order(
        shipping_address=None if shipping is None else build_address(shipping),
        external_reference=order.external_reference,
        note=order.note,
        cancel_reason=order.cancel_reason,
        held=order.held,
        hold_reason=order.hold_reason,
        billing_address=None if billing is None else build_address(billing),
        email=order.email if with_contact else "",
        phone=order.phone if with_contact else "",
        ship_by_time=build_optional_timestamp(order.ship_by_time_us),
        deliver_by_time=build_optional_timestamp(order.deliver_by_time_us),
        unique_external_reference=order.unique_reference,
        quote="" if order.pricing is None else order.pricing.quote,
    )
    if order.labels:
        fill_labels(message.labels, order.labels)
    return message.SerializeToString()


def encode_parts(order: Order, message: Descriptor, *, lines: str = "lines") -> bytes:
    """Return the lines and the price details of an order, as fields of a message to merge them into.

    Args:
        lines: the field for the lines.
    """
    tags = _get_tags(message)
    pricing = build_price_view(order)
    encoded = _encode_lines(order, pricing, tags[lines])
    if pricing is None:
        return encoded
    return encoded + write_bytes(tags["price_details"], _encode_details(order, pricing))


_get_tags = functools.cache(_make_tags)


def encode_lines(order: Order, tag: bytes = _get_tags(pb.Order.DESCRIPTOR)["lines"]) -> bytes:
    """Return the lines of an order, each as a field with a tag: that of the lines of the message of an order."""
    return _encode_lines(order, build_price_view(order), tag)


def _encode_lines(order: Order, pricing: OrderPricing | None, tag: bytes) -> bytes:
    """Return the lines of an order by its price view."""
    currency_code = order.currency_code
    is_cached = pricing is None or len(pricing.applied) <= SHARES_CACHED_MAX
    encode = _encode_cached_line if is_cached else _encode_line
    return b"".join([encode(tag, currency_code, *priced) for priced in _list_priced_lines(order, pricing)])


def _list_priced_lines(order: Order, pricing: OrderPricing | None) -> Iterable[PricedOrderLine]:
    """Return the lines of an order, each with its amount and price if the order has price details.

    An order that costs nothing any more has no amounts. An order of a list without lines has amounts only.
    """
    if pricing is None or not pricing.amounts or not order.lines:
        return [(line, None, None) for line in order.lines]
    return zip(order.lines, pricing.amounts, pricing.prices, strict=True)


def _encode_line(
    tag: bytes, currency_code: str, line: OrderLine, amount: PricedAmount | None, price: UnitPrice | None
) -> bytes:
    """Return a line as a field with a tag.

    Args:
        amount, price: what it costs by the price details of the order; None without them.
    """
    money = make_money_builder(currency_code)
    message = pb.OrderLine(
        line_number=line.line_number,
        sku=line.sku,
        display_name=line.display_name,
        quantity=line.quantity,
        unit_price=money(line.unit_price_minor),
        subtotal=money(line.subtotal_minor),
        discount=money(line.discount_minor) if line.discount_minor else None,
        total=money(line.total_minor),
        open_quantity=line.open,
        fulfilled_quantity=line.fulfilled,
        cancelled_quantity=line.cancelled,
        returned_quantity=line.returned,
        price="" if price is None else price.name,
    )
    encoded = message.SerializeToString()
    if amount is not None:
        encoded += _encode_priced(amount, _LINE, currency_code)
    return write_bytes(tag, encoded)


def encode_line(currency_code: str, line: OrderLine) -> bytes:
    """Return a line without price details, as a field of an order."""
    return _encode_line(_ORDER["lines"], currency_code, line, None, None)


_encode_cached_line = functools.lru_cache(LINES_CACHED)(_encode_line)


def _encode_priced(amount: PricedAmount, tags: dict[str, bytes], currency_code: str) -> bytes:
    """Return the shares, the taxes and the totals of a line or of the shipping."""
    shares = [
        _encode_share(share.promotion) + _SHARE_AMOUNT + _encode_sized_money(currency_code, share.discount_minor)
        for share in amount.shares
    ]
    parts = [write_bytes(tags["discount_shares"], share) for share in shares]
    parts += [
        write_bytes(tags["taxes"], _encode_tax(tax, _encode_sized_money(currency_code, tax.tax_minor)))
        for tax in amount.taxes
    ]
    parts += [
        tags["net_total"] + _encode_sized_money(currency_code, amount.net_minor),
        tags["tax_total"] + _encode_sized_money(currency_code, amount.tax_minor),
        tags["gross_total"] + _encode_sized_money(currency_code, amount.gross_minor),
    ]
    return b"".join(parts)


def _encode_details(order: Order, pricing: OrderPricing) -> bytes:
    """Return what an order costs."""
    currency_code = order.currency_code
    amounts = pricing.amounts if pricing.shipping is None else (*pricing.amounts, pricing.shipping)
    subtotal_minor = sum([amount.price_minor for amount in pricing.amounts])
    parts = [
        _encode_facts(order.prices_include_tax, pricing.zone),
        _SUBTOTAL,
        encode_total(currency_code, subtotal_minor),
        _DISCOUNT_TOTAL,
        encode_total(currency_code, sum([amount.discount_minor for amount in amounts])),
        _NET_TOTAL,
        encode_total(currency_code, order.total_minor - order.tax_minor),
        _TAX_TOTAL,
        encode_total(currency_code, order.tax_minor),
        _GROSS_TOTAL,
        encode_total(currency_code, order.total_minor),
    ]
    if pricing.applied:
        parts += [_encode_discount(applied, currency_code) for applied in pricing.applied]
    parts += _sum_taxes(amounts, currency_code)
    if pricing.shipping is not None:
        parts.append(write_bytes(_DETAILS["shipping"], _encode_shipping(pricing, pricing.shipping, currency_code)))
    if pricing.exemption is not None or pricing.tax_address is not None:
        parts.append(_encode_personal(pricing))
    return b"".join(parts)


def _encode_shipping(pricing: OrderPricing, amount: PricedAmount, currency_code: str) -> bytes:
    method = pricing.shipping_method
    encoded = pb.ShippingLine(shipping_method="" if method is None else method.name).SerializeToString()
    price = _SHIPPING["price"] + _encode_sized_money(currency_code, amount.price_minor)
    return encoded + price + _encode_priced(amount, _SHIPPING, currency_code)


def _sum_taxes(amounts: Iterable[PricedAmount], currency_code: str) -> list[bytes]:
    """Return the tax by rate and component, over all amounts, each as a field of the price details."""
    sums: dict[tuple[str, int | str, int], int] = {}
    rows: dict[tuple[str, int | str, int], TaxAmount] = {}
    for amount in amounts:
        for index, tax in enumerate(amount.taxes):
            key = (tax.rate, index, 0) if tax.rate else ("", tax.display_name, tax.rate_ppm)
            if key in sums:
                sums[key] += tax.tax_minor
            else:
                rows[key], sums[key] = tax, tax.tax_minor
    return [write_bytes(_TAXES, _encode_tax(tax, encode_total(currency_code, sums[key]))) for key, tax in rows.items()]


def _encode_sized_money(currency_code: str, amount_minor: int) -> bytes:
    """Return an amount in minor units after its size, as the value of a field."""
    money = _encode_money(currency_code, amount_minor)
    return SHORT[len(money)] + money


encode_total = functools.lru_cache(TOTALS_CACHED)(_encode_sized_money)
"""The same for totals of orders, which repeat."""


@functools.lru_cache(DISCOUNTS_CACHED)
def _encode_discount(applied: AppliedPromotion, currency_code: str) -> bytes:
    """Return a discount as a field of the price details."""
    head = _encode_promotion(applied.promotion, applied.display_name, applied.coupon, applied.code)
    amount = _encode_sized_money(currency_code, applied.discount_minor)
    return write_bytes(_DETAILS["discounts"], head + _DISCOUNT_AMOUNT + amount)


def _encode_tax(tax: TaxAmount, amount: bytes) -> bytes:
    """Return a tax.

    Args:
        amount: encoded, after its size.
    """
    head = _encode_component(tax.rate, tax.display_name, tax.rate_ppm, tax.compound, tax.exempt)
    return head + _TAX_AMOUNT + amount


def _encode_money(currency_code: str, amount_minor: int) -> bytes:
    head, units_minor, nanos = _get_money_parts(currency_code)
    units, rest_minor = divmod(amount_minor, units_minor)
    return head + _UNITS + write_varint(units) + nanos[rest_minor] if units else head + nanos[rest_minor]


@functools.cache
def _get_money_parts(currency_code: str) -> tuple[bytes, int, tuple[bytes, ...]]:
    """Return the encoded currency, the minor units of a unit, and the encoded nanos of each number of minor units."""
    units_minor = 10 ** get_minor_digits(currency_code, field="currency_code")
    build = make_money_builder(currency_code)
    nanos = tuple([money_pb2.Money(nanos=build(minor)["nanos"]).SerializeToString() for minor in range(units_minor)])
    return money_pb2.Money(currency_code=currency_code).SerializeToString(), units_minor, nanos


@functools.lru_cache(PARTS_CACHED)
def _encode_share(promotion: str) -> bytes:
    return pb.DiscountShare(promotion=promotion).SerializeToString()


@functools.lru_cache(PARTS_CACHED)
def _encode_promotion(promotion: str, display_name: str, coupon: str, code: str) -> bytes:
    message = pb.OrderDiscount(promotion=promotion, display_name=display_name, coupon=coupon, code=code)
    return message.SerializeToString()


@functools.lru_cache(PARTS_CACHED)
def _encode_component(rate: str, display_name: str, rate_ppm: int, compound: bool, exempt: bool) -> bytes:
    message = pb.TaxAmount(
        tax_rate=rate, display_name=display_name, rate_ppm=rate_ppm, compound=compound, exempt=exempt
    )
    return message.SerializeToString()


@functools.lru_cache(PARTS_CACHED)
def _encode_facts(prices_include_tax: bool, zone: str) -> bytes:
    return pb.PriceDetails(prices_include_tax=prices_include_tax, tax_zone=zone).SerializeToString()


def _encode_personal(pricing: OrderPricing) -> bytes:
    """Return what belongs to a person, which no cache keeps."""
    address = pricing.tax_address
    details = pb.PriceDetails(
        tax_exemption=build_exemption(pricing.exemption),
        tax_address=None if address is None else build_address(address),
    )
    return details.SerializeToString()
