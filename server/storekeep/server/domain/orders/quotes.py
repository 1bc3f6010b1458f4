"""Quotes: orders that are offered to customers at fixed prices, until a time. They hold no stock.

A draft is priced by each change; a sent quote keeps its prices. A draft or a sent quote is EXPIRED from its expiry time
on, even before the expiry is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address, check_address
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    CouponNotApplicable,
    FieldViolation,
    IllegalState,
    InvalidField,
    QuoteNotFound,
)
from storekeep.server.domain.exemptions import Exemption, hide_exemption
from storekeep.server.domain.keys.personal_fields import PersonalFields, hide_address, hide_text
from storekeep.server.domain.money import Money, get_minor_digits
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.baskets import Pricing
from storekeep.server.domain.orders.new_orders import DEFAULT_LOCATION
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.placing import check_expected_total
from storekeep.server.domain.orders.pricing import OrderPricing, hide_pricing
from storekeep.server.domain.orders.quoting import Inquiry, check_shipping_currency, price_inquiry
from storekeep.server.domain.orders.repricing import apply_pricing
from storekeep.server.domain.pricing.terms import DEFAULT_RULES, Rules
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.resources import check_etag
from storekeep.server.domain.stock.expiry import Expirer
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import quotes as store

DRAFT, SENT, ACCEPTED, EXPIRED = "DRAFT", "SENT", "ACCEPTED", "EXPIRED"
STATES = (DRAFT, SENT, ACCEPTED, EXPIRED)
SOURCES = {SENT: (DRAFT,), ACCEPTED: (SENT,), EXPIRED: (DRAFT, SENT), DRAFT: (DRAFT,)}
"""State -> the states from which it is reached."""
TTL_DEFAULT_US = 30 * DAY_US
TTL_MAX_US = 366 * DAY_US
"""Default and maximum time until a quote expires, in microseconds."""


class Quote(msgspec.Struct, frozen=True):
    """A quote; see `Quote` in the contract.

    Attributes:
        lines: (SKU, units).
        shipping: the price of shipping that the caller sets; None for that of the method.
        coupon_codes: as they were sent.
        expire_time_us: 0 for the default, before it is stored.
        order_id: empty unless an order accepted it.
        priced_lines, pricing: the lines of the order and their prices.
    """

    PERSONAL: ClassVar = PersonalFields(
        {
            "shipping_address": hide_address,
            "billing_address": hide_address,
            "tax_address": hide_address,
            "exemption": hide_exemption,
            "note": hide_text,
            "pricing": hide_pricing,
        },
        find_subject=lambda _, quote: f"customers/{quote.customer_id}",
    )

    id: str
    customer_id: str = ""
    state: str = DRAFT
    currency_code: str = ""
    lines: tuple[tuple[str, int], ...] = ()
    shipping_address: Address | None = None
    billing_address: Address | None = None
    shipping: Money | None = None
    coupon_codes: tuple[str, ...] = ()
    shipping_method: str = ""
    tax_address: Address | None = None
    exemption: Exemption | None = None
    expire_time_us: int = 0
    note: str = ""
    send_time_us: int | None = None
    order_id: str = ""
    total_minor: int = 0
    priced_lines: tuple[OrderLine, ...] = ()
    pricing: OrderPricing = OrderPricing(DEFAULT_RULES, 0)
    encrypted: str = ""
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"quotes/{self.id}"

    @property
    def delete_time_us(self) -> None:
        """Return None: quotes have no soft deletion."""
        return None

    def apply_expiry(self, now_us: int) -> Quote:
        """Return the quote as EXPIRED from its expiry time on, even before the expiry is written."""
        if self.state in SOURCES[EXPIRED] and self.expire_time_us <= now_us:
            return replace(self, state=EXPIRED)
        return self

    def build_order(self) -> Order:
        """Return the order that the quote offers, without id and state."""
        order = Order(
            id="",
            customer_id=self.customer_id,
            state="",
            currency_code=self.currency_code,
            total_minor=0,
            location_id=DEFAULT_LOCATION,
            shipping_address=self.shipping_address,
            external_reference="",
            note=self.note,
            cancel_reason="",
            version=0,
            create_time_us=self.create_time_us,
            update_time_us=self.update_time_us,
            billing_address=self.billing_address,
            lines=self.priced_lines,
        )
        return apply_pricing(order, self.pricing)

    def build_pricing(self) -> Pricing:
        """Return what the quote says about its price, beside the lines."""
        return Pricing(self.coupon_codes, self.shipping_method, self.tax_address, self.exemption)


QUOTES = Collection(
    Quote,
    store.Quote,
    key=("id",),
    pattern="quotes/{}",
    event="quote",
    not_found=QuoteNotFound,
    apply_time=Quote.apply_expiry,
)
LISTING = Listing(
    method="ListQuotes",
    query=lambda: store.Quote.select(*QUOTES.rows.fields),
    columns={
        "state": Column(
            store.Quote.state,
            FilterField(Kind.STATE, choices=STATES, prefix="QUOTE_STATE_"),
            matches=store.compare_state,
        ),
        "customer": Column(store.Quote.customer, FilterField(Kind.TEXT, prefix="customers/")),
        "order": Column(store.Quote.order_id, FilterField(Kind.TEXT, prefix="orders/")),
        "expire_time": Column(store.Quote.expire_time_us, FilterField(Kind.TIME), sortable=True),
        "create_time": Column(store.Quote.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Quote.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Quote.id,),
    read_rows=QUOTES.read_rows,
    default_order="create_time desc",
)


def create_quote(db: Store, call: Call, new: Quote, *, rules: Rules) -> Quote:
    """Create a draft at the prices of this instant.

    Raises: InvalidField, AlreadyExists, and the errors of `price_inquiry`.
    """
    _check_addresses(new)
    return mutate(db, call, lambda mutation: QUOTES.add(mutation, _price(mutation.tx, new, rules)), Quote)


def update_quote(db: Store, call: Call, new: Quote, *, fields: Sequence[str], etag: str, rules: Rules) -> Quote:
    """Set the named fields of a draft, and price it anew. Write nothing if no value changes.

    Raises: QuoteNotFound, EtagMismatch, IllegalState, InvalidField, and the errors of `price_inquiry`.
    """

    def effect(mutation: Mutation) -> Quote:
        old = find_quote(mutation.tx, new.id, etag=etag, target=DRAFT)
        changes: Mapping[str, Any] = {field: getattr(new, field) for field in fields}
        changed = replace(old, **changes)
        if changed == old:
            return old
        _check_addresses(changed, old)
        return QUOTES.replace(mutation, old, _price(mutation.tx, changed, rules), action="updated")

    return mutate(db, call, effect, Quote)


def _check_addresses(new: Quote, old: Quote | None = None) -> None:
    """Raise unless the countries of new addresses exist.

    Raises: InvalidField.
    """
    for field in ("shipping_address", "billing_address", "tax_address"):
        check_address(getattr(new, field), field=f"quote.{field}", old=getattr(old, field, None))


def send_quote(db: Store, call: Call, quote_id: str, *, expected_total: Money | None, etag: str, rules: Rules) -> Quote:
    """Price a draft for the last time, and let it be accepted.

    Raises: QuoteNotFound, EtagMismatch, IllegalState, PriceChanged, and the errors of `price_inquiry`.
    """

    def effect(mutation: Mutation) -> Quote:
        old = find_quote(mutation.tx, quote_id, etag=etag, target=SENT)
        priced = _price(mutation.tx, old, rules)
        check_expected_total(expected_total, priced.build_order())
        sent = replace(priced, state=SENT, send_time_us=mutation.tx.now_us)
        return QUOTES.replace(mutation, old, sent, action="sent")

    return mutate(db, call, effect, Quote)


def expire_quote(db: Store, call: Call, quote_id: str, *, etag: str) -> Quote:
    """Withdraw a draft or a sent quote.

    Raises: QuoteNotFound, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Quote:
        old = find_quote(mutation.tx, quote_id, etag=etag, target=EXPIRED)
        return QUOTES.replace(mutation, old, replace(old, state=EXPIRED), action="expired")

    return mutate(db, call, effect, Quote)


