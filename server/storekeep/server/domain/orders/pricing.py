"""The frozen terms of an order, and what it costs by them.

An order that was placed while anything of pricing was configured keeps the prices, promotions, rates and facts that it
was priced by, so that later changes recalculate it by the same terms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.exemptions import Exemption, hide_exemption
from storekeep.server.domain.keys.personal_fields import hide_address
from storekeep.server.domain.pricing.baskets import (
    AppliedPromotion,
    Basket,
    PricedAmount,
    PricedBasket,
    Share,
    TaxAmount,
    build_applied,
)
from storekeep.server.domain.pricing.frozen_selections import compact_promotions, expand_promotions, is_selective
from storekeep.server.domain.pricing.separable import Separable
from storekeep.server.domain.pricing.shipping import get_shipping_class
from storekeep.server.domain.pricing.taxes import Rates, build_tax_amounts
from storekeep.server.domain.pricing.terms import (
    ALWAYS,
    CouponCode,
    Customer,
    Item,
    Promotion,
    Rules,
    ShippingMethod,
    TaxRate,
    TaxZone,
    Terms,
    UnitPrice,
)

NO_EXEMPTIONS = (None, None, None)


class Result(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a line or the shipping costs, without what the frozen terms of its order say.

    Attributes:
        price_minor: before discounts.
        taxes: the tax of each component of its rate; empty if no rate matched.
        shares: its part of the discount of each frozen promotion; empty if all are 0.
    """

    price_minor: int
    taxes: tuple[int, ...] = ()
    shares: tuple[int, ...] = ()


