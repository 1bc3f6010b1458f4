"""What an order without frozen terms costs: discounts and taxes in proportion to its units.

Imported orders have the discounts and taxes of another system. The first change freezes them as they are, and every
change takes its part of these. Invariant: an order that is changed back costs what it cost before, to the cent.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from storekeep.server.domain.money import prorate_amount, spread_amount
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.pricing import OrderPricing, StatedAmount, StatedTax
from storekeep.server.domain.orders.repricing import calculate_total
from storekeep.server.domain.pricing.baskets import PricedAmount, TaxAmount
from storekeep.server.domain.pricing.terms import Rules, UnitPrice

NOTHING = StatedAmount(0, 0, 0)
"""What is stated for lines that were added since."""


def prorate_order(old: Order, new: Order, *, field: str = "lines") -> Order:
    """Return an order with the discounts, taxes and total of its units and its price of shipping.

    Args:
        old: the order before the change.
        new: the order with the units and the price of shipping after the change, and the amounts of before.
        field: the request field that changes the total, for the error.

    Raises: InvalidAmount.
    """
    pricing = old.pricing
    if pricing is None and (old.tax_minor or any(line.discount_minor for line in old.lines)):
        pricing = freeze_amounts(old, [()] * len(old.lines), ())
    if pricing is None:
        return replace(new, total_minor=calculate_total(new.lines, shipping_minor=new.shipping_minor, field=field))
    missing = len(new.lines) - len(pricing.stated)
    stated = (*pricing.stated, *[NOTHING] * missing)
    lines = tuple([_prorate_line(line, one) for line, one in zip(new.lines, stated, strict=True)])
    shipping_tax_minor = _prorate_shipping_tax(new.shipping_minor, pricing.stated_shipping or NOTHING)
    tax_minor = shipping_tax_minor + sum([line.tax_minor for line in lines])
    added_tax_minor = 0 if new.prices_include_tax else tax_minor
    return replace(
        new,
        lines=lines,
        pricing=pricing,
        total_minor=calculate_total(
            lines, shipping_minor=new.shipping_minor, added_tax_minor=added_tax_minor, field=field
        ),
        tax_minor=tax_minor,
        shipping_tax_minor=shipping_tax_minor,
    )


def freeze_amounts(
    order: Order, taxes: Sequence[tuple[StatedTax, ...]], shipping_taxes: tuple[StatedTax, ...]
) -> OrderPricing:
    """Return the discounts and taxes of an imported order.

    Args:
        taxes: what the tax of each line is made of.
        shipping_taxes: what that of the shipping is made of.
    """
    return OrderPricing(
        Rules(prices_include_tax=order.prices_include_tax),
        order.create_time_us,
        stated=tuple(
            [
                StatedAmount(line.quantity - line.cancelled, line.discount_minor, line.tax_minor, parts)
                for line, parts in zip(order.lines, taxes, strict=True)
            ]
        ),
        stated_shipping=StatedAmount(order.shipping_minor, 0, order.shipping_tax_minor, shipping_taxes),
    )


def _prorate_line(line: OrderLine, stated: StatedAmount) -> OrderLine:
    """Return a line with its part of what is stated: of the discount by units, of the tax by what these cost then.

    That keeps tax which the price includes from being more than the price.
    """
    units, price_minor = line.quantity - line.cancelled, line.unit_price_minor
    discount_minor = prorate_amount(stated.discount_minor, units, stated.units)
    part, whole = units * price_minor - discount_minor, stated.units * price_minor - stated.discount_minor
    if not whole:
        part, whole = units, stated.units
    return replace(line, discount_minor=discount_minor, tax_minor=prorate_amount(stated.tax_minor, part, whole))


def _prorate_shipping_tax(shipping_minor: int, stated: StatedAmount) -> int:
    if shipping_minor == stated.units:
        return stated.tax_minor
    return prorate_amount(stated.tax_minor, shipping_minor, stated.units)


def build_price_view(order: Order) -> OrderPricing | None:
    """Return what an order costs: its frozen terms, or its amounts if it has tax of another system; else None.

    Args:
        order: with its lines.
    """
    frozen = order.pricing
    if order.terms is not None or not (frozen or order.tax_minor or order.prices_include_tax):
        return order.terms
    parts = [] if frozen is None else [one.taxes for one in frozen.stated]
    parts += [()] * (len(order.lines) - len(parts))
    parts = [one if line.quantity > line.cancelled else () for one, line in zip(parts, order.lines, strict=True)]
    if not (order.tax_minor or order.prices_include_tax or any(parts)):
        return None
    shipping = None
    if order.shipping_minor or order.shipping_tax_minor:
        shipping_taxes = () if frozen is None or frozen.stated_shipping is None else frozen.stated_shipping.taxes
        shipping = _build_amount(order, order.shipping_minor, order.shipping_tax_minor, shipping_taxes)
    amounts = tuple(
        [
            _build_amount(
                order,
                line.total_minor + line.discount_minor,
                line.tax_minor,
                taxes,
                discount_minor=line.discount_minor,
            )
            for line, taxes in zip(order.lines, parts, strict=True)
        ]
    )
    pricing = OrderPricing(
        Rules(prices_include_tax=order.prices_include_tax),
        order.create_time_us,
        prices=tuple([UnitPrice(line.sku, order.currency_code, line.unit_price_minor) for line in order.lines]),
    )
    vars(pricing).update(amounts=amounts, shipping=shipping, applied=())
    return pricing


def _build_amount(
    order: Order, price_minor: int, tax_minor: int, taxes: Sequence[StatedTax], *, discount_minor: int = 0
) -> PricedAmount:
    """Return what a line or the shipping costs. Each of its taxes has its part of the tax, by largest remainder.

    Args:
        taxes: as stated for all units.
    """
    left_minor = price_minor - discount_minor
    parts = spread_amount(tax_minor, [tax.tax_minor for tax in taxes])
    return PricedAmount(
        price_minor,
        discount_minor=discount_minor,
        net_minor=left_minor - tax_minor if order.prices_include_tax else left_minor,
        tax_minor=tax_minor,
        taxes=tuple(
            [
                TaxAmount("", tax.display_name, tax.rate_ppm, part_minor)
                for tax, part_minor in zip(taxes, parts, strict=True)
            ]
        ),
    )
