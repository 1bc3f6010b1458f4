"""Baskets: what is to be priced, and what it costs. All amounts are minor units of the basket's currency.

On every line and on the shipping, net + tax = gross. The shares of a promotion on them add up to its discount.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from storekeep.server.domain.exemptions import Exemption
from storekeep.server.domain.pricing.terms import CouponCode, Customer, Promotion, UnitPrice

UNKNOWN, EXPIRED, USED_UP = "UNKNOWN", "EXPIRED", "USED_UP"
USED_BY_CUSTOMER, CONDITIONS_NOT_MET, EXCLUDED = "USED_BY_CUSTOMER", "CONDITIONS_NOT_MET", "EXCLUDED"
CODE_PROBLEMS = (UNKNOWN, EXPIRED, USED_UP, USED_BY_CUSTOMER, CONDITIONS_NOT_MET, EXCLUDED)
"""The reasons why a code does not apply."""


class BasketLine(msgspec.Struct, frozen=True, gc=False):
    """Units of a SKU.

    Attributes:
        price: a fixed price; None for the price by the terms.
    """

    sku: str
    quantity: int
    price: UnitPrice | None = None


class Basket(msgspec.Struct, frozen=True):
    """What is to be priced.

    Attributes:
        now_us: the instant at which windows are compared.
        codes: coupon codes as the customer wrote them.
        shipping_method: resource name; empty for none.
        shipping_minor: a fixed price of the shipping; None for that of the method.
        exemption: the exemption of this order; None for that of the customer.
        has_address: whether there is an address for tax, for the text of an error.
    """

    lines: tuple[BasketLine, ...]
    currency_code: str
    now_us: int
    customer: Customer = Customer()
    codes: tuple[str, ...] = ()
    shipping_method: str = ""
    shipping_minor: int | None = None
    exemption: Exemption | None = None
    has_address: bool = True


class Share(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The part of a promotion's discount on one line or on the shipping."""

    promotion: str
    discount_minor: int


class TaxAmount(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The tax of one component of a rate.

    Attributes:
        rate: resource name of the tax rate.
        exempt: whether an exemption took the tax away.
    """

    rate: str
    display_name: str
    rate_ppm: int
    tax_minor: int
    compound: bool = False
    exempt: bool = False


class PricedAmount(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, cache_hash=True):
    """A price before and after discounts, and its tax.

    Attributes:
        price_minor: before discounts.
        tax_class: the class whose rate was applied.
        shares: in the order in which the promotions applied.
        taxes: one for each component of the rate.
    """

    price_minor: int
    tax_class: str = ""
    shares: tuple[Share, ...] = ()
    discount_minor: int = 0
    net_minor: int = 0
    tax_minor: int = 0
    taxes: tuple[TaxAmount, ...] = ()

    @property
    def gross_minor(self) -> int:
        """Return the amount with tax."""
        return self.net_minor + self.tax_minor


class PricedLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A line with its price.

    Attributes:
        price: the price that was chosen.
        unit_price_minor: its amount, converted for the zone of the basket.
    """

    sku: str
    quantity: int
    price: UnitPrice
    unit_price_minor: int
    amount: PricedAmount


class AppliedPromotion(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A promotion that reduced the price.

    Attributes:
        code: the folded coupon code that it needed; empty for none.
        coupon: the resource name of the coupon; empty for none.
    """

    promotion: str
    display_name: str
    discount_minor: int
    code: str = ""
    coupon: str = ""


def build_applied(promotion: Promotion, discount_minor: int, coupons: Mapping[str, CouponCode]) -> AppliedPromotion:
    """Return a promotion that applied, with its coupon.

    Args:
        coupons: the usable coupon of each promotion by name.
    """
    coupon = coupons.get(promotion.name)
    code, name = (coupon.code, coupon.name) if coupon is not None else ("", "")
    return AppliedPromotion(promotion.name, promotion.display_name, discount_minor, code, name)


class RefusedCode(msgspec.Struct, frozen=True):
    """A code that did not apply, as the customer wrote it, and one of `CODE_PROBLEMS`."""

    code: str
    problem: str


class PricedBasket(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a basket costs.

    Attributes:
        shipping: None if the basket has no shipping.
        zone: resource name of the tax zone; empty if none matched.
        exemption: the exemption that applied, if a rate matched.
    """

    lines: tuple[PricedLine, ...]
    shipping: PricedAmount | None
    promotions: tuple[AppliedPromotion, ...]
    refused_codes: tuple[RefusedCode, ...]
    prices_include_tax: bool
    zone: str
    exemption: Exemption | None
    subtotal_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int

    @property
    def gross_minor(self) -> int:
        """Return the total: what the customer pays."""
        return self.net_minor + self.tax_minor
