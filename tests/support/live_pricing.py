"""Random terms of the pricing model as resources of a running server, and what its orders should cost by the model.

The messages are built from the model's terms, so a field that the server reads, stores or freezes wrongly shows up as
a difference. Amounts are integers in minor units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from msgspec.structs import replace

from storekeep.client import (
    Address,
    Category,
    Customer,
    InvalidField,
    ItemSelection,
    OrderTaxExemption,
    Product,
    Promotion,
    PromotionAction,
    PromotionConditions,
    Quote,
    TaxComponent,
    TaxRate,
)
from storekeep.server.domain.pricing import terms as model
from storekeep.server.domain.pricing.baskets import Basket, BasketLine
from storekeep.v1.orders_pb2 import PlaceOrderLine
from storekeep.v1.pricing_pb2 import PromotionTier
from tests.support.pricing_inputs import make_promotion, make_rate, make_units, some
from tests.support.pricing_model import Model, ModelLine, Priced, choose
from tests.support.shops import new_id
from tests.support.tills import Receipt, Till, make_money, open_till, read_receipt

PRICE_MAX = 30_000
HOME = "taxZones/home"
HOME_RATES = {"standard": ("19",), "reduced": ("5", "9.975 compound")}
SKUS = {
    "A": ("p1", {"colour": "red"}, ""),
    "B": ("p1", {}, "reduced"),
    "C": ("p2", {"colour": "blue"}, ""),
    "D": ("p3", {}, ""),
}
"""Letter of a SKU -> its product, its own labels and its tax class."""
PRODUCTS: dict[str, tuple[frozenset[str], dict[str, str]]] = {
    "p1": (frozenset({"c1"}), {}),
    "p2": (frozenset({"c1", "c2"}), {}),
    "p3": (frozenset(), {"colour": "red"}),
}
"""Product -> its categories, of which c1 contains c2, and its labels."""
EXEMPTION = {"reason": "reseller", "certificate": "C-1"}


@dataclass
class LiveCase:
    """An order of random lines under random terms.

    Attributes:
        addresses: by the name of the zone; "" is outside of all zones.
        offered: by SKU, all its prices.
        prices: by SKU, those that hold for the lines: all of them, and from the order on the one that it keeps.
        promotions: by rank; from the order on those that it keeps.
        created: the names of all promotions of the case.
        lines, units: the SKU of each line, and its units without cancelled ones.
    """

    till: Till
    random: Random
    rules: model.Rules
    addresses: dict[str, Address]
    rates: dict[tuple[str, str], tuple[model.TaxRate, ...]]
    items: dict[str, model.Item] = field(default_factory=dict)
    offered: dict[str, tuple[model.UnitPrice, ...]] = field(default_factory=dict)
    prices: dict[str, tuple[model.UnitPrice, ...]] = field(default_factory=dict)
    promotions: tuple[model.Promotion, ...] = ()
    coupons: dict[str, model.CouponCode] = field(default_factory=dict)
    usages: dict[str, model.Usage] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    facts: model.Customer = field(default_factory=model.Customer)
    customer: str = ""
    zone: str = ""
    shipping: int | None = None
    method: model.ShippingMethod | None = None
    exempt: bool = False

    def price(self) -> Priced:
        """Return what the lines cost by the model."""
        exemption = model.Exemption(**EXEMPTION) if self.exempt else None
        codes = tuple(self.coupons)
        method = self.method.name if self.method else ""
        basket = replace(
            self._build_basket(),
            codes=codes,
            shipping_minor=self.shipping,
            shipping_method=method,
            exemption=exemption,
        )
        terms = model.Terms(
            rules=self.rules,
            zone=model.TaxZone(self.zone, ()) if self.zone else None,
            rates=self.rates,
            promotions=self.promotions,
            prices=self.prices,
            items=self.items,
            coupons=self.coupons,
            usages=self.usages,
            shipping_methods={self.method.name: self.method} if self.method else {},
        )
        return Model(basket, terms).price()

    def _build_basket(self) -> Basket:
        lines = [BasketLine(sku, units) for sku, units in zip(self.lines, self.units, strict=True) if units]
        return Basket(tuple(lines), "EUR", 1, self.facts)

    def buy(self) -> Receipt:
        """Order the lines, a third of the time by a quote, and keep what the order freezes."""
        priced = self.price()
        lines, fields = self._build_request(priced)
        self.coupons = {code: self.coupons[code] for code in fields["coupon_codes"]}
        spent = add_up(priced)
        self.promotions = tuple(
            replace(one, uses_max=None, budget_minor=None if one.budget_minor is None else spent[one.name])
            for one in self.promotions
            if one.name in spent
        )
        self.keep_prices(self.lines)
        if self.random.random() < 0.3:
            placed = [PlaceOrderLine(sku=sku, quantity=units) for sku, units in lines]
            quote = self.till.client.quotes.create(Quote(lines=placed, currency_code="EUR", **fields))
            self.till.client.quotes.send(quote.name)
            self.end_promotions()
            return read_receipt(self.till.client.quotes.accept(quote.name))
        receipt = self.till.buy(*lines, **fields)
        self.end_promotions()
        return receipt

    def buy_again(self) -> tuple[Receipt, dict[str, int]]:
        """Order other lines by the same promotions. Return what it costs, and the discount of each promotion."""
        self.lines = [self.random.choice(list(self.items)) for _ in range(self.random.randint(1, 3))]
        self.units = [make_units(self.random) for _ in self.lines]
        priced = self.price()
        expected = describe_model(self)
        lines, fields = self._build_request(priced)
        receipt = self.till.buy(*lines, **fields)
        assert describe(receipt) == expected
        spent = add_up(priced)
        self.count_uses(spent, 1)
        return receipt, spent

    def count_uses(self, spent: dict[str, int], sign: int) -> None:
        """Count the uses of an order, or take them back, for promotions that have a limit."""
        for one in self.promotions:
            if one.name in spent and (one.uses_max is not None or one.budget_minor is not None):
                old = self.usages.get(one.name, model.Usage())
                self.usages[one.name] = model.Usage(old.uses + sign, old.discount_minor + sign * spent[one.name])

    def _build_request(self, priced: Priced) -> tuple[list[tuple[str, int]], dict[str, Any]]:
        """Return the lines and the fields of an order. The codes that do not apply by the model are refused."""
        fields: dict[str, Any] = {
            "customer": self.customer,
            "shipping": None if self.shipping is None else make_money(self.shipping),
            "shipping_method": self.method.name if self.method else "",
            "shipping_address": self.addresses[self.zone],
            "tax_exemption": OrderTaxExemption(**EXEMPTION) if self.exempt else None,
        }
        lines = list(zip(self.lines, self.units, strict=True))
        applied = [code for code, coupon in self.coupons.items() if coupon.promotion in priced.applied]
        refused = self.till.refuse(*lines, coupon_codes=list(self.coupons), **fields)
        assert len(refused) == len(self.coupons) - len(applied)
        return lines, fields | {"coupon_codes": applied}

    def keep_prices(self, skus: Iterable[str]) -> None:
        """Keep the prices that hold for SKUs of the order now."""
        basket = self._build_basket()
        for sku in set(skus):
            chosen = choose(basket, self.prices[sku], sku)
            self.prices[sku] = (replace(chosen, group="", minimum_quantity=1),)

    def end_promotions(self) -> None:
        """End all promotions: they would apply to the next case."""
        for name in self.created:
            self.till.client.promotions.end(name)

    def change(self, receipt: Receipt) -> Receipt:
        """Move the order, add a line, change the units of a line or cancel some, at random; return what it costs."""
        place = self.random.choice([place for place, units in enumerate(self.units) if units])
        others = sorted(set(self.items) - set(self.lines), key=list(self.items).index)
        kind = self.random.randint(0, 4)
        units = self.random.randint(1, 12)
        if kind == 0:
            self.zone = self.random.choice(list(self.addresses))
            return self.till.move(receipt, self.addresses[self.zone])
        if kind == 1 and others:
            sku = self.random.choice(others)
            self.lines.append(sku)
            self.units.append(units)
            self.keep_prices([sku])
            return self.till.edit(receipt, add=[(sku, units)])
        if kind == 2:
            self.units[place] = units
            return self.till.edit(receipt, change={place + 1: units})
        units = self.random.randint(1, self.units[place])
        self.units[place] -= units
        return self.till.cancel(receipt, **{f"line_{place + 1}": units})


def add_up(priced: Priced) -> dict[str, int]:
    """Return the discount of each promotion that applied."""
    return {name: sum(line.discounts.get(name, 0) for line in list_lines(priced)) for name in priced.applied}


def list_lines(priced: Priced) -> list[ModelLine]:
    """Return the lines and the shipping of the model."""
    return [*priced.lines, priced.shipping] if priced.shipping else list(priced.lines)


def describe(receipt: Receipt) -> list[Any]:
    """Return what an order costs: lines that have units, shipping, promotions and total."""
    places = [place for place, line in enumerate(receipt.order.lines) if line.quantity > line.cancelled_quantity]
    return [
        [(receipt.discounts[place], receipt.components[place], receipt.totals[place]) for place in places],
        receipt.shipping[1:],
        [one.promotion for one in receipt.order.price_details.discounts],
        receipt.total,
    ]


def describe_model(case: LiveCase) -> list[Any]:
    """Return the same by the model."""
    priced = case.price()
    added = [0 if case.rules.prices_include_tax else line.tax for line in list_lines(priced)]
    totals = [line.left + tax for line, tax in zip(list_lines(priced), added, strict=True)]
    shipping = () if priced.shipping is None else (priced.shipping.tax, totals.pop())
    lines = [
        (sum(line.discounts.values()), line.taxes, total) for line, total in zip(priced.lines, totals, strict=True)
    ]
    return [lines, shipping, priced.applied, priced.gross]


class LivePricing:
    """Makes cases at one server.

    Args:
        rules: the rules of the server's settings.
    """

    def __init__(self, till: Till, rules: model.Rules) -> None:
        self._till = till
        self._rules = rules
        self._ids = {name: new_id(name) for name in ("c1", "c2", *PRODUCTS)}
        catalog = till.client
        catalog.categories.create(Category(display_name="1"), category_id=self._ids["c1"])
        inner = Category(display_name="2", parent_category=f"categories/{self._ids['c1']}")
        catalog.categories.create(inner, category_id=self._ids["c2"])
        for name, (categories, labels) in PRODUCTS.items():
            deepest = f"categories/{self._ids[max(categories)]}" if categories else ""
            product = Product(display_name=name, category=deepest, labels=labels)
            catalog.products.create(product, product_id=self._ids[name])
        self._home = till.zone("home", **HOME_RATES)

    def make(self, seed: int) -> LiveCase:
        """Create the resources of a case."""
        random = Random(seed)
        away = new_id("z")
        addresses = {
            "": Address(recipient="Ada", region_code="JP"),
            HOME: self._home,
            f"taxZones/{away}": self._till.zone(away),
        }
        case = LiveCase(self._till, random, self._rules, addresses, self._make_rates(random, f"taxZones/{away}"))
        for letter in SKUS:
            self._make_sku(case, letter)
        case.prices = dict(case.offered)
        groups = some(random, ("gold", "trade"), 2)
        case.customer = self._till.client.customers.create(Customer(display_name="C", groups=sorted(groups))).name
        case.facts = model.Customer(groups, first_order=True)
        self._make_promotions(case)
        case.lines = [random.choice(list(case.items)) for _ in range(random.randint(1, 5))]
        case.units = [make_units(random) for _ in case.lines]
        case.zone = random.choice(list(addresses))
        if random.random() < 0.5:
            case.method = self._make_method(random)
        if random.random() < 0.3:
            case.shipping = random.randint(0, 2_000)
        case.exempt = random.random() < 0.2
        return case

    def _make_rates(self, random: Random, away: str) -> dict[tuple[str, str], tuple[model.TaxRate, ...]]:
        standard = (model.TaxComponent("", 190_000),)
        reduced = (model.TaxComponent("", 50_000), model.TaxComponent("", 99_750, compound=True))
        rates = {
            (HOME, ""): (model.TaxRate("taxRates/1", HOME, standard),),
            (HOME, "reduced"): (model.TaxRate("taxRates/2", HOME, reduced, "reduced"),),
        }
        classes: tuple[tuple[str, ...], ...] = ((), ("",), ("", "reduced"))
        for tax_class in random.choice(classes):
            rate = make_rate(random, away, tax_class)
            rates[away, tax_class] = (rate,)
            parts = [
                TaxComponent(display_name=str(place), rate_ppm=part.rate_ppm, compound=part.compound)
                for place, part in enumerate(rate.components)
            ]
            self._till.client.tax_rates.create(TaxRate(tax_zone=away, tax_class=tax_class, components=parts))
        return rates

    def _make_sku(self, case: LiveCase, letter: str) -> None:
        """Create a SKU with a price for all and up to two special ones."""
        random = case.random
        product, labels, tax_class = SKUS[letter]
        self._till.product = f"products/{self._ids[product]}"
        price = random.randint(0, PRICE_MAX)
        weight_g = random.choice((0, random.randint(1, 5_000)))
        sku = self._till.sku(price, labels=labels, tax_class=tax_class, weight_g=weight_g)
        categories, more = PRODUCTS[product]
        case.items[sku] = model.Item(sku, product, categories, more | labels, tax_class, weight_g)
        prices = [model.UnitPrice(sku, "EUR", price)]
        for _ in range(random.randint(0, 2)):
            amount, group, least = random.randint(1, PRICE_MAX), random.choice(("", "gold")), random.randint(1, 6)
            floor = random.choice((0, random.randint(0, amount)))
            if any((one.group, one.minimum_quantity) == (group, least) for one in prices[1:]):
                continue
            window = model.Window(1, None)
            name = self._till.add_price(
                sku,
                amount,
                floor=floor or None,
                customer_group=group,
                minimum_quantity=least,
                start_time={"seconds": 1},
            )
            prices.append(model.UnitPrice(sku, "EUR", amount, name, group, least, window, floor))
        case.offered[sku] = tuple(prices)

    def _make_method(self, random: Random) -> model.ShippingMethod:
        """Create a shipping method with up to three prices."""
        basis = random.choice(model.SHIPPING_BASES)
        minimums = [0] if basis == model.FLAT else [0, *sorted(random.sample(range(1, PRICE_MAX), 2))]
        prices = tuple(model.ShippingPrice(random.randint(0, 2_000), minimum) for minimum in minimums)
        free_from = random.choice((None, random.randint(1, 2 * PRICE_MAX)))
        tax_class = random.choice(("", "reduced"))

        def build(price: model.ShippingPrice) -> dict[str, Any]:
            by_basis = {
                model.FLAT: {},
                model.BY_WEIGHT: {"min_weight_g": price.minimum},
                model.BY_SUBTOTAL: {"min_subtotal": make_money(price.minimum)},
            }
            return {"amount": make_money(price.amount_minor), **by_basis[basis]}

        name = self._till.method(
            *map(build, prices),
            basis=f"SHIPPING_BASIS_{basis}",
            free_from=None if free_from is None else make_money(free_from),
            tax_class=tax_class,
        )
        return model.ShippingMethod(name, "EUR", prices, basis=basis, free_from_minor=free_from, tax_class=tax_class)

    def _make_promotions(self, case: LiveCase) -> None:
        """Create up to four active promotions, and coupons of most of those that need one."""
        random, prefix = case.random, new_id("p")
        made = []
        for place in range(random.randint(0, 4)):
            one = _fit(make_promotion(random, f"promotions/{prefix}-{place}"), list(case.items))
            try:
                message = _PromotionBuilder(one, self._ids).build()
                self._till.client.promotions.create(message, promotion_id=one.name.removeprefix("promotions/"))
            except InvalidField:  # an action that contradicts itself
                continue
            self._till.client.promotions.activate(one.name)
            case.created.append(one.name)
            made.append(one)
            if one.requires_coupon and random.random() < 0.7:
                code = self._till.coupon(one.name).lower()
                case.coupons[code] = model.CouponCode(code, f"coupons/{code}", one.name)
        case.promotions = tuple(sorted(made, key=lambda one: (-one.priority, one.name)))


def _fit(one: model.Promotion, skus: list[str]) -> model.Promotion:
    """Return a promotion of the model's inputs with amounts that fit the prices, and SKUs in place of letters."""
    action = one.action
    has_amount = action.kind in (model.AMOUNT, model.FIXED_UNIT_PRICE)
    has_target = action.kind in (model.PERCENTAGE, model.AMOUNT)
    in_groups = action.kind == model.BUY_X_GET_Y

    def select(selection: model.Selection) -> model.Selection:
        return replace(selection, skus=frozenset(skus["ABCD".index(letter)] for letter in selection.skus))

    def fit(value: int) -> int:
        return value % PRICE_MAX if has_amount else value

    cap = action.discount_max_minor
    action = replace(
        action,
        value=fit(action.value),
        target=action.target if has_target else model.LINES,
        items=select(action.items),
        tiers=tuple(replace(tier, value=fit(tier.value)) for tier in action.tiers),
        bought=select(action.bought) if in_groups and action.bought is not None else None,
        units_max=action.units_max or None,
        discount_max_minor=None if cap is None else cap % PRICE_MAX,
    )
    conditions = replace(one.conditions, items=select(one.conditions.items))
    return replace(one, action=action, conditions=conditions, currency_code=one.currency_code or "EUR")


