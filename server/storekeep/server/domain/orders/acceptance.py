"""Acceptance of quotes: places the order that a sent quote offers, at its prices, once.

What changed since the quote was sent does not count, but stock does, and so do the limits of coupons and budgets.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import CouponNotApplicable, InvalidField
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.baskets import Pricing
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.orders.order_reads import read_for_order
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.placing import (
    PlacingRules,
    check_expected_total,
    check_request,
    finish_order,
    start_order,
)
from storekeep.server.domain.orders.quotes import ACCEPTED, QUOTES, Quote, find_quote
from storekeep.server.domain.orders.repricing import apply_pricing
from storekeep.server.domain.pricing.baskets import USED_UP
from storekeep.server.domain.pricing.counts import claim_use
from storekeep.server.domain.pricing.coupons import COUPONS
from storekeep.server.domain.pricing.promotions import PROMOTIONS
from storekeep.server.domain.pricing.terms import CouponCode, Promotion, fold_code
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction

PERSONAL_FIELDS = frozenset({"shipping_address", "billing_address", "tax_address", "tax_exemption"})
"""The fields of an order with personal data that must be those of its quote."""


def accept_quote(db: Store, call: Call, quote_id: str, *, etag: str, rules: PlacingRules) -> Order:
    """Place the order of a sent quote.

    Raises: CustomerNotFound, ResourceDeleted, QuoteNotFound, EtagMismatch, IllegalState, CouponNotApplicable,
        OutOfStock, and the errors of `mutate`.
    """

    def effect(mutation: Mutation) -> Order:
        quote = find_quote(mutation.tx, quote_id, etag=etag, target=ACCEPTED)
        new = NewOrder(quote.customer_id, quote.lines, quote.currency_code, quote_id=quote_id)
        return _accept(mutation, quote, new, rules)

    return mutate(db, call, effect, Order)


def place_quoted_order(db: Store, call: Call, new: NewOrder, *, rules: PlacingRules) -> Order:
    """Place the order of a sent quote, with what the caller adds to it.

    A caller that may not read personal data leaves it out: else a refusal would tell whether it guessed a value of the
    quote.

    Raises: InvalidField for what differs from the quote, CustomerNotFound, LocationNotFound, ResourceDeleted,
        QuoteNotFound, IllegalState, CouponNotApplicable, PriceChanged, ReferenceTaken, ReservationNotFound,
        OutOfStock, and the errors of `mutate`.
    """
    check_request(new)

    def effect(mutation: Mutation) -> Order:
        quote = find_quote(mutation.tx, new.quote_id, etag="", target=ACCEPTED)
        for field, requested, offered in _compare(new, quote):
            if field in PERSONAL_FIELDS and not call.caller.reads_personal_data:
                raise InvalidField(field, f"must be absent: you may not read that of {quote.name}")
            if requested != offered:
                raise InvalidField(field, f"differs from that of {quote.name}")
        return _accept(mutation, quote, new, rules)

    return mutate(db, call, effect, Order)


def _compare(new: NewOrder, quote: Quote) -> Iterator[tuple[str, object, object]]:
    """Yield each field that determines the price, if the caller set it, with its value and that of the quote."""
    yield "customer", new.customer_id, quote.customer_id
    yield "lines", new.lines, quote.lines
    yield "currency_code", new.currency_code, quote.currency_code
    pricing = new.pricing
    optional = (
        ("shipping_address", new.shipping_address, quote.shipping_address),
        ("billing_address", new.billing_address, quote.billing_address),
        ("shipping", new.shipping, quote.shipping),
        ("coupon_codes", {fold_code(code) for code in pricing.codes}, {fold_code(code) for code in quote.coupon_codes}),
        ("shipping_method", pricing.shipping_method, quote.shipping_method),
        ("tax_address", pricing.tax_address, quote.tax_address),
        ("tax_exemption", pricing.exemption, quote.exemption),
    )
    yield from (one for one in optional if one[1])


def _accept(mutation: Mutation, quote: Quote, new: NewOrder, rules: PlacingRules) -> Order:
    """Place the order of a quote, and write that it is accepted.

    Raises: the errors of `place_quoted_order`.
    """
    tx = mutation.tx
    new = replace(
        new,
        shipping_address=quote.shipping_address,
        billing_address=quote.billing_address,
        note=new.note or quote.note,
        pricing=Pricing(),
    )
    reads = read_for_order(tx, new)
    order = start_order(
        tx,
        new,
        reads,
        amounts={"lines": quote.priced_lines, "total_minor": 0},
        unpaid_ttl_s=rules.unpaid_ttl_s,
    )
    order = apply_pricing(order, replace(quote.pricing, quote=quote.name))
    check_expected_total(new.expected_total, order)
    _claim_uses(tx, order, quote)
    QUOTES.replace(mutation, quote, replace(quote, state=ACCEPTED, order_id=order.id), action="accepted")
    return finish_order(mutation, new, order, reads.source_locations, numbers=rules.numbers)


def _claim_uses(tx: Transaction, order: Order, quote: Quote) -> None:
    """Count the uses of the promotions and coupons of a quote, within their limits of today.

    Raises: CouponNotApplicable.
    """
    applied = quote.pricing.applied
    promotions = _read_promotions(tx, [one.promotion for one in applied])
    coupons = _read_coupons(tx, [one.coupon for one in applied if one.coupon])
    for one in applied:
        claimed = claim_use(
            tx,
            promotions[one.promotion],
            coupons.get(one.coupon),
            order_id=order.id,
            customer_id=order.customer_id,
            discount_minor=one.discount_minor,
        )
        if not claimed:
            raise CouponNotApplicable(one.code or one.promotion, problem=USED_UP)


def _read_promotions(tx: Transaction, names: list[str]) -> dict[str, Promotion]:
    """Return promotions by name, deleted or not."""
    rows = PROMOTIONS.rows.find_many(tx, [(name.rpartition("/")[2],) for name in names])
    return {promotion.name: promotion.build_terms() for promotion in PROMOTIONS.read_rows(tx, rows)}


def _read_coupons(tx: Transaction, names: list[str]) -> dict[str, CouponCode]:
    """Return coupons by name, deleted or not."""
    rows = COUPONS.rows.find_many(tx, [(name.rpartition("/")[2],) for name in names])
    return {
        coupon.name: CouponCode(
            coupon.id,
            coupon.name,
            f"promotions/{coupon.promotion_id}",
            uses_max=coupon.uses_max or None,
            customer_uses_max=coupon.customer_uses_max or None,
        )
        for coupon in COUPONS.read_rows(tx, rows)
    }
