"""Price sheets say what the calculation says, forget lines that changed, and stay small."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from contextlib import closing
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from storekeep.server.domain.orders.baskets import Offer, build_item
from storekeep.server.domain.orders.placing import price_lines
from storekeep.server.domain.orders.price_sheets import LINES_CACHED, NUMBERS_CACHED, SHARES_CACHED_MAX, Sheet
from storekeep.server.domain.orders.pricing import freeze_terms
from storekeep.server.domain.orders.repricing import apply_amount
from storekeep.server.domain.pricing import promotions
from storekeep.server.domain.pricing.baskets import Basket
from storekeep.server.domain.pricing.calculation import price_basket
from storekeep.server.domain.pricing.promotion_index import ApplicablePromotions
from storekeep.server.domain.pricing.promotions import PROMOTIONS
from storekeep.server.domain.pricing.separable import find_separable
from storekeep.server.domain.pricing.snapshot import VERSIONS_MAX, Snapshot, read_snapshot
from storekeep.server.domain.pricing.taxes import TaxTable, find_table
from storekeep.server.domain.pricing.terms import (
    ALWAYS,
    EVERYTHING,
    NO_CONDITIONS,
    PERCENTAGE,
    Action,
    Customer,
    Promotion,
    Selection,
    TaxComponent,
    TaxRate,
    TaxZone,
    Terms,
    UnitPrice,
)
from tests.support.databases import Database
from tests.support.order_inputs import prepare
from tests.support.orders_together import HOT, open_shop, order
from tests.support.placing import CALL
from tests.support.pricing_inputs import ITEMS, make_case
from tests.support.pricing_model import check_case

NOW_US = 1_000
LINE_BYTES_MAX = 10_000
ZONE = TaxZone("taxZones/de", ())
COMPONENTS = tuple([TaxComponent(f"VAT {number}", 20_000) for number in range(10)])
RATES = {(ZONE.name, ""): (TaxRate("taxRates/vat", ZONE.name, components=COMPONENTS),)}
TENTH, HALF = (Promotion("promotions/a", Action(PERCENTAGE, ppm)) for ppm in (100_000, 500_000))


def make_offer(sku: str, price_minor: int | None, *, labels: dict[str, str] | None = None) -> Offer:
    """Return the offer of a SKU with the facts of `ITEMS`, and no more than one category."""
    item = ITEMS.get(sku)
    return Offer(
        "Tea",
        sku,
        "",
        None,
        None,
        price_minor,
        "{}",
        1,
        f"product-{sku}" if item is None else item.product_id,
        "" if item is None else min(item.category_ids, default=""),
        json.dumps(labels or ({} if item is None else dict(item.labels))),
        "{}",
        "" if item is None else item.tax_class,
        None,
        True,
    )


def make_sheet(terms: Terms) -> Sheet:
    """Return a sheet in a snapshot of its own."""
    separable = find_separable(terms.promotions)
    assert separable is not None
    return Sheet(
        Snapshot(1, rates=terms.rates),
        table=find_table(terms, zone="" if terms.zone is None else terms.zone.name, now_us=NOW_US, exempt=False),
        zone=terms.zone,
        rules=terms.rules,
        currency_code="EUR",
        applicable=ApplicablePromotions(terms.promotions, separable, 0, NOW_US + 1),
        separable=separable,
    )


def make_separable_case(random: Random) -> tuple[Basket, Terms, dict[str, Offer]]:
    """Return a basket without shipping and exemption, terms whose promotions are separable, and the offers."""
    basket, terms = make_case(random)
    listed = tuple(
        [
            replace(
                promotion,
                action=Action(PERCENTAGE, min(promotion.action.value, 1_000_000), items=promotion.action.items),
                conditions=NO_CONDITIONS,
                exclusive=False,
                requires_coupon=False,
                uses_max=None,
                budget_minor=None,
                window=ALWAYS,
            )
            for promotion in terms.promotions
            if promotion.currency_code != "USD"
        ]
    )
    skus = {line.sku for line in basket.lines}
    offers = {sku: make_offer(sku, random.choice((0, 1, 99, 1_000, 123_457))) for sku in skus}
    basket = replace(
        basket, shipping_method="", shipping_minor=None, exemption=None, customer=Customer(), codes=(), now_us=NOW_US
    )
    terms = replace(
        terms,
        promotions=listed,
        items={sku: build_item(sku, offer) for sku, offer in offers.items()},
        prices={sku: (UnitPrice(sku, "EUR", offer.price_minor or 0),) for sku, offer in offers.items()},
        coupons={},
        usages={},
        separable=None,
    )
    return basket, terms, offers


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64))
def test_sheet_says_what_the_calculation_says_and_freezes_the_same_terms(seed: int) -> None:
    basket, terms, offers = make_separable_case(Random(seed))
    whole = price_basket(basket, terms)
    check_case(basket, terms, whole)
    sheet, lines = make_sheet(terms), [(line.sku, line.quantity) for line in basket.lines]
    first, cached = sheet.price(lines, offers, now_us=NOW_US), sheet.price(lines, offers, now_us=NOW_US)
    assert first == cached
    if cached is None:
        assert len(whole.promotions) < len(terms.promotions)
        return
    pricing = cached.pricing
    frozen = freeze_terms(basket, replace(terms, separable=find_separable(terms.promotions)), whole, tax_address=None)
    assert pricing.amounts == frozen.amounts
    assert pricing.applied == frozen.applied
    assert sorted(rate.name for rate in pricing.rates) == sorted(rate.name for rate in frozen.rates)
    assert replace(pricing, rates=()) == replace(frozen, rates=())
    undiscounted = price_lines(lines, offers, currency_code="EUR")
    priced = [apply_amount(line, amount) for line, amount in zip(undiscounted, frozen.amounts, strict=True)]
    assert list(cached.lines) == priced


def test_line_is_priced_again_after_its_offer_changed() -> None:
    sheet = make_sheet(Terms(promotions=(TENTH,)))
    for price_minor in (1_000, 2_000, 1_000):
        priced = sheet.price([("X", 2)], {"X": make_offer("X", price_minor)}, now_us=NOW_US)
        assert priced is not None
        assert priced.pricing.amounts[0].gross_minor == price_minor * 2 * 9 // 10
        assert priced.lines[0].unit_price_minor == price_minor
    assert sheet.price([("X", 2)], {"X": make_offer("X", None)}, now_us=NOW_US) is None


def price_line(sheet: Sheet, number: int, *, labels: dict[str, str] | None = None) -> None:
    """Price one unit of a SKU of its own, with an offer that no other order shares."""
    sku = f"SKU-{number:06}"
    sheet.price([(sku, 1)], {sku: make_offer(sku, 1_000_000 + number, labels=labels)}, now_us=NOW_US)


def make_terms(*, promotions_count: int, items: Selection = EVERYTHING) -> Terms:
    """Return terms with percentages off all lines, and a rate with the most components."""
    listed = [
        Promotion(f"promotions/{number}", Action(PERCENTAGE, 10_000, items=items)) for number in range(promotions_count)
    ]
    return Terms(promotions=tuple(listed), zone=ZONE, rates=RATES)


def make_labels(number: int, *, count: int, value: str) -> dict[str, str]:
    return {f"label-{number}-{index}": f"{value}-{number}-{index}" for index in range(count)}


def test_lines_in_memory_are_bounded() -> None:
    sheet = make_sheet(make_terms(promotions_count=0))
    for number in range(LINES_CACHED + 10):
        price_line(sheet, number)
    assert 0 < len(sheet.snapshot.line_cache) <= LINES_CACHED


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize(
    ("count", "value"), [(0, ""), (15, "v"), (5, "v" * 100), (128, "v" * 30), (128, "\U0001f9f5" * 240)]
)
def test_line_in_memory_is_bounded_in_bytes(count: int, value: str, selective: bool) -> None:
    items = Selection(labels=frozenset({("of", "others")}), inverted=True) if selective else EVERYTHING
    sheet, lines = make_sheet(make_terms(promotions_count=SHARES_CACHED_MAX, items=items)), 50
    price_line(sheet, lines)
    tracemalloc.start()
    try:
        for number in range(lines):
            price_line(sheet, number, labels=make_labels(number, count=count, value=value))
        gc.collect()
        used_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used_bytes <= lines * LINE_BYTES_MAX
    assert len(sheet.snapshot.line_cache) == (1 if count > 100 else lines + 1)


def test_line_of_a_sku_is_kept_under_few_numbers() -> None:
    sheet = make_sheet(make_terms(promotions_count=0))
    offers = {"X": make_offer("X", 1_000)}
    ordered = [("X", 1)] * (NUMBERS_CACHED + 100)
    first, again = sheet.price(ordered, offers, now_us=NOW_US), sheet.price(ordered, offers, now_us=NOW_US)
    assert first is not None
    assert first == again
    assert [line.line_number for line in first.lines] == list(range(1, len(ordered) + 1))
    (line,) = sheet.snapshot.line_cache.values()
    assert list(line.lines) == list(range(1, NUMBERS_CACHED + 1))


def test_line_with_more_shares_than_are_cached_costs_the_same_again() -> None:
    sheet = make_sheet(make_terms(promotions_count=SHARES_CACHED_MAX + 1))
    offers = {"X": make_offer("X", 1_000)}
    assert sheet.price([("X", 1)], offers, now_us=NOW_US) == sheet.price([("X", 1)], offers, now_us=NOW_US)
    assert not sheet.snapshot.line_cache


def test_snapshots_that_are_no_longer_used_are_freed_with_their_lines(database: Database) -> None:
    tables: list[weakref.ref[TaxTable]] = []
    prepare(database)
    with closing(open_shop(database)) as store:
        snapshots = []
        for number in range(VERSIONS_MAX + 2):
            new = promotions.Promotion(f"p-{number}", action=promotions.Action(percentage_ppm=10_000))
            PROMOTIONS.create(store, CALL, new)
            promotions.activate_promotion(store, CALL, new.id, etag="")
            order((HOT, 1))(store)
            snapshots.append(store.read(read_snapshot))
            tables += map(weakref.ref, snapshots[-1].tax_tables.values())
        assert [len(snapshot.line_cache) for snapshot in snapshots] == [0] * (len(snapshots) - 1) + [1]
        assert [len(snapshot.sheets) for snapshot in snapshots] == [0] * (len(snapshots) - 1) + [1]
    assert len(tables) == len(snapshots)
    snapshots.clear()
    gc.collect()
    assert sum(table() is not None for table in tables) <= VERSIONS_MAX