@dataclass
class _PromotionBuilder:
    """Builds the message of a promotion.

    Attributes:
        ids: the id of each product and category of the model.
    """

    promotion: model.Promotion
    ids: dict[str, str]

    def build(self) -> Promotion:
        """Return the message."""
        one = self.promotion
        conditions = one.conditions
        return Promotion(
            action=self._build_action(one.action),
            conditions=PromotionConditions(
                min_subtotal=self._pay(conditions.subtotal_min_minor or None),
                items=self._select(conditions.items),
                min_units=conditions.units_min,
                min_amount=self._pay(conditions.amount_min_minor or None),
                customer_groups=sorted(conditions.groups),
                first_order=conditions.first_order,
            ),
            priority=one.priority,
            exclusive=one.exclusive,
            requires_coupon=one.requires_coupon,
            currency_code=one.currency_code,
            max_uses=one.uses_max or 0,
            budget=self._pay(one.budget_minor),
        )

    def _build_action(self, action: model.Action) -> PromotionAction:
        has_amount = action.kind in (model.AMOUNT, model.FIXED_UNIT_PRICE)

        def build_value(value: int) -> dict[str, Any]:
            return {"amount": self._pay(value)} if has_amount else {"percentage_ppm": value}

        only: dict[str, Any] = {}
        if action.kind in (model.PERCENTAGE, model.AMOUNT):
            only = {"target": f"PROMOTION_TARGET_{action.target}"}
        if action.kind == model.BUY_X_GET_Y:
            bought = None if action.bought is None else self._select(action.bought)
            only = {"bought": bought, "buy_units": action.buy_units, "get_units": action.get_units}
        return PromotionAction(
            kind=f"PROMOTION_ACTION_KIND_{action.kind}",
            items=self._select(action.items),
            tiers=[
                PromotionTier(
                    min_units=tier.units_min,
                    min_amount=self._pay(tier.amount_min_minor or None),
                    **build_value(tier.value),
                )
                for tier in action.tiers
            ],
            dearest_first=action.dearest_first,
            max_units=action.units_max or 0,
            max_discount=self._pay(action.discount_max_minor),
            **build_value(action.value),
            **only,
        )

    def _pay(self, amount: int | None) -> Any:
        return None if amount is None else make_money(amount, self.promotion.currency_code)

    def _select(self, selection: model.Selection) -> ItemSelection:
        return ItemSelection(
            skus=sorted(selection.skus),
            products=[f"products/{self.ids[name]}" for name in selection.product_ids],
            categories=[f"categories/{self.ids[name]}" for name in selection.category_ids],
            labels=dict(selection.labels),
            inverted=selection.inverted,
        )


