"""The terms of pricing: unit prices, tax, promotions, coupons and shipping methods as the calculation reads them.

All structs are immutable, so that one snapshot serves many baskets. Amounts are minor units. Rates are parts per
million: 190,000 is 19 %. Times are microseconds since 1970; a window has its first instant and not its last.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.exemptions import Exemption

PPM = 1_000_000
"""The parts per million of the whole."""

HALF_UP, HALF_EVEN = "HALF_UP", "HALF_EVEN"
ROUNDINGS = (HALF_UP, HALF_EVEN)
"""Half up rounds .5 away from zero; half even to the even neighbour."""
PER_LINE, PER_UNIT = "PER_LINE", "PER_UNIT"
TAX_ROUNDINGS = (PER_LINE, PER_UNIT)
"""Round the tax of each line, or the tax of each unit."""
KEEP_NET, KEEP_GROSS = "KEEP_NET", "KEEP_GROSS"
KEPT_PRICES = (KEEP_NET, KEEP_GROSS)
"""Which price stays the same if a price that includes the home zone's tax is sold into another zone."""

PERCENTAGE, AMOUNT, FIXED_UNIT_PRICE, BUY_X_GET_Y = "PERCENTAGE", "AMOUNT", "FIXED_UNIT_PRICE", "BUY_X_GET_Y"
ACTION_KINDS = (PERCENTAGE, AMOUNT, FIXED_UNIT_PRICE, BUY_X_GET_Y)
LINES, UNITS, ORDER, SHIPPING = "LINES", "UNITS", "ORDER", "SHIPPING"
TARGETS = (LINES, UNITS, ORDER, SHIPPING)
"""An amount comes off each line, each unit, the eligible lines together, or the shipping."""
FLAT, BY_WEIGHT, BY_SUBTOTAL = "FLAT", "BY_WEIGHT", "BY_SUBTOTAL"
SHIPPING_BASES = (FLAT, BY_WEIGHT, BY_SUBTOTAL)


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """A span of time; None for no bound."""

    from_time_us: int | None = None
    until_time_us: int | None = None

    def contains(self, now_us: int) -> bool:
        """Return whether an instant is in the window: not before its begin, and before its end."""
        begun = self.from_time_us is None or self.from_time_us <= now_us
        return begun and (self.until_time_us is None or now_us < self.until_time_us)


END_OF_TIME_US = 2**63


def find_span(windows: Iterable[Window], now_us: int) -> tuple[int, int]:
    """Return the instants from which and until which each of some windows contains an instant, or not, as it does now.

    The first is in the span and the last is not.
    """
    edges = [edge for window in windows for edge in (window.from_time_us, window.until_time_us) if edge is not None]
    from_us = max([edge for edge in edges if edge <= now_us], default=0)
    return from_us, min([edge for edge in edges if edge > now_us], default=END_OF_TIME_US)


ALWAYS = Window()
"""The window without bounds."""


def make_window(from_time_us: int | None, until_time_us: int | None) -> Window:
    """Return a window. There is only one without bounds, so that it is recognized at once."""
    return ALWAYS if from_time_us is None and until_time_us is None else Window(from_time_us, until_time_us)


class UnitPrice(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, cache_hash=True):
    """A price of one unit of a SKU.

    Attributes:
        name: resource name, such as `prices/{price}`; empty for the price of the variant itself.
        group: the customer group that it is for; empty for all customers.
        minimum_quantity: the tier: units of the SKU in the whole order from which it holds.
        floor_minor: the minimum price of a unit after discounts; 0 for none.
        compare_at_minor: the price to compare it with; shown only.
    """

    sku: str
    currency_code: str
    amount_minor: int
    name: str = ""
    group: str = ""
    minimum_quantity: int = 1
    window: Window = ALWAYS
    floor_minor: int = 0
    compare_at_minor: int | None = None