def find_quote(tx: Transaction, quote_id: str, *, etag: str, target: str) -> Quote:
    """Return a quote that can reach a state.

    Args:
        etag: the version that the caller has seen; empty to skip the check.

    Raises: QuoteNotFound, EtagMismatch, IllegalState.
    """
    quote = QUOTES.find(tx, (quote_id,))
    check_etag(quote, etag)
    if quote.state not in SOURCES[target]:
        problem = "only drafts can be changed" if target == DRAFT else ""
        way_out = "send it first" if (quote.state, target) == (DRAFT, ACCEPTED) else ""
        raise IllegalState(quote.name, state=quote.state, target=target, problem=problem, way_out=way_out)
    return quote


def _price(tx: Transaction, quote: Quote, rules: Rules) -> Quote:
    """Return a quote at the prices of this instant, with an expiry time.

    Raises: UnknownCurrency, CouponNotApplicable, InvalidField, and the errors of `price_inquiry`.
    """
    expire_time_us = quote.expire_time_us or tx.now_us + TTL_DEFAULT_US
    try:
        get_minor_digits(quote.currency_code, field="currency_code")
        if not tx.now_us < expire_time_us <= tx.now_us + TTL_MAX_US:
            raise InvalidField("expire_time", "must be in the future, and at most 366 days away")
        inquiry = Inquiry(
            quote.customer_id,
            quote.lines,
            quote.currency_code,
            shipping_address=quote.shipping_address,
            billing_address=quote.billing_address,
            shipping=quote.shipping,
            pricing=quote.build_pricing(),
        )
        check_shipping_currency(inquiry)
        quotation = price_inquiry(tx, inquiry, rules, checks_quantities=True)
    except FieldViolation as error:
        error.set_parent("quote")
        raise
    for refused in quotation.refused_codes:
        raise CouponNotApplicable(refused.code, problem=refused.problem)
    order = quotation.order
    return replace(
        quote,
        expire_time_us=expire_time_us,
        total_minor=order.total_minor,
        priced_lines=order.lines,
        pricing=order.pricing,
    )


