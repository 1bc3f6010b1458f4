"""What an order would cost now. Nothing is written, and no stock is needed."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.addresses import Address, check_address
from storekeep.server.domain.customers import CUSTOMERS
from storekeep.server.domain.errors import CurrencyMismatch, CustomerNotFound
from storekeep.server.domain.money import Money, get_minor_digits
from storekeep.server.domain.orders.baskets import NO_PRICING, Pricing, build_offers, read_basket
from storekeep.server.domain.orders.new_orders import DEFAULT_LOCATION
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.placing import check_offered_quantities, price_lines
from storekeep.server.domain.orders.pricing import freeze_terms
from storekeep.server.domain.orders.repricing import apply_pricing
from storekeep.server.domain.pricing.baskets import RefusedCode
from storekeep.server.domain.pricing.calculation import price_basket
from storekeep.server.domain.pricing.promotions import check_values
from storekeep.server.domain.pricing.terms import Rules
from storekeep.server.domain.standard.resources import check_not_deleted
from storekeep.server.domain.stock.allocations import sum_quantities
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store


class Inquiry(msgspec.Struct, frozen=True):
    """The input of `quote_order`.

    Attributes:
        customer_id: empty for nobody.
        lines: (SKU, units).
        shipping: the price of shipping that the caller sets; None for that of the method.
        language_code: the language of the names of lines; empty for the customer's own.
    """

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    currency_code: str
    shipping_address: Address | None = None
    billing_address: Address | None = None
    shipping: Money | None = None
    pricing: Pricing = NO_PRICING
    language_code: str = ""


class Quotation(msgspec.Struct, frozen=True):
    """What an order would cost: an order without id and state, and the codes that do not apply."""

    order: Order
    refused_codes: tuple[RefusedCode, ...]


def quote_order(db: Store, inquiry: Inquiry, *, rules: Rules) -> Quotation:
    """Return what an order would cost now.

    Raises: UnknownCurrency, CustomerNotFound, ResourceDeleted, SkuNotFound, NotForSale, CurrencyMismatch, InvalidField,
        InvalidAmount.
    """
    get_minor_digits(inquiry.currency_code, field="currency_code")
    check_shipping_currency(inquiry)
    check_address(inquiry.shipping_address, field="shipping_address")
    check_address(inquiry.billing_address, field="billing_address")
    check_address(inquiry.pricing.tax_address, field="tax_address")
    if inquiry.pricing.draft is not None:
        check_values(inquiry.pricing.draft, field="draft_promotion")
    return db.snapshot(lambda tx: price_inquiry(tx, inquiry, rules))


def check_shipping_currency(inquiry: Inquiry) -> None:
    """Raise unless the price of shipping, if the caller sets one, has the currency of the order.

    Raises: CurrencyMismatch.
    """
    if inquiry.shipping is not None and inquiry.shipping.currency_code != inquiry.currency_code:
        raise CurrencyMismatch("shipping", f"the order is priced in {inquiry.currency_code}")


def price_inquiry(tx: Transaction, inquiry: Inquiry, rules: Rules, *, checks_quantities: bool = False) -> Quotation:
    """Return what an order would cost at the time of a transaction.

    Args:
        checks_quantities: whether the units of each SKU must keep its quantity rules.

    Raises: CustomerNotFound, ResourceDeleted, SkuNotFound, NotForSale, CurrencyMismatch, QuantityNotAllowed,
        InvalidField, InvalidAmount.
    """
    rows = store.OFFER.all(
        tx,
        customer_id=inquiry.customer_id,
        location_id=DEFAULT_LOCATION,
        taken_at="",
        quantities=msgspec.json.encode(sum_quantities(inquiry.lines)).decode(),
        currency_code=inquiry.currency_code,
        language_code=inquiry.language_code or None,
        now_us=tx.now_us,
    )
    if inquiry.customer_id:
        _check_customer(tx, inquiry.customer_id, delete_time_us=rows[0][0])
    offers = build_offers(rows)
    version = offers[inquiry.lines[0][0]].version
    lines = price_lines(inquiry.lines, offers, currency_code=inquiry.currency_code, requires_price=not version)
    if checks_quantities:
        check_offered_quantities(sum_quantities(inquiry.lines), offers)
    basket, terms = read_basket(
        tx,
        inquiry.lines,
        offers,
        inquiry.pricing,
        customer_id=inquiry.customer_id,
        currency_code=inquiry.currency_code,
        shipping_minor=None if inquiry.shipping is None else inquiry.shipping.amount_minor,
        address=inquiry.pricing.tax_address or inquiry.shipping_address or inquiry.billing_address,
        rules=rules,
        version=version,
    )
    priced = price_basket(basket, terms)
    order = Order(
        id="",
        customer_id=inquiry.customer_id,
        state="",
        currency_code=inquiry.currency_code,
        total_minor=0,
        location_id="",
        shipping_address=inquiry.shipping_address,
        external_reference="",
        note="",
        cancel_reason="",
        version=0,
        create_time_us=tx.now_us,
        update_time_us=tx.now_us,
        lines=lines,
    )
    pricing = freeze_terms(basket, terms, priced, tax_address=inquiry.pricing.tax_address)
    return Quotation(apply_pricing(order, pricing), priced.refused_codes)


def _check_customer(tx: Transaction, customer_id: str, *, delete_time_us: int | None) -> None:
    """Raise unless a customer exists and is not deleted.

    Args:
        delete_time_us: its deletion time: 0 if not deleted, None if missing.

    Raises: CustomerNotFound, ResourceDeleted.
    """
    if delete_time_us is None:
        raise CustomerNotFound(f"customers/{customer_id}")
    if delete_time_us:
        check_not_deleted(CUSTOMERS.find(tx, (customer_id,)))  # says whether it was erased or merged
