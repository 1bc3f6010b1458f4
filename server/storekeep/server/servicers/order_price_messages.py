"""Conversion of what an order costs between contract messages and domain values."""

from __future__ import annotations

from msgspec.structs import replace

from storekeep.server.domain.exemptions import Exemption, check_exemption
from storekeep.server.domain.orders.baskets import Pricing
from storekeep.server.domain.orders.quoting import Inquiry
from storekeep.server.domain.pricing.promotions import Promotion
from storekeep.server.servicers.converters import (
    Fields,
    parse_address,
    parse_id,
    parse_money_message,
)
from storekeep.server.servicers.promotion_messages import parse_promotion
from storekeep.server.servicers.translations import parse_language
from storekeep.v1 import orders_pb2 as pb
from storekeep.v1 import quotes_pb2

PROBLEMS = {
    "UNKNOWN": pb.COUPON_PROBLEM_UNKNOWN,
    "EXPIRED": pb.COUPON_PROBLEM_EXPIRED,
    "USED_UP": pb.COUPON_PROBLEM_USED_UP,
    "USED_BY_CUSTOMER": pb.COUPON_PROBLEM_USED_BY_CUSTOMER,
    "CONDITIONS_NOT_MET": pb.COUPON_PROBLEM_CONDITIONS_NOT_MET,
    "EXCLUDED": pb.COUPON_PROBLEM_EXCLUDED,
}


def parse_pricing(
    message: pb.PlaceOrderRequest | pb.QuoteOrderRequest | quotes_pb2.Quote, *, parent: str = ""
) -> Pricing:
    """Parse what a request says about the price of an order.

    Args:
        parent: the request field of the message with a dot, for the error; empty for the request itself.

    Raises: InvalidField for an exemption without a reason.
    """
    requested = message.tax_exemption
    exemption = Exemption(requested.reason, requested.certificate) if message.HasField("tax_exemption") else None
    check_exemption(exemption, field=f"{parent}tax_exemption")
    return Pricing(
        codes=tuple(message.coupon_codes),
        shipping_method=message.shipping_method,
        tax_address=parse_address(message.tax_address) if message.HasField("tax_address") else None,
        exemption=exemption,
    )


def parse_inquiry(request: pb.QuoteOrderRequest) -> Inquiry:
    """Parse a request for a quote.

    Raises: UnknownCurrency, InvalidAmount, InvalidField.
    """
    return Inquiry(
        customer_id=parse_id(request.customer) if request.customer else "",
        lines=tuple([(line.sku, line.quantity) for line in request.lines]),
        currency_code=request.currency_code,
        shipping_address=parse_address(request.shipping_address) if request.HasField("shipping_address") else None,
        billing_address=parse_address(request.billing_address) if request.HasField("billing_address") else None,
        shipping=parse_money_message(request.shipping, field="shipping") if request.HasField("shipping") else None,
        pricing=replace(parse_pricing(request), draft=_parse_draft(request)),
        language_code=parse_language(request.language_code),
    )


def _parse_draft(request: pb.QuoteOrderRequest) -> Promotion | None:
    """Parse the promotion to try. Raises: UnknownCurrency, InvalidAmount."""
    message = request.draft_promotion
    return parse_promotion(message, parse_id(message.name)) if request.HasField("draft_promotion") else None


def build_exemption(exemption: Exemption | None) -> Fields | None:
    """Build the fields of an exemption; None for none."""
    return None if exemption is None else {"reason": exemption.reason, "certificate": exemption.certificate}