class StatedTax(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tax of another system. `rate_ppm` is 0 if it is not known."""

    display_name: str
    rate_ppm: int
    tax_minor: int


class StatedAmount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The discount and the tax of some units of a line, or of a price of shipping, as another system stated them.

    Attributes:
        units: units of a line that are not cancelled; minor units of a price of shipping.
        taxes: what the tax is made of; empty if it is not known.
    """

    units: int
    discount_minor: int
    tax_minor: int
    taxes: tuple[StatedTax, ...] = ()


class OrderPricing(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """The frozen terms of an order and their results.

    Names and rates stand in the terms only: the results of an order with 20 promotions on 3 lines take 0.4 KB instead
    of 5.5 KB, in its row and in each ledger entry.

    Attributes:
        time_us: the instant of the terms.
        zone: resource name of the tax zone; empty if none matched.
        tax_address: the address for tax, if the order has one of its own.
        rates: the rates of its zones and classes at that instant, also of zones that the order had before.
        promotions, coupons: those that applied, without windows and caps; see `compact_promotions`.
        prices, items: of each line. Items have only the facts that the promotions and the shipping method compare.
        shipping_price_minor: the price of shipping that the caller set; None for that of the method.
        results: of each line, for the units that are not cancelled.
        shipping_result: what shipping costs; None if the order has none.
        exemption: the exemption that holds, if a rate matched.
        quote: resource name of the accepted quote.
        stated: of each line of an imported order with names of taxes, or when it first changed; empty for orders with
            terms. See `prorating`.
        stated_shipping: of its shipping.
    """

    rules: Rules
    time_us: int
    zone: str = ""
    tax_address: Address | None = None
    rates: tuple[TaxRate, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    coupons: tuple[CouponCode, ...] = ()
    customer: Customer = Customer()
    requested_exemption: Exemption | None = None
    prices: tuple[UnitPrice, ...] = ()
    items: tuple[Item, ...] = ()
    shipping_method: ShippingMethod | None = None
    shipping_price_minor: int | None = None
    exemption: Exemption | None = None
    quote: str = ""
    results: tuple[Result, ...] = ()
    shipping_result: Result | None = None
    stated: tuple[StatedAmount, ...] = ()
    stated_shipping: StatedAmount | None = None

    @cached_property
    def amounts(self) -> tuple[PricedAmount, ...]:
        """Return what each line costs, for the units that are not cancelled."""
        if not self.results:
            return ()
        return tuple(
            [self._expand(result, item.tax_class) for result, item in zip(self.results, self.items, strict=True)]
        )

    @cached_property
    def shipping(self) -> PricedAmount | None:
        """Return what shipping costs; None if the order has none."""
        if self.shipping_result is None:
            return None
        return self._expand(self.shipping_result, get_shipping_class(self.shipping_method, self.rules))

    @cached_property
    def applied(self) -> tuple[AppliedPromotion, ...]:
        """Return the promotions that reduce the price now, in the order in which they applied."""
        results = self.results if self.shipping_result is None else (*self.results, self.shipping_result)
        rows = [result.shares for result in results if result.shares]
        if not rows:
            return ()
        coupons = {coupon.promotion: coupon for coupon in self.coupons}
        sums = zip(self.promotions, map(sum, zip(*rows, strict=True)), strict=True)
        in_order = sorted(sums, key=lambda one: one[0].action.reduces_shipping)
        return tuple(
            [build_applied(one, discount_minor, coupons) for one, discount_minor in in_order if discount_minor]
        )

    def _expand(self, result: Result, tax_class: str) -> PricedAmount:
        """Return a result with what the terms say."""
        discount_minor, tax_minor = sum(result.shares), sum(result.taxes)
        left_minor = result.price_minor - discount_minor
        taxes: tuple[TaxAmount, ...] = ()
        if result.taxes:
            rates = {(rate.zone, rate.tax_class): rate for rate in reversed(self.rates)}
            taxes = build_tax_amounts(rates[self.zone, tax_class], result.taxes, exempt=self.exemption is not None)
        return PricedAmount(
            result.price_minor,
            tax_class,
            tuple([Share(one.name, part) for one, part in zip(self.promotions, result.shares, strict=False) if part]),
            discount_minor,
            net_minor=left_minor - tax_minor if self.rules.prices_include_tax else left_minor,
            tax_minor=tax_minor,
            taxes=taxes,
        )

    @property
    def is_personal(self) -> bool:
        """Return whether the terms have personal data."""
        exemptions = (self.customer.exemption, self.requested_exemption, self.exemption)
        return self.tax_address is not None or exemptions != NO_EXEMPTIONS

    def clear(self) -> OrderPricing:
        """Return the terms without results, for an order that costs nothing any more."""
        return replace(self, results=(), shipping_result=None)

    def build_terms(self) -> Terms:
        """Return the terms for a calculation."""
        rates: dict[tuple[str, str], list[TaxRate]] = defaultdict(list)
        for rate in self.rates:
            rates[rate.zone, rate.tax_class].append(rate)
        method = self.shipping_method
        return Terms(
            rules=self.rules,
            zone=TaxZone(self.zone, ()) if self.zone else None,
            rates={key: tuple(found) for key, found in rates.items()},
            promotions=expand_promotions(self.promotions, self.items),
            items={item.sku: item for item in self.items},
            coupons={coupon.code: coupon for coupon in self.coupons},
            shipping_methods={} if method is None else {method.name: method},
        )

    def set_results(
        self,
        amounts: tuple[PricedAmount, ...],
        *,
        shipping: PricedAmount | None,
        applied: tuple[AppliedPromotion, ...],
        exemption: Exemption | None,
    ) -> OrderPricing:
        """Return the terms with the results of a calculation by them.

        Args:
            amounts: of each line.
        """
        pricing = replace(
            self,
            exemption=exemption,
            **_shorten_results(self.promotions, amounts, shipping),
        )
        vars(pricing).update(amounts=amounts, shipping=shipping, applied=applied)
        return pricing


def _shorten_results(
    promotions: Sequence[Promotion], amounts: Sequence[PricedAmount], shipping: PricedAmount | None
) -> dict[str, Any]:
    """Return the fields of `OrderPricing` with the results of a calculation."""
    indexes = {promotion.name: index for index, promotion in enumerate(promotions)}
    return {
        "results": tuple([_shorten(amount, indexes) for amount in amounts]),
        "shipping_result": None if shipping is None else _shorten(shipping, indexes),
    }


def _shorten(amount: PricedAmount, indexes: Mapping[str, int]) -> Result:
    """Return an amount without what the terms say.

    Args:
        indexes: the index of each frozen promotion by name.
    """
    if not amount.shares:
        return Result(amount.price_minor, tuple([tax.tax_minor for tax in amount.taxes]))
    shares = [share.discount_minor for share in amount.shares]
    if len(shares) < len(indexes):
        shares = [0] * len(indexes)
        for share in amount.shares:
            shares[indexes[share.promotion]] = share.discount_minor
    return Result(amount.price_minor, tuple([tax.tax_minor for tax in amount.taxes]), tuple(shares))


def hide_pricing(pricing: OrderPricing | None) -> OrderPricing | None:
    """Return frozen terms without their personal data: what remains calculates the same price.

    Most have none; the same terms are returned then.
    """
    if pricing is None or not pricing.is_personal:
        return pricing
    return replace(
        pricing,
        tax_address=hide_address(pricing.tax_address),
        customer=replace(pricing.customer, exemption=hide_exemption(pricing.customer.exemption)),
        requested_exemption=hide_exemption(pricing.requested_exemption),
        exemption=hide_exemption(pricing.exemption),
    )


def freeze_terms(basket: Basket, terms: Terms, priced: PricedBasket, *, tax_address: Address | None) -> OrderPricing:
    """Return what a new order keeps of the terms, with their results."""
    applied = {one.promotion: one for one in priced.promotions}
    codes = {one.code for one in priced.promotions if one.code}
    items = tuple([terms.items.get(line.sku) or Item(line.sku) for line in basket.lines])
    method = terms.shipping_methods.get(basket.shipping_method) if basket.shipping_method else None
    classes = {item.tax_class for item in items} | {get_shipping_class(method, terms.rules)}
    amounts = tuple([line.amount for line in priced.lines])
    promotions, compares = _freeze_promotions(terms, applied, items)
    pricing = OrderPricing(
        terms.rules,
        basket.now_us,
        zone=priced.zone,
        tax_address=tax_address,
        rates=find_rates(terms.rates, (priced.zone, terms.rules.home_zone), classes, basket.now_us),
        promotions=promotions,
        coupons=tuple([freeze_coupon(coupon) for code, coupon in terms.coupons.items() if code in codes])
        if codes
        else (),
        customer=basket.customer,
        requested_exemption=basket.exemption,
        prices=tuple([line.price for line in priced.lines]),
        items=items if compares else shorten_items(items),
        shipping_method=None if method is None else _freeze_method(method),
        shipping_price_minor=basket.shipping_minor,
        exemption=priced.exemption,
        **_shorten_results(promotions, amounts, priced.shipping),
    )
    vars(pricing).update(amounts=amounts, shipping=priced.shipping, applied=priced.promotions)
    return pricing


def _freeze_promotions(
    terms: Terms, applied: Mapping[str, AppliedPromotion], items: Sequence[Item]
) -> tuple[tuple[Promotion, ...], bool]:
    """Return the promotions that an order keeps, and whether any of them selects some items and not others.

    Args:
        applied: those that applied, by name.
        items: of each line.
    """
    separable: Separable | None = terms.separable
    if separable is not None and len(applied) == len(terms.promotions):
        return separable.frozen, separable.is_selective
    frozen = [_freeze(one, applied[one.name]) for one in terms.promotions if one.name in applied]
    promotions = compact_promotions(frozen, items)
    return promotions, any(map(is_selective, promotions))


def shorten_items(items: Sequence[Item]) -> tuple[Item, ...]:
    """Return items with the facts that taxes and shipping methods compare."""
    return tuple(
        [
            Item(item.sku, tax_class=item.tax_class, weight_g=item.weight_g) if item.product_id or item.labels else item
            for item in items
        ]
    )


def add_rates(pricing: OrderPricing, terms: Terms, *, classes: Iterable[str]) -> OrderPricing:
    """Return the frozen terms with the rates of their zones for some classes, unless they have them already.

    Args:
        terms: the rates of today.
    """
    existing = {(rate.zone, rate.tax_class) for rate in pricing.rates}
    rates = find_rates(terms.rates, (pricing.zone, pricing.rules.home_zone), classes, pricing.time_us)
    added = [rate for rate in rates if (rate.zone, rate.tax_class) not in existing]
    return replace(pricing, rates=(*pricing.rates, *added)) if added else pricing


def find_rates(rates: Rates, zones: Iterable[str], classes: Iterable[str], time_us: int) -> tuple[TaxRate, ...]:
    """Return the rates of some zones and classes at an instant, without windows."""
    found = []
    for zone in dict.fromkeys(zones):
        for tax_class in classes:
            for rate in rates.get((zone, tax_class), ()):
                if rate.window is ALWAYS or rate.window.contains(time_us):
                    found.append(rate if rate.window is ALWAYS else replace(rate, window=ALWAYS))
                    break
    return tuple(found)


def freeze_coupon(coupon: CouponCode) -> CouponCode:
    """Return a coupon as an order keeps it: without window, counts and caps."""
    return CouponCode(coupon.code, coupon.name, coupon.promotion)


def _freeze(promotion: Promotion, applied: AppliedPromotion) -> Promotion:
    """Return a promotion that stays as it applied: always, and with at most the part of a budget that it spent."""
    if promotion.window is ALWAYS and promotion.uses_max is None and promotion.budget_minor is None:
        return promotion
    budget_minor = None if promotion.budget_minor is None else applied.discount_minor
    return replace(promotion, window=ALWAYS, uses_max=None, budget_minor=budget_minor)


def _freeze_method(method: ShippingMethod) -> ShippingMethod:
    """Return a shipping method that has a price for whatever becomes of the order."""
    lowest = min(method.prices, key=lambda price: price.minimum)
    prices = tuple([replace(price, minimum=0) if price is lowest else price for price in method.prices])
    return replace(method, zones=frozenset(), prices=prices)