class Item(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The facts of a SKU that terms refer to.

    Attributes:
        product_id: its product.
        category_ids: the category of the product.
        labels: labels of the variant and of its product.
        tax_class: empty for the standard class.
        weight_g: weight of one unit in grams.
    """

    sku: str
    product_id: str = ""
    category_ids: frozenset[str] = frozenset()
    labels: Mapping[str, str] = {}
    tax_class: str = ""
    weight_g: int = 0


class TaxComponent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a tax rate.

    Attributes:
        compound: whether it also counts on what the components before it added.
    """

    display_name: str
    rate_ppm: int
    compound: bool = False


class TaxRate(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rate of one tax class in one zone.

    Attributes:
        name: resource name.
        zone: resource name of its zone.
        tax_class: empty for the standard class.
    """

    name: str
    zone: str
    components: tuple[TaxComponent, ...]
    tax_class: str = ""
    window: Window = ALWAYS


class TaxArea(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a tax zone. Empty fields match every address.

    Attributes:
        region_code: country, as in an address.
        administrative_area: state or province, compared in either case.
        postal_prefix: the beginning of the postal code, compared without spaces and in either case.
    """

    region_code: str
    administrative_area: str = ""
    postal_prefix: str = ""


class TaxZone(msgspec.Struct, frozen=True, omit_defaults=True):
    """A zone with its own tax rates."""

    name: str
    areas: tuple[TaxArea, ...]
    display_name: str = ""


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Selects items that match any of the listed things; all items if nothing is listed.

    Attributes:
        labels: (key, value) pairs.
        inverted: select the items that match none of the listed things.
        lines: in the frozen terms of an order only, instead of all others: a hexadecimal number with a bit for each
            line of the order, the first line being the lowest, which is 1 if the line is selected.
    """

    skus: frozenset[str] = frozenset()
    product_ids: frozenset[str] = frozenset()
    category_ids: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    inverted: bool = False
    lines: str = ""

    @property
    def size(self) -> int:
        """Return the number of listed things."""
        return len(self.skus) + len(self.product_ids) + len(self.category_ids) + len(self.labels)


EVERYTHING = Selection()
"""Selects all items."""


class Conditions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The conditions of a promotion. All must hold. Amounts are those that the promotions before left.

    Attributes:
        subtotal_min_minor: minimum amount of all lines.
        items: the items that the next two count.
        units_min: minimum units of these items.
        amount_min_minor: minimum amount of these items.
        groups: the customer is in any of these; empty for all customers.
        first_order: whether it is only for the first order of a customer.
    """

    subtotal_min_minor: int = 0
    items: Selection = EVERYTHING
    units_min: int = 0
    amount_min_minor: int = 0
    groups: frozenset[str] = frozenset()
    first_order: bool = False


NO_CONDITIONS = Conditions()
"""The conditions that every order meets."""


class Tier(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value that replaces that of an action from some units and some amount of its items on.

    Attributes:
        value: parts per million or minor units, as the action.
    """

    value: int
    units_min: int = 0
    amount_min_minor: int = 0


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a promotion does.

    Attributes:
        kind: one of `ACTION_KINDS`.
        value: parts per million off (PERCENTAGE, and BUY_X_GET_Y for the units to get), minor units off (AMOUNT), or
            minor units of a unit (FIXED_UNIT_PRICE).
        target: one of `TARGETS`, for PERCENTAGE and AMOUNT.
        items: the items whose price it reduces.
        tiers: values for larger orders: the last tier that is reached, by amount, then units.
        bought: for BUY_X_GET_Y, the items that count as bought; without, those of `items`.
        buy_units, get_units: X and Y. Only whole groups of both count.
        dearest_first: whether the dearest units are reduced first, not the cheapest.
        units_max: the maximum number of units to reduce; None for no limit.
        discount_max_minor: the maximum discount; None for no limit.
    """

    kind: str
    value: int
    target: str = LINES
    items: Selection = EVERYTHING
    tiers: tuple[Tier, ...] = ()
    bought: Selection | None = None
    buy_units: int = 0
    get_units: int = 0
    dearest_first: bool = False
    units_max: int | None = None
    discount_max_minor: int | None = None

    @property
    def reduces_shipping(self) -> bool:
        """Return whether it reduces the shipping, not the lines."""
        return self.target == SHIPPING and self.kind in (PERCENTAGE, AMOUNT)


class Promotion(msgspec.Struct, frozen=True, omit_defaults=True):
    """An active promotion.

    Attributes:
        name: resource name.
        priority: the highest applies first, then the first by name.
        exclusive: whether it applies alone.
        requires_coupon: whether it applies only with one of its coupons.
        currency_code: the currency of its amounts and of the orders that it is for; empty for all, without amounts.
        uses_max, budget_minor: its budgets; None for no limit. `Terms.usages` says what is spent.
    """

    name: str
    action: Action
    display_name: str = ""
    conditions: Conditions = NO_CONDITIONS
    priority: int = 0
    exclusive: bool = False
    requires_coupon: bool = False
    currency_code: str = ""
    window: Window = ALWAYS
    uses_max: int | None = None
    budget_minor: int | None = None


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is spent of the budgets of a promotion."""

    uses: int = 0
    discount_minor: int = 0


class CouponCode(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A coupon as it was found for a code of a basket.

    Attributes:
        code: in lower case; see `fold_code`.
        name: resource name.
        promotion: resource name of its promotion.
        uses, customer_uses: counted uses in all, and of the basket's customer.
        uses_max, customer_uses_max: its caps; None for no limit.
    """

    code: str
    name: str
    promotion: str
    window: Window = ALWAYS
    uses: int = 0
    customer_uses: int = 0
    uses_max: int | None = None
    customer_uses_max: int | None = None


class ShippingPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A price of a shipping method from a weight in grams or a subtotal in minor units on."""

    amount_minor: int
    minimum: int = 0


class ShippingMethod(msgspec.Struct, frozen=True, omit_defaults=True):
    """A way to ship an order.

    Attributes:
        name: resource name.
        currency_code: the currency of its prices and of the orders that it is for.
        prices: by `minimum`, at least one; the last one that is reached holds.
        zones: resource names of the tax zones that it ships to; empty for everywhere.
        basis: one of `SHIPPING_BASES`: what `minimum` compares.
        free_from_minor: the amount of the discounted lines from which it costs nothing; None for never.
        tax_class: the class of the shipping; empty for the class in the settings.
    """

    name: str
    currency_code: str
    prices: tuple[ShippingPrice, ...]
    display_name: str = ""
    zones: frozenset[str] = frozenset()
    basis: str = FLAT
    free_from_minor: int | None = None
    tax_class: str = ""


class Customer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The facts of a customer that terms refer to."""

    groups: frozenset[str] = frozenset()
    first_order: bool = False
    exemption: Exemption | None = None


class Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of the calculation.

    Attributes:
        rounding: one of `ROUNDINGS`.
        tax_rounding: one of `TAX_ROUNDINGS`.
        prices_include_tax: whether prices are gross.
        home_zone: resource name of the zone whose tax gross prices include; empty for that of the address.
        kept_price: one of `KEPT_PRICES`: what stays the same for an address outside the home zone.
        shipping_tax_class: the tax class of shipping without one of its own.
        returns_uses: whether an order that is cancelled or expires gives the uses of its coupons and budgets back.
    """

    rounding: str = HALF_UP
    tax_rounding: str = PER_LINE
    prices_include_tax: bool = False
    home_zone: str = ""
    kept_price: str = KEEP_NET
    shipping_tax_class: str = ""
    returns_uses: bool = True


DEFAULT_RULES = Rules()
"""Net prices, rounded half up by line."""


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that applies to a basket. `domain/pricing/snapshot.py` keeps the shared part in memory.

    Attributes:
        version: the version of the stored resources that it was read from; 0 if nothing is configured.
        rates: by (zone, tax class); the first whose window contains the instant holds.
        promotions: highest priority first, then by name; those that cannot apply may be missing.
        prices: by SKU; all prices in the currency of the basket, in any order.
        items: by SKU.
        coupons: by folded code; unknown codes are missing.
        usages: by promotion, for promotions with a budget.
        tax_tables: what baskets with the same rates share, by zone and whether an exemption holds; see `find_table`.
        zone: the zone of the tax address; None for no tax.
        separable: what the promotions have in common if they are separable; see `separable.py`. Their windows contain
            the instant.
    """

    version: int = 0
    rules: Rules = DEFAULT_RULES
    zone: TaxZone | None = None
    rates: Mapping[tuple[str, str], tuple[TaxRate, ...]] = {}
    promotions: tuple[Promotion, ...] = ()
    prices: Mapping[str, tuple[UnitPrice, ...]] = {}
    items: Mapping[str, Item] = {}
    coupons: Mapping[str, CouponCode] = {}
    usages: Mapping[str, Usage] = {}
    shipping_methods: Mapping[str, ShippingMethod] = {}
    tax_tables: dict[tuple[str, bool], Any] = {}
    separable: Any = None


def fold_code(code: str) -> str:
    """Return a coupon code as it is compared: without surrounding spaces, in lower case."""
    return code.strip().casefold()


def find_zone(zones: tuple[TaxZone, ...], address: Address | None) -> TaxZone | None:
    """Return the zone with the most specific area that covers an address; None if no zone does.

    The longest postal prefix comes first, then an administrative area, then a country, then the name of the zone.
    """
    if address is None:
        return None
    matches = [
        ((-len(_fold(area.postal_prefix)), not area.administrative_area, not area.region_code), zone.name, zone)
        for zone in zones
        for area in zone.areas
        if _covers(area, address)
    ]
    return min(matches, key=lambda match: match[:2])[2] if matches else None


def fold_area(area: TaxArea) -> TaxArea:
    """Return an area as it is compared: two areas that cover the same addresses are equal."""
    return TaxArea(area.region_code, _fold_name(area.administrative_area), _fold(area.postal_prefix))


def describe_area(area: TaxArea) -> str:
    """Return an area as the command line writes it, such as `US/NY/100`."""
    parts = (area.region_code, area.administrative_area, area.postal_prefix)
    return "/".join(parts).rstrip("/") or "everywhere"


def _covers(area: TaxArea, address: Address) -> bool:
    """Return whether an address is in an area."""
    return (
        area.region_code in ("", address.region_code)
        and _fold_name(area.administrative_area) in ("", _fold_name(address.administrative_area))
        and _fold(address.postal_code).startswith(_fold(area.postal_prefix))
    )


def _fold_name(text: str) -> str:
    """Return a text as it is compared, however its accents and wide characters are encoded."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).strip().casefold()


def _fold(postal_code: str) -> str:
    return "".join(_fold_name(postal_code).split())
