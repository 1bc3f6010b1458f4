"""Tax: the rate of a class in a zone, the tax of an amount, and the conversion of gross prices between zones.

Each component of a rate is rounded, and the tax is their sum. Between integers there are only exact ratios.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from storekeep.server.domain.money import round_ratio
from storekeep.server.domain.pricing.baskets import PricedAmount, TaxAmount
from storekeep.server.domain.pricing.terms import HALF_EVEN, KEEP_GROSS, PER_UNIT, PPM, Rules, TaxRate, Terms, find_span

Rates = Mapping[tuple[str, str], tuple[TaxRate, ...]]
TAXED_MAX = 1_024
"""The most amounts whose tax a table keeps, some 450 bytes each."""
TABLES_MAX = 8
"""The most tables of one snapshot."""
SHARED_RATES_MAX = 1_000
"""With more rates in a snapshot, baskets share no tables."""


class EffectiveRate(NamedTuple):
    """A rate as exact ratios with one denominator.

    Attributes:
        parts: for each component, the numerator of its tax on a net amount. A compound component includes what it
            adds on the components before it.
    """

    rate: TaxRate | None
    parts: tuple[int, ...]
    denominator: int

    @property
    def total(self) -> int:
        """Return the numerator of the whole tax on a net amount."""
        return sum(self.parts)


NO_RATE = EffectiveRate(None, (), 1)
"""No rate matched: no tax and no row."""


def find_rate(rates: Rates, *, zone: str, tax_class: str, now_us: int) -> EffectiveRate:
    """Return the rate of a class in a zone at an instant."""
    for rate in rates.get((zone, tax_class), ()):
        if rate.window.contains(now_us):
            return build_effective_rate(rate)
    return NO_RATE


def build_effective_rate(rate: TaxRate) -> EffectiveRate:
    """Return the exact ratios of a rate."""
    denominator = PPM ** len(rate.components)
    parts: list[int] = []
    for component in rate.components:
        base = denominator + sum(parts) if component.compound else denominator
        parts.append(component.rate_ppm * base // PPM)
    return EffectiveRate(rate, tuple(parts), denominator)


def build_tax_amounts(rate: TaxRate, taxes: Sequence[int], *, exempt: bool) -> tuple[TaxAmount, ...]:
    """Return the tax of each component of a rate with what the rate says.

    Args:
        taxes: in minor units.
        exempt: whether an exemption took the tax away.
    """
    return tuple(
        [
            TaxAmount(rate.name, part.display_name, part.rate_ppm, tax, part.compound, exempt=exempt)
            for part, tax in zip(rate.components, taxes, strict=True)
        ]
    )


class TaxTable:
    """The tax of baskets with the same rates: those of their zone, and the conversion of their prices.

    Safe in several threads: each change is one step, and what it remembers follows from the terms.

    Attributes:
        is_exempt: whether an exemption holds.
    """

    def __init__(self, rates: Rates, *, rules: Rules, zone: str, now_us: int, exempt: bool) -> None:
        """Keep the terms.

        Args:
            zone: the zone of the tax address; empty for none.
            now_us: the instant of the rates.
            exempt: whether an exemption holds.
        """
        self._rates = rates
        self._rules = rules
        self._zone = zone
        self._now_us = now_us
        self.is_exempt = exempt
        self._half_even = rules.rounding == HALF_EVEN
        self._by_class: dict[str, tuple[EffectiveRate, tuple[int, int]]] = {}
        self._taxed: dict[tuple[int, str, int], PricedAmount] = {}
        self._from_us = self._until_us = now_us

    def find_validity(self) -> None:
        """Find out how long the table stays the same, from all rates. Otherwise it never holds again."""
        zones = (self._zone, self._rules.home_zone)
        windows = [rate.window for (zone, _), found in self._rates.items() if zone in zones for rate in found]
        self._from_us, self._until_us = find_span(windows, self._now_us)

    def holds(self, rates: Rates, rules: Rules, now_us: int) -> bool:
        """Return whether the table is the same at another instant, by some rates and rules for the same zone."""
        return rates is self._rates and self._from_us <= now_us < self._until_us and rules == self._rules

    def convert_price(self, price_minor: int, *, tax_class: str) -> int:
        """Return a price as it is in the zone of the basket.

        A net price is the same everywhere. A gross price contains the tax of the home zone, or that of the zone of the
        basket if gross prices are kept; this tax is replaced by the tax that is due.
        """
        if not self._rules.prices_include_tax:
            return price_minor
        _, (numerator, denominator) = self._find(tax_class)
        if numerator == denominator:
            return price_minor
        return round_ratio(price_minor * numerator, denominator, half_even=self._half_even)

    def matches(self, tax_class: str) -> bool:
        """Return whether a rate holds for a class."""
        return self._find(tax_class)[0].rate is not None

    def add_tax(self, priced: PricedAmount, *, units: int) -> PricedAmount:
        """Return an amount with its tax; net + tax = gross.

        Args:
            priced: price, discount and shares.
            units: units of the line, for tax by unit.
        """
        if priced.shares:
            return self._add_tax(priced, units)
        key = (priced.price_minor, priced.tax_class, units)
        taxed = self._taxed.get(key)
        if taxed is None:
            if len(self._taxed) >= TAXED_MAX:
                self._taxed = {}
            taxed = self._taxed[key] = self._add_tax(priced, units)
        return taxed

    def _add_tax(self, priced: PricedAmount, units: int) -> PricedAmount:
        effective, _ = self._find(priced.tax_class)
        amount = priced.price_minor - priced.discount_minor
        by_unit = self._rules.tax_rounding == PER_UNIT and units > 1
        taxes = self._tax_units(amount, effective, units) if by_unit else self._tax(amount, effective)
        tax_minor = sum(taxes)
        rows: tuple[TaxAmount, ...] = ()
        if effective.rate is not None:
            rows = build_tax_amounts(effective.rate, taxes, exempt=self.is_exempt)
        return PricedAmount(
            priced.price_minor,
            priced.tax_class,
            priced.shares,
            priced.discount_minor,
            net_minor=amount - tax_minor if self._rules.prices_include_tax else amount,
            tax_minor=tax_minor,
            taxes=rows,
        )

    def _find(self, tax_class: str) -> tuple[EffectiveRate, tuple[int, int]]:
        """Return the rate of a class and the ratio that converts its prices."""
        existing = self._by_class.get(tax_class)
        if existing is None:
            effective = find_rate(self._rates, zone=self._zone, tax_class=tax_class, now_us=self._now_us)
            existing = self._by_class[tax_class] = (effective, self._find_conversion(effective, tax_class))
        return existing

    def _find_conversion(self, due: EffectiveRate, tax_class: str) -> tuple[int, int]:
        rules = self._rules
        included = due
        if rules.home_zone not in ("", self._zone) and rules.kept_price != KEEP_GROSS:
            included = find_rate(self._rates, zone=rules.home_zone, tax_class=tax_class, now_us=self._now_us)
        charged = NO_RATE if self.is_exempt else due
        numerator = (charged.denominator + charged.total) * included.denominator
        return numerator, charged.denominator * (included.denominator + included.total)

    def _tax(self, amount: int, effective: EffectiveRate) -> list[int]:
        """Return the tax of each component. Together they are never more than a gross amount."""
        if self.is_exempt:
            return [0] * len(effective.parts)
        if not self._rules.prices_include_tax:
            return [
                round_ratio(amount * part, effective.denominator, half_even=self._half_even) for part in effective.parts
            ]
        taxes: list[int] = []
        gross = effective.denominator + effective.total
        for part in effective.parts:
            tax = round_ratio(amount * part, gross, half_even=self._half_even)
            taxes.append(min(tax, amount - sum(taxes)))
        return taxes

    def _tax_units(self, amount: int, effective: EffectiveRate, units: int) -> list[int]:
        """Return the tax of each component, rounded for each unit. The first units bear what does not divide."""
        unit, dearer = divmod(amount, units)
        cheap, dear = self._tax(unit, effective), self._tax(unit + 1, effective)
        return [dearer * more + (units - dearer) * less for less, more in zip(cheap, dear, strict=True)]


def find_table(terms: Terms, *, zone: str, now_us: int, exempt: bool) -> TaxTable:
    """Return the table for a basket, which the terms keep for the next one.

    Args:
        zone: the zone of the tax address; empty for none.
        exempt: whether an exemption holds.
    """
    tables: dict[tuple[str, bool], TaxTable] = terms.tax_tables
    table = tables.get((zone, exempt))
    if table is None or not table.holds(terms.rates, terms.rules, now_us):
        table = TaxTable(terms.rates, rules=terms.rules, zone=zone, now_us=now_us, exempt=exempt)
        is_new = (zone, exempt) not in tables
        if len(terms.rates) <= SHARED_RATES_MAX and not (is_new and len(tables) >= TABLES_MAX):
            table.find_validity()
            tables[zone, exempt] = table
    return table