def reassign_quotes(mutation: Mutation, quote_ids: Sequence[str], customer_id: str) -> None:
    """Give quotes to another customer. The expiry of those that have expired is written before."""
    tx, keys = mutation.tx, [(quote_id,) for quote_id in quote_ids]
    stored = QUOTES.read_stored_rows(tx, QUOTES.rows.find_many(tx, keys))
    _expire(mutation, [quote.id for quote in stored if quote.apply_expiry(tx.now_us) is not quote])
    for old in QUOTES.read_rows(tx, QUOTES.rows.find_many(tx, keys)):
        QUOTES.replace(mutation, old, replace(old, customer_id=customer_id), action="reassigned")


# -- expiry


def _find_expired(tx: Transaction, limit: int) -> list[str]:
    return [quote_id for (quote_id,) in store.EXPIRED_IDS.all(tx, now_us=tx.now_us, rows_max=limit)]


def _expire(mutation: Mutation, quote_ids: Sequence[str]) -> None:
    """Write the expiry of quotes."""
    rows = QUOTES.rows.find_many(mutation.tx, [(quote_id,) for quote_id in quote_ids])
    for old in QUOTES.read_stored_rows(mutation.tx, rows):
        QUOTES.replace(mutation, old, replace(old, state=EXPIRED), action="expired")


EXPIRER = Expirer(find=_find_expired, find_by_sku=lambda tx, skus, limit: (), expire=_expire)
"""Quotes hold no stock, so no other mutation needs their expiry to be written."""
