"""The calculation: what a basket costs by its terms, to the cent. Pure: it reads and writes nothing.

The algorithm is declared in `docs/technical-design.md` and in the comment of `QuoteOrder` in the contract.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from storekeep.server.domain.errors import CurrencyMismatch
from storekeep.server.domain.exemptions import Exemption
from storekeep.server.domain.pricing.baskets import (
    CONDITIONS_NOT_MET,
    EXCLUDED,
    EXPIRED,
    UNKNOWN,
    USED_BY_CUSTOMER,
    USED_UP,
    AppliedPromotion,
    Basket,
    BasketLine,
    PricedAmount,
    PricedBasket,
    PricedLine,
    RefusedCode,
    Share,
    build_applied,
)
from storekeep.server.domain.pricing.discounts import Line, Reduction, Reductions, spent_up
from storekeep.server.domain.pricing.shipping import get_shipping_class, price_shipping
from storekeep.server.domain.pricing.taxes import TaxTable, find_table
from storekeep.server.domain.pricing.terms import (
    ALWAYS,
    CouponCode,
    Item,
    Promotion,
    Terms,
    UnitPrice,
    Usage,
    fold_code,
)

NOTHING_SPENT = Usage()
PROMOTIONS_MAX = 100
"""The most promotions that apply to the lines of a basket, and the most that apply to its shipping."""
SHARES_MAX = 10_000
"""The most lines that they reduce, each line counted once for each promotion. An order keeps every share, and more of
them would make a message that clients do not accept."""


def price_basket(basket: Basket, terms: Terms, *, field: str = "lines") -> PricedBasket:
    """Return what a basket costs.

    Args:
        field: the request field that contains the lines, for the error.

    Raises: CurrencyMismatch for a SKU without a price, and for a shipping method of another currency; InvalidField for
        a shipping method that does not ship there.
    """
    zone = terms.zone.name if terms.zone is not None else ""
    exemption = find_exemption(basket)
    table = find_table(terms, zone=zone, now_us=basket.now_us, exempt=exemption is not None)
    prices = choose_prices(basket, terms.prices, field=field)
    items = [terms.items.get(line.sku) or Item(line.sku) for line in basket.lines]
    lines = [
        _start_line(line, price, item, table) for line, price, item in zip(basket.lines, prices, items, strict=True)
    ]
    discounting = _Discounting(basket, terms, lines, table, zone)
    discounting.run()
    priced = tuple(
        [
            _finish_line(price, line, shares, table)
            for price, line, shares in zip(prices, lines, discounting.collect_shares(), strict=True)
        ]
    )
    shipping = discounting.build_shipping()
    return _sum_up(
        basket,
        terms,
        priced,
        shipping=None if shipping is None else table.add_tax(shipping, units=1),
        promotions=discounting.list_promotions(),
        refused_codes=discounting.refuse_codes(),
        zone=zone,
    )


def _sum_up(
    basket: Basket,
    terms: Terms,
    lines: tuple[PricedLine, ...],
    *,
    shipping: PricedAmount | None,
    promotions: tuple[AppliedPromotion, ...],
    refused_codes: tuple[RefusedCode, ...],
    zone: str,
) -> PricedBasket:
    """Return a basket with its totals."""
    amounts = [line.amount for line in lines] + ([] if shipping is None else [shipping])
    return PricedBasket(
        lines=lines,
        shipping=shipping,
        promotions=promotions,
        refused_codes=refused_codes,
        prices_include_tax=terms.rules.prices_include_tax,
        zone=zone,
        exemption=find_exemption(basket) if any(amount.taxes for amount in amounts) else None,
        subtotal_minor=sum([line.amount.price_minor for line in lines]),
        discount_minor=sum([amount.discount_minor for amount in amounts]),
        net_minor=sum([amount.net_minor for amount in amounts]),
        tax_minor=sum([amount.tax_minor for amount in amounts]),
    )


def find_usable_coupons(
    codes: Iterable[str], coupons: Mapping[str, CouponCode], *, now_us: int
) -> dict[str, CouponCode]:
    """Return the first usable coupon of each promotion.

    Args:
        codes: as the customer wrote them.
        coupons: by folded code.
        now_us: the instant at which windows are compared.
    """
    usable: dict[str, CouponCode] = {}
    for code in map(fold_code, codes):
        coupon = coupons.get(code)
        if coupon is not None and not _find_problem(coupon, now_us):
            usable.setdefault(coupon.promotion, coupon)
    return usable


def _find_problem(coupon: CouponCode | None, now_us: int) -> str:
    """Return the problem of a coupon itself; empty for none."""
    if coupon is None:
        return UNKNOWN
    if coupon.window.until_time_us is not None and coupon.window.until_time_us <= now_us:
        return EXPIRED
    if not coupon.window.contains(now_us):
        return CONDITIONS_NOT_MET
    if coupon.uses_max is not None and coupon.uses >= coupon.uses_max:
        return USED_UP
    if coupon.customer_uses_max is not None and coupon.customer_uses >= coupon.customer_uses_max:
        return USED_BY_CUSTOMER
    return ""


def _is_possible(promotion: Promotion, basket: Basket, coupons: Mapping[str, CouponCode]) -> bool:
    """Return whether a promotion may apply, as far as amounts and budgets do not decide.

    Args:
        coupons: the usable coupons of the basket by promotion.
    """
    if promotion.requires_coupon and promotion.name not in coupons:
        return False
    if promotion.currency_code not in ("", basket.currency_code):
        return False
    return promotion.window is ALWAYS or promotion.window.contains(basket.now_us)


def _start_line(line: BasketLine, price: UnitPrice, item: Item, table: TaxTable) -> Line:
    """Return a line before discounts, with its prices converted for the zone of the basket."""
    unit_price_minor = table.convert_price(price.amount_minor, tax_class=item.tax_class)
    floor_minor = table.convert_price(price.floor_minor, tax_class=item.tax_class) if price.floor_minor else 0
    return Line(item, line.quantity, unit_price_minor, floor_minor, unit_price_minor * line.quantity)


def _finish_line(price: UnitPrice, line: Line, shares: tuple[Share, ...], table: TaxTable) -> PricedLine:
    """Return a line after discounts, with its tax."""
    before = PricedAmount(
        line.unit_price_minor * line.units,
        line.item.tax_class,
        shares,
        sum([share.discount_minor for share in shares]),
    )
    amount = table.add_tax(before, units=line.units)
    return PricedLine(line.item.sku, line.units, price, line.unit_price_minor, amount)


def find_exemption(basket: Basket) -> Exemption | None:
    """Return the exemption of an order, or that of its customer, if it holds then."""
    exemption = basket.exemption or basket.customer.exemption
    return exemption if exemption is not None and exemption.holds(basket.now_us) else None


def choose_prices(
    basket: Basket, prices: Mapping[str, Sequence[UnitPrice]], *, field: str = "lines"
) -> list[UnitPrice]:
    """Return the price of one unit of each line.

    Raises: CurrencyMismatch.
    """
    quantities: Counter[str] | None = None
    chosen = []
    for index, line in enumerate(basket.lines):
        offered = prices.get(line.sku, ())
        price = line.price
        if price is None and len(offered) == 1 and offered[0].minimum_quantity <= line.quantity:
            price = _choose_price(basket, offered, line.quantity)
        elif price is None:
            quantities = quantities or _count_units(basket)
            price = _choose_price(basket, offered, quantities[line.sku])
        if price is None:
            raise CurrencyMismatch(f"{field}[{index}].sku", f"{line.sku} has no price in {basket.currency_code}")
        chosen.append(price)
    return chosen


def _count_units(basket: Basket) -> Counter[str]:
    """Return the units of each SKU."""
    units: Counter[str] = Counter()
    for line in basket.lines:
        units[line.sku] += line.quantity
    return units


def _choose_price(basket: Basket, prices: Sequence[UnitPrice], quantity: int) -> UnitPrice | None:
    """Return the most specific price that holds, then the lowest.

    A price for a group is more specific than one for all, then a higher minimum quantity, then a window.
    """
    holding = [
        price
        for price in prices
        if price.minimum_quantity <= quantity
        and price.currency_code == basket.currency_code
        and (not price.group or price.group in basket.customer.groups)
        and price.window.contains(basket.now_us)
    ]
    if len(holding) == 1:
        return holding[0]
    return min(
        holding,
        key=lambda price: (
            not price.group,
            -price.minimum_quantity,
            price.window == ALWAYS,
            price.amount_minor,
            price.name,
        ),
        default=None,
    )


class _Discounting:
    """The promotions of one basket: which apply, in which order, and what each takes off."""

    def __init__(self, basket: Basket, terms: Terms, lines: list[Line], table: TaxTable, zone: str) -> None:
        self._basket = basket
        self._terms = terms
        self._table = table
        self._zone = zone
        self._amounts = Reductions(lines, 0, terms.rules)
        self._coupons = find_usable_coupons(basket.codes, terms.coupons, now_us=basket.now_us)
        self._applied: list[tuple[Promotion, Reduction]] = []
        self._shipping_minor: int | None = None
        self._is_full = False

    def run(self) -> None:
        """Apply the promotions: on lines first, then on shipping, as its price depends on the discounted lines.

        An exclusive promotion that takes anything off applies alone: the first of them.
        """
        if not self._terms.promotions:
            self._price_shipping()
            return
        possible = [promotion for promotion in self._terms.promotions if self._is_possible(promotion)]
        on_lines = [promotion for promotion in possible if not promotion.action.reduces_shipping]
        on_shipping = [promotion for promotion in possible if promotion.action.reduces_shipping]
        if any(promotion.exclusive for promotion in possible):
            self._price_shipping()
            exclusive = next((one for one in possible if one.exclusive and self._measure(one)), None)
            if exclusive is not None:
                on_lines = [promotion for promotion in on_lines if promotion is exclusive]
                on_shipping = [promotion for promotion in on_shipping if promotion is exclusive]
            else:
                on_lines = [promotion for promotion in on_lines if not promotion.exclusive]
                on_shipping = [promotion for promotion in on_shipping if not promotion.exclusive]
        self._apply_all(on_lines)
        self._price_shipping()
        self._apply_all(on_shipping)

    def collect_shares(self) -> list[tuple[Share, ...]]:
        """Return the shares of each line."""
        if not self._applied:
            return [()] * len(self._basket.lines)
        shares: list[list[Share]] = [[] for _ in self._basket.lines]
        for promotion, reduction in self._applied:
            for index, share in enumerate(reduction.shares):
                if share:
                    shares[index].append(Share(promotion.name, share))
        return [tuple(parts) for parts in shares]

    def build_shipping(self) -> PricedAmount | None:
        """Return the shipping before tax; None if the basket has none."""
        if self._shipping_minor is None:
            return None
        shares = tuple(
            [Share(promotion.name, part.shipping_minor) for promotion, part in self._applied if part.shipping_minor]
        )
        method = self._terms.shipping_methods.get(self._basket.shipping_method)
        tax_class = get_shipping_class(method, self._terms.rules)
        return PricedAmount(self._shipping_minor, tax_class, shares, sum([share.discount_minor for share in shares]))

    def list_promotions(self) -> tuple[AppliedPromotion, ...]:
        """Return the promotions in the order in which they applied."""
        return tuple(
            [
                build_applied(promotion, reduction.discount_minor, self._coupons)
                for promotion, reduction in self._applied
            ]
        )

    def refuse_codes(self) -> tuple[RefusedCode, ...]:
        """Return the codes that did not apply, each with the reason."""
        if not self._basket.codes:
            return ()
        applied = {coupon.code for promotion, _ in self._applied if (coupon := self._coupons.get(promotion.name))}
        refused: dict[str, RefusedCode] = {}
        for code in self._basket.codes:
            folded = fold_code(code)
            if folded not in applied and folded not in refused:
                refused[folded] = RefusedCode(code, self._explain(folded))
        return tuple(refused.values())

    def _explain(self, code: str) -> str:
        """Return the reason why a code did not apply."""
        coupon = self._terms.coupons.get(code)
        problem = _find_problem(coupon, self._basket.now_us)
        if coupon is None or problem:
            return problem
        promotion = self._find_promotion(coupon)
        if promotion is None:
            return EXPIRED
        if spent_up(promotion, self._terms.usages.get(promotion.name, NOTHING_SPENT)):
            return USED_UP
        taken = self._coupons[promotion.name].code != code and any(one is promotion for one, _ in self._applied)
        alone = len(self._applied) == 1 and self._applied[0][0].exclusive
        is_excluded = (alone or self._is_full) and self._is_possible(promotion)
        return EXCLUDED if taken or is_excluded else CONDITIONS_NOT_MET

    def _find_promotion(self, coupon: CouponCode) -> Promotion | None:
        found = [promotion for promotion in self._terms.promotions if promotion.name == coupon.promotion]
        return found[0] if found and found[0].window.contains(self._basket.now_us) else None

    def _is_possible(self, promotion: Promotion) -> bool:
        """Return whether a promotion may apply, as far as amounts do not decide."""
        if not _is_possible(promotion, self._basket, self._coupons):
            return False
        if promotion.uses_max is None and promotion.budget_minor is None:
            return True
        return not spent_up(promotion, self._terms.usages.get(promotion.name, NOTHING_SPENT))

    def _measure(self, promotion: Promotion) -> Reduction | None:
        """Return the discount of a promotion on what is left; None if it takes nothing off."""
        if not self._amounts.meets(promotion.conditions, self._basket.customer):
            return None
        budget_minor = promotion.budget_minor
        if budget_minor is not None:
            budget_minor -= self._terms.usages.get(promotion.name, NOTHING_SPENT).discount_minor
        reduction = self._amounts.reduce(promotion, budget_minor=budget_minor)
        return reduction if reduction.discount_minor else None

    def _apply_all(self, promotions: Iterable[Promotion]) -> None:
        """Apply promotions in their order, until one is too many."""
        count = shares = 0
        for promotion in promotions:
            reduction = self._measure(promotion)
            if reduction is not None:
                count += 1
                shares += len(reduction.shares) - reduction.shares.count(0)
                if count > PROMOTIONS_MAX or shares > SHARES_MAX:
                    self._is_full = True
                    return
                self._amounts.apply(reduction)
                self._applied.append((promotion, reduction))

    def _price_shipping(self) -> None:
        """Set the price of the shipping by what is left of the lines."""
        self._shipping_minor = price_shipping(
            self._basket, self._terms, self._amounts.lines, table=self._table, zone=self._zone
        )
        self._amounts.shipping_left_minor = self._shipping_minor or 0
