"""Conversion of quotes between contract messages and domain values."""

from __future__ import annotations

from typing import Any

from storekeep.server.domain.orders.quotes import Quote
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.servicers.converters import (
    build_address,
    build_optional_timestamp,
    build_timestamp,
    format_name,
    make_money_builder,
    parse_address,
    parse_id,
    parse_money_message,
    parse_time_us,
)
from storekeep.server.servicers.order_bytes import encode_parts
from storekeep.server.servicers.order_price_messages import build_exemption, parse_pricing
from storekeep.v1 import orders_pb2
from storekeep.v1 import quotes_pb2 as pb

QUOTE_FIELDS = {
    "customer": "customer_id",
    "lines": "lines",
    "currency_code": "currency_code",
    "shipping_address": "shipping_address",
    "billing_address": "billing_address",
    "shipping": "shipping",
    "coupon_codes": "coupon_codes",
    "shipping_method": "shipping_method",
    "tax_address": "tax_address",
    "tax_exemption": "exemption",
    "expire_time": "expire_time_us",
    "note": "note",
}
"""The fields that an update can change -> their names in the domain."""


def build_quote(quote: Quote) -> pb.Quote:
    """Build the message of a quote."""
    order = quote.build_order()
    money = make_money_builder(quote.currency_code)
    addresses: dict[str, Any] = {
        field: None if address is None else build_address(address)
        for field, address in (
            ("shipping_address", quote.shipping_address),
            ("billing_address", quote.billing_address),
            ("tax_address", quote.tax_address),
        )
    }
    message = pb.Quote(
        name=quote.name,
        state=pb.QuoteState.Value(f"QUOTE_STATE_{quote.state}"),
        customer=f"customers/{quote.customer_id}",
        lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=quantity) for sku, quantity in quote.lines],
        currency_code=quote.currency_code,
        **addresses,
        shipping=None if quote.shipping is None else money(quote.shipping.amount_minor),
        coupon_codes=quote.coupon_codes,
        shipping_method=quote.shipping_method,
        tax_exemption=build_exemption(quote.exemption),
        expire_time=build_timestamp(quote.expire_time_us),
        note=quote.note,
        total=money(quote.total_minor),
        send_time=build_optional_timestamp(quote.send_time_us),
        order=format_name("orders", quote.order_id),
        create_time=build_timestamp(quote.create_time_us),
        update_time=build_timestamp(quote.update_time_us),
        etag=make_etag(quote.version),
    )
    message.MergeFromString(encode_parts(order, pb.Quote.DESCRIPTOR, lines="priced_lines"))
    return message


def parse_quote(message: pb.Quote, quote_id: str) -> Quote:
    """Parse a quote from a request. An update may have none of the fields.

    Raises: UnknownCurrency, InvalidAmount.
    """
    pricing = parse_pricing(message, parent="quote.")
    return Quote(
        quote_id,
        customer_id=parse_id(message.customer),
        currency_code=message.currency_code,
        lines=tuple([(line.sku, line.quantity) for line in message.lines]),
        shipping_address=parse_address(message.shipping_address) if message.HasField("shipping_address") else None,
        billing_address=parse_address(message.billing_address) if message.HasField("billing_address") else None,
        shipping=(
            parse_money_message(message.shipping, field="quote.shipping") if message.HasField("shipping") else None
        ),
        coupon_codes=pricing.codes,
        shipping_method=pricing.shipping_method,
        tax_address=pricing.tax_address,
        exemption=pricing.exemption,
        expire_time_us=parse_time_us(message.expire_time) if message.HasField("expire_time") else 0,
        note=message.note,
    )
