"""What an order costs after a change, by its frozen terms. New lines have today's prices.

Invariant: an order that is changed back costs what it cost before, to the cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from storekeep.server.domain.catalog.pricing_versions import read_version
from storekeep.server.domain.errors import InvalidAmount
from storekeep.server.domain.money import TOTAL_MINOR_MAX
from storekeep.server.domain.orders.baskets import NO_PRICING, Offers, read_basket
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.pricing import OrderPricing, add_rates
from storekeep.server.domain.pricing.baskets import Basket, BasketLine, PricedAmount
from storekeep.server.domain.pricing.calculation import choose_prices, price_basket
from storekeep.server.domain.pricing.shipping import get_shipping_class
from storekeep.server.domain.pricing.snapshot import choose_zone, read_snapshot
from storekeep.server.domain.pricing.terms import Terms
from storekeep.server.store.sql.transactions import Transaction

NO_SHIPPING = PricedAmount(0)


def apply_pricing(order: Order, pricing: OrderPricing, *, field: str = "lines") -> Order:
    """Return an order with the amounts of its pricing.

    Args:
        field: the request field that changes the total, for the error.

    Raises: InvalidAmount.
    """
    lines = tuple([apply_amount(line, amount) for line, amount in zip(order.lines, pricing.amounts, strict=True)])
    return replace(order, **sum_lines(lines, pricing, field=field))


def sum_lines(lines: tuple[OrderLine, ...], pricing: OrderPricing, *, field: str = "lines") -> dict[str, Any]:
    """Return the fields of an order with its amounts.

    Args:
        lines: with the amounts of the pricing.
        field: the request field that changes the total, for the error.

    Raises: InvalidAmount.
    """
    shipping = pricing.shipping or NO_SHIPPING
    shipping_minor = shipping.price_minor - shipping.discount_minor
    tax_minor = shipping.tax_minor + sum([line.tax_minor for line in lines])
    added_tax_minor = 0 if pricing.rules.prices_include_tax else tax_minor
    return {
        "lines": lines,
        "pricing": pricing,
        "shipping_minor": shipping_minor,
        "total_minor": calculate_total(
            lines, shipping_minor=shipping_minor, added_tax_minor=added_tax_minor, field=field
        ),
        "tax_minor": tax_minor,
        "shipping_tax_minor": shipping.tax_minor,
        "prices_include_tax": pricing.rules.prices_include_tax,
    }


def calculate_total(
    lines: Sequence[OrderLine], *, shipping_minor: int, added_tax_minor: int = 0, field: str = "lines"
) -> int:
    """Return the total of an order, in minor units.

    Args:
        added_tax_minor: the tax that prices do not include.
        field: the request field that changes the total, for the error.

    Raises: InvalidAmount.
    """
    total_minor, subtotal_minor = shipping_minor + added_tax_minor, 0
    for line in lines:
        total_minor += line.total_minor
        subtotal_minor += line.subtotal_minor
    if max(total_minor, subtotal_minor) > TOTAL_MINOR_MAX:
        raise InvalidAmount(field, "the total is greater than the maximum of an order")
    return total_minor


def apply_amount(line: OrderLine, amount: PricedAmount) -> OrderLine:
    """Return a line with what its units that are not cancelled cost."""
    active = line.quantity - line.cancelled
    unit_price_minor = amount.price_minor // active if active else line.unit_price_minor
    return OrderLine(
        line.line_number,
        line.sku,
        line.display_name,
        line.quantity,
        unit_price_minor,
        line.quantity * unit_price_minor,
        amount.discount_minor,
        line.fulfilled,
        line.cancelled,
        line.returned,
        amount.tax_minor,
    )


def reprice_order(order: Order, pricing: OrderPricing, *, field: str = "lines") -> Order:
    """Return an order with the amounts of its active units by frozen terms.

    Args:
        pricing: the terms, with a price and an item for each line.

    Raises: InvalidAmount.
    """
    active = [line.quantity - line.cancelled for line in order.lines]
    method = pricing.shipping_method
    basket = Basket(
        tuple(
            [
                BasketLine(line.sku, units, price)
                for line, units, price in zip(order.lines, active, pricing.prices, strict=True)
                if units
            ]
        ),
        order.currency_code,
        pricing.time_us,
        pricing.customer,
        codes=tuple([coupon.code for coupon in pricing.coupons]),
        shipping_method="" if method is None else method.name,
        shipping_minor=pricing.shipping_price_minor,
        exemption=pricing.requested_exemption,
    )
    priced = price_basket(basket, pricing.build_terms(), field=field)
    amounts = iter([line.amount for line in priced.lines])
    all_amounts = tuple([next(amounts) if units else PricedAmount(0) for units in active])
    results = pricing.set_results(
        all_amounts, shipping=priced.shipping, applied=priced.promotions, exemption=priced.exemption
    )
    return apply_pricing(order, results, field=field)


def move_to_zone(tx: Transaction, order: Order, pricing: OrderPricing) -> OrderPricing:
    """Return the terms of an order for the zone of its current address.

    The rates of a zone that the order had before are frozen; those of another zone are the ones of the order's time.
    """
    snapshot = read_snapshot(tx)
    address = pricing.tax_address or order.shipping_address or order.billing_address
    zone = choose_zone(snapshot, address, pricing.rules)
    name = zone.name if zone is not None else ""
    classes = {item.tax_class for item in pricing.items}
    classes.add(get_shipping_class(pricing.shipping_method, pricing.rules))
    return add_rates(replace(pricing, zone=name), Terms(rates=snapshot.rates), classes=classes)


def add_lines(
    tx: Transaction, order: Order, pricing: OrderPricing, lines: Sequence[tuple[str, int]], offers: Offers
) -> OrderPricing:
    """Return the terms with today's prices of new lines, for the order's customer, and today's rates of their classes.

    Args:
        lines: (SKU, units) of the new lines. Tiers count the units of a SKU in the whole order.

    Raises: CurrencyMismatch.
    """
    today, terms = read_basket(
        tx,
        lines,
        offers,
        NO_PRICING,
        customer_id=order.customer_id,
        currency_code=order.currency_code,
        shipping_minor=None,
        address=None,
        rules=pricing.rules,
        version=read_version(tx),
        needs_item_facts=True,
    )
    existing = [
        BasketLine(line.sku, line.quantity - line.cancelled, price)
        for line, price in zip(order.lines, pricing.prices, strict=True)
    ]
    prices = choose_prices(replace(today, lines=(*today.lines, *existing)), terms.prices, field="edit.added_lines")[
        : len(lines)
    ]
    items = [terms.items[sku] for sku, _ in lines]
    pricing = replace(pricing, prices=(*pricing.prices, *prices), items=(*pricing.items, *items))
    return add_rates(pricing, terms, classes={item.tax_class for item in items})


def set_shipping_price(pricing: OrderPricing, shipping_minor: int) -> OrderPricing:
    """Return the terms with a price of shipping that the caller sets, instead of a method."""
    return replace(pricing, shipping_method=None, shipping_price_minor=shipping_minor)
