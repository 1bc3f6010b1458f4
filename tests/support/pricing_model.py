"""A second implementation of the declared pricing algorithm: fractions, one step after the other, no cleverness.

It shares the structs of the terms with the server, and no code of the calculation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from storekeep.server.domain.pricing.baskets import Basket, PricedBasket
from storekeep.server.domain.pricing.terms import Action, Item, Promotion, Selection, TaxRate, Terms, UnitPrice, Usage

MILLION = 1_000_000


@dataclass
class ModelLine:
    """A line of the model, as it stands after each step."""

    item: Item
    units: int
    unit_price: int
    floor: int
    left: int
    discounts: dict[str, int] = field(default_factory=dict)
    taxes: list[int] = field(default_factory=list)

    @property
    def tax(self) -> int:
        """Return the whole tax."""
        return sum(self.taxes)


@dataclass
class Priced:
    """What a basket costs by the model."""

    lines: list[ModelLine]
    shipping: ModelLine | None
    applied: list[str]
    gross: int


def round_half(value: Fraction, rounding: str) -> int:
    """Round a value that is not negative."""
    whole = math.floor(value)
    rest = value - whole
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and (rounding == "HALF_UP" or whole % 2 == 1))
    return whole + 1 if up else whole


def share_out(amount: int, weights: Sequence[int]) -> list[int]:
    """Give each its exact share rounded down, then one more to the largest remainders, the earlier first."""
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    exact = [Fraction(amount * weight, total) for weight in weights]
    shares = [math.floor(share) for share in exact]
    while sum(shares) < amount:
        remainders = [share - given for share, given in zip(exact, shares, strict=True)]
        shares[remainders.index(max(remainders))] += 1
    return shares


def share_out_within(amount: int, weights: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """Share out an amount; who reaches the end of the room gets just that, and the others share the rest."""
    full: dict[int, int] = {}
    amount = min(amount, sum(rooms))
    while True:
        rest = amount - sum(full.values())
        weights_left = [0 if place in full else weight for place, weight in enumerate(weights)]
        total = sum(weights_left)
        reached = [
            place
            for place, weight in enumerate(weights_left)
            if weight and Fraction(rest * weight, total) >= rooms[place]
        ]
        if not reached:
            shares = share_out(rest, weights_left)
            return [full.get(place, share) for place, share in enumerate(shares)]
        for place in reached:
            full[place] = rooms[place]


def is_selected(selection: Selection, item: Item) -> bool:
    """Return whether a selection contains an item."""
    if not (selection.skus or selection.product_ids or selection.category_ids or selection.labels):
        return True
    hit = (
        item.sku in selection.skus
        or item.product_id in selection.product_ids
        or bool(set(item.category_ids) & set(selection.category_ids))
        or bool(set(item.labels.items()) & set(selection.labels))
    )
    return hit if not selection.inverted else not hit


def choose(basket: Basket, prices: Sequence[UnitPrice], sku: str) -> UnitPrice:
    """Return the price of a SKU: for a group before all, the highest tier, with a window before without, the lowest."""
    quantity = sum(line.quantity for line in basket.lines if line.sku == sku)
    holding = [
        price
        for price in prices
        if price.minimum_quantity <= quantity
        and price.currency_code == basket.currency_code
        and (price.group == "" or price.group in basket.customer.groups)
        and (price.window.from_time_us is None or price.window.from_time_us <= basket.now_us)
        and (price.window.until_time_us is None or basket.now_us < price.window.until_time_us)
    ]
    if any(price.group for price in holding):
        holding = [price for price in holding if price.group]
    tier = max(price.minimum_quantity for price in holding)
    holding = [price for price in holding if price.minimum_quantity == tier]
    windowed = [price for price in holding if price.window.from_time_us or price.window.until_time_us]
    return min(windowed or holding, key=lambda price: (price.amount_minor, price.name))


def get_rate(terms: Terms, zone: str, tax_class: str) -> TaxRate | None:
    """Return the rate of a class in a zone; rates of the model have no windows."""
    rates = terms.rates.get((zone, tax_class), ())
    return rates[0] if rates else None


def get_parts(rate: TaxRate | None) -> list[Fraction]:
    """Return the effective rate of each component on a net amount."""
    parts: list[Fraction] = []
    for component in rate.components if rate else ():
        base = 1 + sum(parts) if component.compound else Fraction(1)
        parts.append(base * Fraction(component.rate_ppm, MILLION))
    return parts


def is_on_shipping(action: Action) -> bool:
    """Return whether an action reduces the shipping."""
    return action.target == "SHIPPING" and action.kind in ("PERCENTAGE", "AMOUNT")


class Model:
    """The algorithm for one basket."""

    def __init__(self, basket: Basket, terms: Terms) -> None:
        """Keep the basket and its terms."""
        self.basket = basket
        self.terms = terms
        self.rules = terms.rules
        self.zone = terms.zone.name if terms.zone else ""
        self.exempt = bool(basket.exemption or basket.customer.exemption)
        self.codes = {code.strip().casefold() for code in basket.codes}

    def price(self) -> Priced:
        """Return what the basket costs."""
        lines = [self.start(line.sku, line.quantity) for line in self.basket.lines]
        shipping = None
        if self.basket.shipping_minor is not None or self.basket.shipping_method:
            shipping = ModelLine(Item("", tax_class=self.get_shipping_class()), 1, 0, 0, 0)
        applied = self.discount(lines, shipping)
        for line in [*lines, shipping] if shipping else lines:
            self.tax(line)
        gross = sum(line.left + (0 if self.rules.prices_include_tax else line.tax) for line in lines)
        if shipping:
            gross += shipping.left + (0 if self.rules.prices_include_tax else shipping.tax)
        return Priced(lines, shipping, applied, gross)

    def start(self, sku: str, units: int) -> ModelLine:
        """Return a line at its unit price in the zone of the basket."""
        price = choose(self.basket, self.terms.prices[sku], sku)
        item = self.terms.items.get(sku, Item(sku))
        unit_price = self.convert(price.amount_minor, item.tax_class)
        return ModelLine(item, units, unit_price, self.convert(price.floor_minor, item.tax_class), unit_price * units)

    def convert(self, amount: int, tax_class: str) -> int:
        """Replace the tax that a gross price includes by the tax that is due."""
        if not self.rules.prices_include_tax:
            return amount
        due = sum(get_parts(get_rate(self.terms, self.zone, tax_class)), Fraction(0))
        included = due
        if self.rules.home_zone and self.rules.home_zone != self.zone and self.rules.kept_price == "KEEP_NET":
            included = sum(get_parts(get_rate(self.terms, self.rules.home_zone, tax_class)), Fraction(0))
        if self.exempt:
            due = Fraction(0)
        return round_half(Fraction(amount) * (1 + due) / (1 + included), self.rules.rounding)

    def get_shipping_class(self) -> str:
        """Return the tax class of the shipping."""
        method = self.terms.shipping_methods.get(self.basket.shipping_method)
        return (method.tax_class if method else "") or self.rules.shipping_tax_class

    def price_shipping(self, shipping: ModelLine | None, lines: list[ModelLine]) -> None:
        """Set the price of the shipping by what is left of the lines."""
        if shipping is None:
            return
        amount = self.basket.shipping_minor
        if amount is None:
            method = self.terms.shipping_methods[self.basket.shipping_method]
            subtotal = sum(line.left for line in lines)
            weight = sum(line.item.weight_g * line.units for line in lines)
            measure = {"FLAT": 0, "BY_WEIGHT": weight, "BY_SUBTOTAL": subtotal}[method.basis]
            reached = [price for price in method.prices if price.minimum <= measure]
            amount = self.convert(max(reached, key=lambda one: one.minimum).amount_minor, self.get_shipping_class())
            if method.free_from_minor is not None and subtotal >= method.free_from_minor:
                amount = 0
        shipping.unit_price = shipping.left = amount

    def discount(self, lines: list[ModelLine], shipping: ModelLine | None) -> list[str]:
        """Apply the promotions and return their names in order. The shipping is priced before those on it."""
        self.price_shipping(shipping, lines)
        ordered = sorted(self.terms.promotions, key=lambda promotion: (-promotion.priority, promotion.name))
        usable = [promotion for promotion in ordered if self.is_usable(promotion)]
        exclusive = [one for one in usable if one.exclusive and sum(self.reduce(one, lines, shipping)) > 0]
        usable = exclusive[:1] or [one for one in usable if not one.exclusive]
        on_lines = [one for one in usable if not is_on_shipping(one.action)]
        applied = self.apply(on_lines, lines, shipping)
        self.price_shipping(shipping, lines)
        return applied + self.apply([one for one in usable if is_on_shipping(one.action)], lines, shipping)

    def apply(self, promotions: list[Promotion], lines: list[ModelLine], shipping: ModelLine | None) -> list[str]:
        """Apply promotions one after the other and return the names of those that take anything off."""
        applied = []
        for promotion in promotions:
            shares = self.reduce(promotion, lines, shipping)
            if not sum(shares):
                continue
            applied.append(promotion.name)
            for line, share in zip([*lines, shipping] if shipping else lines, shares, strict=False):
                line.left -= share
                if share:
                    line.discounts[promotion.name] = share
        return applied

    def is_usable(self, promotion: Promotion) -> bool:
        """Return whether coupon, currency and budget allow a promotion."""
        if promotion.requires_coupon:
            coupons = [self.terms.coupons[code] for code in self.codes if code in self.terms.coupons]
            if promotion.name not in [coupon.promotion for coupon in coupons]:
                return False
        if promotion.currency_code and promotion.currency_code != self.basket.currency_code:
            return False
        usage = self.terms.usages.get(promotion.name, Usage())
        if promotion.uses_max is not None and usage.uses >= promotion.uses_max:
            return False
        return promotion.budget_minor is None or usage.discount_minor < promotion.budget_minor

    def meets(self, promotion: Promotion, lines: list[ModelLine]) -> bool:
        """Return whether the conditions are met by what is left."""
        conditions = promotion.conditions
        chosen = [line for line in lines if is_selected(conditions.items, line.item)]
        return (
            sum(line.left for line in lines) >= conditions.subtotal_min_minor
            and len(chosen) > 0
            and sum(line.units for line in chosen) >= conditions.units_min
            and sum(line.left for line in chosen) >= conditions.amount_min_minor
            and (not conditions.groups or bool(conditions.groups & self.basket.customer.groups))
            and (not conditions.first_order or self.basket.customer.first_order)
        )

    def reduce(self, promotion: Promotion, lines: list[ModelLine], shipping: ModelLine | None) -> list[int]:
        """Return the share of each line and, last, of the shipping."""
        action = promotion.action
        nothing = [0] * len(lines)
        if not self.meets(promotion, lines):
            return [*nothing, 0]
        caps = [] if action.discount_max_minor is None else [action.discount_max_minor]
        if promotion.budget_minor is not None:
            spent = self.terms.usages.get(promotion.name, Usage()).discount_minor
            caps.append(promotion.budget_minor - spent)
        chosen = [line for line in lines if is_selected(action.items, line.item)]
        value = self.get_value(action, chosen)
        if is_on_shipping(action):
            left = shipping.left if shipping else 0
            percentage = round_half(Fraction(left * value, MILLION), self.rules.rounding)
            share = percentage if action.kind == "PERCENTAGE" else value
            return [*nothing, min([share, left, *caps])]
        units = [self.count(action, lines).get(place, 0) for place in range(len(lines))]
        rooms = [
            max(0, round_half(Fraction(line.left * count, line.units), self.rules.rounding) - line.floor * count)
            for line, count in zip(lines, units, strict=True)
        ]
        if action.kind == "AMOUNT" and action.target == "ORDER":
            weights = [line.left if room else 0 for line, room in zip(lines, rooms, strict=True)]
            return [*share_out_within(min([value, *caps]), weights, rooms), 0]
        shares = [
            min(room, self.get_share(action, line, count, value)) if count else 0
            for line, count, room in zip(lines, units, rooms, strict=True)
        ]
        if caps and sum(shares) > min(caps):
            shares = share_out(min(caps), shares)
        return [*shares, 0]

    def get_value(self, action: Action, chosen: list[ModelLine]) -> int:
        """Return the value of the highest tier that is reached."""
        units, amount = sum(line.units for line in chosen), sum(line.left for line in chosen)
        value = action.value
        for tier in sorted(action.tiers, key=lambda one: (one.amount_min_minor, one.units_min)):
            if units >= tier.units_min and amount >= tier.amount_min_minor:
                value = tier.value
        return value

    def get_share(self, action: Action, line: ModelLine, count: int, value: int) -> int:
        """Return what an action takes off some units of a line."""
        worth = Fraction(line.left * count, line.units)
        if action.kind in ("PERCENTAGE", "BUY_X_GET_Y"):
            return round_half(worth * value / MILLION, self.rules.rounding)
        if action.kind == "FIXED_UNIT_PRICE":
            return round_half(max(Fraction(0), worth - value * count), self.rules.rounding)
        return value if action.target == "LINES" else value * count

    def count(self, action: Action, lines: list[ModelLine]) -> dict[int, int]:
        """Return the units that an action reduces, by picking them one by one."""
        places = [place for place, line in enumerate(lines) if is_selected(action.items, line.item)]
        most = sum(lines[place].units for place in places)
        may_pick: Callable[[int], bool] = lambda place: True  # noqa: E731
        spare = [0]
        bought: list[int] = []
        if action.kind == "BUY_X_GET_Y":
            selection = action.items if action.bought is None else action.bought
            bought = [place for place, line in enumerate(lines) if is_selected(selection, line.item)]
            groups = self.count_groups(action, lines, places, bought)
            most = groups * action.get_units
            spare = [sum(lines[place].units for place in bought) - groups * action.buy_units]
            may_pick = lambda place: place not in bought or spare[0] > 0  # noqa: E731
        if action.units_max is not None:
            most = min(most, action.units_max)
        sign = -1 if action.dearest_first else 1
        places.sort(key=lambda place: (sign * Fraction(lines[place].left, lines[place].units), place))
        picked: dict[int, int] = {}
        for place in places:
            for _ in range(lines[place].units):
                if sum(picked.values()) < most and may_pick(place):
                    picked[place] = picked.get(place, 0) + 1
                    if place in bought:
                        spare[0] -= 1
        return picked

    def count_groups(self, action: Action, lines: list[ModelLine], places: list[int], bought: list[int]) -> int:
        """Return the number of whole groups, by trying one more until it does not fit."""
        only_bought = sum(lines[place].units for place in bought if place not in places)
        only_rewards = sum(lines[place].units for place in places if place not in bought)
        both = sum(lines[place].units for place in places if place in bought)
        groups = 0
        while True:
            need_bought = max(0, (groups + 1) * action.buy_units - only_bought)
            need_rewards = max(0, (groups + 1) * action.get_units - only_rewards)
            if need_bought + need_rewards > both:
                return groups
            groups += 1

    def tax(self, line: ModelLine) -> None:
        """Set the tax of each component."""
        parts = get_parts(get_rate(self.terms, self.zone, line.item.tax_class))
        if self.exempt:
            line.taxes = [0] * len(parts)
            return
        amounts = [line.left]
        if self.rules.tax_rounding == "PER_UNIT":
            amounts = [line.left // line.units + (place < line.left % line.units) for place in range(line.units)]
        line.taxes = [0] * len(parts)
        for amount in amounts:
            given = 0
            for place, part in enumerate(parts):
                exact = amount * part / (1 + sum(parts)) if self.rules.prices_include_tax else amount * part
                tax = round_half(exact, self.rules.rounding)
                if self.rules.prices_include_tax:
                    tax = min(tax, amount - given)
                given += tax
                line.taxes[place] += tax


def check_case(basket: Basket, terms: Terms, priced: PricedBasket) -> None:
    """Assert that a priced basket keeps the invariants and agrees with the model."""
    check_invariants(priced)
    assert describe(priced) == describe_model(Model(basket, terms).price()), f"{basket} {terms}"


def describe(basket: PricedBasket) -> list[object]:
    """Return all that both implementations calculate."""
    amounts = [line.amount for line in basket.lines] + ([basket.shipping] if basket.shipping else [])
    return [
        [line.unit_price_minor for line in basket.lines],
        [{share.promotion: share.discount_minor for share in amount.shares} for amount in amounts],
        [[tax.tax_minor for tax in amount.taxes] for amount in amounts],
        [promotion.promotion for promotion in basket.promotions],
        basket.gross_minor,
    ]


def describe_model(priced: Priced) -> list[object]:
    """Return the same of the model."""
    lines = [*priced.lines, priced.shipping] if priced.shipping else priced.lines
    return [
        [line.unit_price for line in priced.lines],
        [line.discounts for line in lines],
        [line.taxes for line in lines],
        priced.applied,
        priced.gross,
    ]


def check_invariants(basket: PricedBasket) -> None:
    """Assert what holds for every basket."""
    amounts = [line.amount for line in basket.lines] + ([basket.shipping] if basket.shipping else [])
    for amount in amounts:
        left = amount.price_minor - amount.discount_minor
        assert left == (amount.gross_minor if basket.prices_include_tax else amount.net_minor)
        assert amount.discount_minor == sum(share.discount_minor for share in amount.shares)
        assert amount.tax_minor == sum(tax.tax_minor for tax in amount.taxes)
        assert min(left, amount.net_minor, amount.tax_minor, amount.discount_minor) >= 0
    shares = [share for amount in amounts for share in amount.shares]
    for promotion in basket.promotions:
        mine = [share.discount_minor for share in shares if share.promotion == promotion.promotion]
        assert promotion.discount_minor == sum(mine) > 0
    assert basket.discount_minor == sum(promotion.discount_minor for promotion in basket.promotions)
    assert basket.gross_minor == sum(amount.gross_minor for amount in amounts) == basket.net_minor + basket.tax_minor