CHANGES, ORDERS = 5, 6
SETTINGS: dict[str, tuple[dict[str, str], model.Rules]] = {
    "net": ({}, model.Rules()),
    "gross": (
        {"prices_include_tax": "true", "home_tax_zone": HOME},
        model.Rules(prices_include_tax=True, home_zone=HOME),
    ),
    "gross everywhere, by unit, half even": (
        {"prices_include_tax": "true", "tax_rounding": "PER_UNIT", "price_rounding": "HALF_EVEN"},
        model.Rules(rounding="HALF_EVEN", tax_rounding="PER_UNIT", prices_include_tax=True),
    ),
    "net by unit": (
        {"tax_rounding": "PER_UNIT", "shipping_tax_class": "reduced"},
        model.Rules(tax_rounding="PER_UNIT", shipping_tax_class="reduced"),
    ),
}
"""The settings of a server, and the rules that they mean."""


def check_orders(engine: str, folder: Path, kind: str, *, seeds: Iterable[int]) -> None:
    """Assert that random orders of a server cost what the model says, when they are placed and after each change.

    Args:
        kind: the settings of the server.
    """
    settings, rules = SETTINGS[kind]
    with open_till(engine, folder, **settings) as till:
        pricing = LivePricing(till, rules)
        for seed in seeds:
            case = pricing.make(seed)
            expected = describe_model(case)
            receipt = case.buy()
            assert describe(receipt) == expected, seed
            for _ in range(CHANGES):
                receipt = case.change(receipt)
                if not any(case.units):
                    assert receipt.total == 0
                    break
                assert describe(receipt) == describe_model(case), seed


def check_uses(engine: str, folder: Path, *, seeds: Iterable[int]) -> None:
    """Assert that orders under the same promotions cost what the limits leave, and cancelled ones count no more.

    Each order has a customer of its own, as for all of them it is the first one.
    """
    with open_till(engine, folder) as till:
        pricing = LivePricing(till, model.Rules())
        for seed in seeds:
            case = pricing.make(seed)
            placed: list[tuple[Receipt, dict[str, int]]] = []
            for _ in range(ORDERS):
                groups = sorted(case.facts.groups)
                case.customer = till.client.customers.create(Customer(display_name="C", groups=groups)).name
                placed.append(case.buy_again())
                if case.random.random() < 0.3:
                    receipt, spent = placed.pop(case.random.randrange(len(placed)))
                    till.client.orders.cancel(receipt.order.name)
                    case.count_uses(spent, -1)
            case.end_promotions()
