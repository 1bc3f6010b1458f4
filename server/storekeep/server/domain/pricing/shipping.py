"""Shipping methods: the price of shipping a basket. It depends on the weight or on the discounted lines."""

from __future__ import annotations

from collections.abc import Sequence

from storekeep.server.domain.errors import CurrencyMismatch, InvalidField
from storekeep.server.domain.pricing.baskets import Basket
from storekeep.server.domain.pricing.discounts import Line
from storekeep.server.domain.pricing.taxes import TaxTable
from storekeep.server.domain.pricing.terms import BY_SUBTOTAL, BY_WEIGHT, Rules, ShippingMethod, Terms


def get_shipping_class(method: ShippingMethod | None, rules: Rules) -> str:
    """Return the tax class of the shipping."""
    return (method.tax_class if method is not None else "") or rules.shipping_tax_class


def price_shipping(basket: Basket, terms: Terms, lines: Sequence[Line], *, table: TaxTable, zone: str) -> int | None:
    """Return the price of the shipping; None if the basket has none. A fixed price is that of the basket.

    Args:
        lines: the lines after the discounts on lines.
        zone: the zone that it ships to; empty if none matched.

    Raises: InvalidField, CurrencyMismatch.
    """
    method = _find_method(basket, terms, zone) if basket.shipping_method else None
    if basket.shipping_minor is not None:
        return basket.shipping_minor
    if method is None:
        return None
    subtotal_minor = sum([line.left_minor for line in lines])
    if method.free_from_minor is not None and subtotal_minor >= method.free_from_minor:
        return 0
    measure = 0
    if method.basis == BY_WEIGHT:
        measure = sum([line.item.weight_g * line.units for line in lines])
    if method.basis == BY_SUBTOTAL:
        measure = subtotal_minor
    reached = [price for price in method.prices if price.minimum <= measure]
    if not reached:
        raise InvalidField("shipping_method", f"{method.name} has no price for this order")
    price = max(reached, key=lambda one: one.minimum)
    return table.convert_price(price.amount_minor, tax_class=get_shipping_class(method, terms.rules))


def _find_method(basket: Basket, terms: Terms, zone: str) -> ShippingMethod:
    """Return the method of a basket that has one.

    Raises: InvalidField, CurrencyMismatch.
    """
    method = terms.shipping_methods.get(basket.shipping_method)
    if method is None:
        raise InvalidField("shipping_method", f"{basket.shipping_method} does not exist")
    if method.currency_code != basket.currency_code:
        raise CurrencyMismatch("shipping_method", f"{method.name} has prices in {method.currency_code}")
    if method.zones and zone not in method.zones:
        no_address = "ships to some countries only, and the order has no address; set `shipping_address`"
        problem = "does not ship to this address" if basket.has_address else no_address
        raise InvalidField("shipping_method", f"{method.name} {problem}")
    return method
