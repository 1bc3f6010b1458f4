"""Price sheets: what lines cost to all buyers with the same zone, currency and separable promotions.

Most orders are priced by looking their lines up. Invariant: an order costs what `price_basket` says, because each of
its lines does, and keeps what `freeze_terms` keeps. Orders with anything else are priced there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.orders.baskets import (
    Offer,
    build_base_price,
    build_item,
    build_taxed_item,
    read_customer,
)
from storekeep.server.domain.orders.new_orders import NewOrder
from storekeep.server.domain.orders.order_reads import OrderReads
from storekeep.server.domain.orders.orders import OrderLine
from storekeep.server.domain.orders.pricing import OrderPricing, Result, find_rates, freeze_coupon, shorten_items
from storekeep.server.domain.pricing.baskets import AppliedPromotion, Basket, BasketLine, PricedAmount, build_applied
from storekeep.server.domain.pricing.calculation import SHARES_MAX, find_usable_coupons, price_basket
from storekeep.server.domain.pricing.counts import find_coupons
from storekeep.server.domain.pricing.promotion_index import ApplicablePromotions
from storekeep.server.domain.pricing.separable import Separable
from storekeep.server.domain.pricing.shipping import get_shipping_class
from storekeep.server.domain.pricing.snapshot import ANYBODY, Snapshot, choose_zone, read_snapshot
from storekeep.server.domain.pricing.taxes import TaxTable, find_table
from storekeep.server.domain.pricing.terms import (
    CouponCode,
    Customer,
    Item,
    Promotion,
    Rules,
    TaxRate,
    TaxZone,
    Terms,
    UnitPrice,
)
from storekeep.server.store.sql.transactions import Transaction

LINES_CACHED = 4_096
"""The most lines in the cache of a snapshot: 2.5 KB each, 5 KB with the most shares, 10 KB with the most labels."""
NUMBERS_CACHED = 5
"""The line numbers for which a cached line is kept as a line of an order: most orders have no more lines."""
SHARES_CACHED_MAX = 20
"""The most shares of a line that is cached."""
TEXT_CACHED_MAX = 4_000
"""The most bytes of texts of a line that is cached: of its offer, and of the labels of its item."""
SHEETS_MAX = 64
"""The most sheets of a snapshot, some 1 KB each without their lines."""
CLASSES_MAX = 64
"""The most combinations of tax classes whose rates a sheet keeps."""
NO_COUPONS: dict[str, CouponCode] = {}


class SheetLine(NamedTuple):
    """Units of a SKU, priced.

    Attributes:
        offer: what they were priced by.
        item: as an order keeps it.
        result: as an order keeps it.
        shares: for each promotion of the sheet.
        lines: the line of an order, by its number, up to `NUMBERS_CACHED`: what encodes it finds the same object.
    """

    offer: Offer
    units: int
    price: UnitPrice
    item: Item
    amount: PricedAmount
    result: Result
    shares: tuple[int, ...]
    lines: dict[int, OrderLine]

    def number(self, line_number: int) -> OrderLine:
        """Return the line with a number."""
        line = self.lines.get(line_number)
        if line is None:
            amount, units = self.amount, self.units
            unit_price_minor = amount.price_minor // units
            line = OrderLine(
                line_number,
                self.item.sku,
                self.offer.display_name,
                units,
                unit_price_minor,
                units * unit_price_minor,
                amount.discount_minor,
                tax_minor=amount.tax_minor,
            )
            if line_number <= NUMBERS_CACHED:
                self.lines[line_number] = line
        return line


class PricedLines(NamedTuple):
    """The terms of an order with its amounts, and its lines."""

    pricing: OrderPricing
    lines: tuple[OrderLine, ...]


class SheetPrice(NamedTuple):
    """The terms of an order with its amounts, its lines, and the promotions and coupons whose uses count."""

    pricing: OrderPricing
    lines: tuple[OrderLine, ...]
    promotions: tuple[Promotion, ...]
    coupons: dict[str, CouponCode]


class Sheet:
    """What lines cost under the same terms. Safe in several threads: each change is one step.

    Args:
        snapshot: the snapshot that keeps it.
        table: the tax of its zone.
        applicable: the promotions.
        separable: what they have in common.

    Attributes:
        snapshot, table: these.
    """

    __slots__ = ("_applicable", "_currency_code", "_rates", "_rules", "_separable", "_zone", "snapshot", "table")

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        table: TaxTable,
        zone: TaxZone | None,
        rules: Rules,
        currency_code: str,
        applicable: ApplicablePromotions,
        separable: Separable,
    ) -> None:
        self.snapshot = snapshot
        self.table = table
        self._zone = zone
        self._rules = rules
        self._currency_code = currency_code
        self._applicable = applicable
        self._separable = separable
        self._rates: dict[frozenset[str], tuple[TaxRate, ...]] = {}

    def price(
        self,
        ordered: Sequence[tuple[str, int]],
        offers: Mapping[str, Offer],
        *,
        customer: Customer = ANYBODY,
        coupons: Mapping[str, CouponCode] = NO_COUPONS,
        tax_address: Address | None = None,
        now_us: int,
    ) -> PricedLines | None:
        """Return what lines cost; None if a variant has no price, or if a promotion takes nothing off.

        Args:
            ordered: (SKU, units) of each line.
            customer: without an exemption.
            coupons: by code, all usable, each of another promotion of the sheet.
            tax_address: as in `OrderPricing`.
        """
        lines = []
        for sku, units in ordered:
            line = self._find_line(sku, units, offers[sku], coupons, now_us)
            if line is None:
                return None
            lines.append(line)
        _, _, prices, items, amounts, results, shares, numbers = zip(*lines, strict=True)
        applied = self._apply_promotions(shares, coupons)
        if applied is None:
            return None
        pricing = OrderPricing(
            self._rules,
            now_us,
            zone="" if self._zone is None else self._zone.name,
            tax_address=tax_address,
            rates=self._find_rates(items, now_us),
            promotions=self._separable.frozen,
            coupons=tuple([freeze_coupon(coupon) for coupon in coupons.values()]) if coupons else (),
            customer=customer,
            prices=prices,
            items=items,
            results=results,
        )
        vars(pricing).update(amounts=amounts, shipping=None, applied=applied)
        numbered = [by_number.get(number) for number, by_number in enumerate(numbers, 1)]
        if not all(numbered):
            numbered = [line.number(number) for number, line in enumerate(lines, 1)]
        return PricedLines(pricing, tuple(numbered))

    def _find_line(
        self, sku: str, units: int, offer: Offer, coupons: Mapping[str, CouponCode], now_us: int
    ) -> SheetLine | None:
        """Return what units of a SKU cost; None if it has no price."""
        cache = self.snapshot.line_cache
        key = (self, sku, units)
        line: SheetLine | None = cache.get(key)
        if line is None or line.offer != offer:
            line = self._price_line(sku, units, offer, coupons, now_us)
            if line is not None and _is_short(line):
                if len(cache) >= LINES_CACHED:
                    cache.clear()
                cache[key] = line
        return line

    def _price_line(
        self, sku: str, units: int, offer: Offer, coupons: Mapping[str, CouponCode], now_us: int
    ) -> SheetLine | None:
        prices = build_base_price(sku, offer, currency_code=self._currency_code)
        if not prices:
            return None
        promotions = self._applicable.promotions
        item = build_item(sku, offer) if promotions else build_taxed_item(sku, offer)
        terms = Terms(
            rules=self._rules,
            zone=self._zone,
            rates=self.snapshot.rates,
            promotions=promotions,
            prices={sku: prices},
            items={sku: item},
            coupons=coupons,
            tax_tables=self.snapshot.tax_tables,
        )
        basket = Basket((BasketLine(sku, units),), self._currency_code, now_us, codes=tuple(coupons))
        amount = price_basket(basket, terms).lines[0].amount
        by_name = {share.promotion: share.discount_minor for share in amount.shares}
        shares = tuple([by_name.get(promotion.name, 0) for promotion in promotions])
        return SheetLine(
            _intern_texts(offer),
            units,
            prices[0],
            item if self._separable.is_selective else shorten_items([item])[0],
            amount,
            Result(amount.price_minor, tuple([tax.tax_minor for tax in amount.taxes]), shares if amount.shares else ()),
            shares,
            {},
        )

    def _find_rates(self, items: Sequence[Item], now_us: int) -> tuple[TaxRate, ...]:
        """Return the rates that an order with some items keeps."""
        classes = frozenset([item.tax_class for item in items])
        rates = self._rates.get(classes)
        if rates is None:
            if len(self._rates) >= CLASSES_MAX:
                self._rates.clear()
            zones = ("" if self._zone is None else self._zone.name, self._rules.home_zone)
            shipping_class = get_shipping_class(None, self._rules)
            rates = find_rates(self.snapshot.rates, zones, classes | {shipping_class}, now_us)
            self._rates[classes] = rates
        return rates

    def _apply_promotions(
        self, shares: Sequence[tuple[int, ...]], coupons: Mapping[str, CouponCode]
    ) -> tuple[AppliedPromotion, ...] | None:
        """Return the promotions with their discounts on all lines; None if any of them takes nothing off.

        Args:
            shares: of each line.
        """
        promotions = self._applicable.promotions
        if not promotions:
            return ()
        discounts_minor = list(map(sum, zip(*shares, strict=True)))
        if 0 in discounts_minor:
            return None
        by_promotion = {coupon.promotion: coupon for coupon in coupons.values()}
        pairs = zip(promotions, discounts_minor, strict=True)
        return tuple([build_applied(one, discount_minor, by_promotion) for one, discount_minor in pairs])


def _intern_texts(offer: Offer) -> Offer:
    """Return an offer whose texts are shared with those of other SKUs, so that comparing them reads less memory."""
    return Offer._make([sys.intern(value) if isinstance(value, str) else value for value in offer])


def _is_short(line: SheetLine) -> bool:
    """Return whether a line may be cached."""
    labels = line.item.labels
    texts = (*[value for value in line.offer if isinstance(value, str)], *labels, *labels.values())
    return len(line.shares) <= SHARES_CACHED_MAX and sum(map(sys.getsizeof, texts)) <= TEXT_CACHED_MAX


def is_for_sheet(new: NewOrder) -> bool:
    """Return whether a sheet may have the price of an order: it has neither shipping nor an exemption of its own."""
    said = new.pricing
    return new.shipping is None and not said.shipping_method and said.exemption is None and said.draft is None


def price_by_sheet(tx: Transaction, new: NewOrder, reads: OrderReads, rules: Rules) -> SheetPrice | None:
    """Return what a new order costs; None if its price needs more than a sheet has.

    Args:
        new: an order for which `is_for_sheet` holds.
    """
    said = new.pricing
    snapshot = read_snapshot(tx, version=reads.version)
    if snapshot.has_prices or not snapshot.version:
        return None
    customer = ANYBODY
    if snapshot.promotions.by_key or snapshot.rates:
        customer = read_customer(tx, new.customer_id, reads.facts)
        if customer.exemption is not None:
            return None
    coupons = find_coupons(tx, said.codes, customer_id=new.customer_id) if said.codes else NO_COUPONS
    items = [build_item(*pair) for pair in reads.offers.items()] if snapshot.promotions.has_item_keys else ()
    applicable = snapshot.promotions.select(
        items,
        groups=customer.groups,
        coupon_promotions=[coupon.promotion for coupon in coupons.values()],
        currency_code=new.currency_code,
        now_us=tx.now_us,
    )
    usable = find_usable_coupons(said.codes, coupons, now_us=tx.now_us) if coupons else NO_COUPONS
    separable = applicable.separable
    if (
        separable is None
        or len(usable) < len(said.codes)
        or not separable.with_coupon <= usable.keys()
        or not usable.keys() <= separable.names
        or len(separable.frozen) * len(new.lines) > SHARES_MAX
    ):
        return None
    zone = choose_zone(snapshot, said.tax_address or new.shipping_address or new.billing_address, rules)
    sheet = _find_sheet(snapshot, zone, rules, new.currency_code, applicable, separable, tx.now_us)
    if sheet is None:
        return None
    priced = sheet.price(
        new.lines,
        reads.offers,
        customer=customer,
        coupons=coupons,
        tax_address=said.tax_address,
        now_us=tx.now_us,
    )
    return None if priced is None else SheetPrice(*priced, applicable.promotions, coupons)


def _find_sheet(
    snapshot: Snapshot,
    zone: TaxZone | None,
    rules: Rules,
    currency_code: str,
    applicable: ApplicablePromotions,
    separable: Separable,
    now_us: int,
) -> Sheet | None:
    """Return the sheet of a zone, a currency and some promotions; None if baskets share no tax table."""
    zone_name = "" if zone is None else zone.name
    key = (zone_name, currency_code, applicable)
    sheet: Sheet | None = snapshot.sheets.get(key)
    if sheet is not None and sheet.table.holds(snapshot.rates, rules, now_us):
        return sheet
    terms = Terms(rules=rules, rates=snapshot.rates, tax_tables=snapshot.tax_tables)
    table = find_table(terms, zone=zone_name, now_us=now_us, exempt=False)
    if snapshot.tax_tables.get((zone_name, False)) is not table:
        return None
    sheet = Sheet(
        snapshot,
        table=table,
        zone=zone,
        rules=rules,
        currency_code=currency_code,
        applicable=applicable,
        separable=separable,
    )
    if len(snapshot.sheets) >= SHEETS_MAX:
        snapshot.sheets.clear()
    snapshot.sheets[key] = sheet
    return sheet
