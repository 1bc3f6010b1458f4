"""Codes with their reasons, zones, exemptions, shipping methods, and splitting a line."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import CurrencyMismatch, InvalidField
from storekeep.server.domain.pricing.baskets import Basket, BasketLine, RefusedCode
from storekeep.server.domain.pricing.calculation import price_basket
from storekeep.server.domain.pricing.taxes import TABLES_MAX
from storekeep.server.domain.pricing.terms import (
    AMOUNT,
    BUY_X_GET_Y,
    BY_SUBTOTAL,
    BY_WEIGHT,
    KEEP_GROSS,
    LINES,
    ORDER,
    PERCENTAGE,
    PPM,
    SHIPPING,
    Action,
    Conditions,
    CouponCode,
    Exemption,
    Item,
    Promotion,
    Rules,
    ShippingMethod,
    ShippingPrice,
    TaxArea,
    TaxComponent,
    TaxRate,
    TaxZone,
    Terms,
    Tier,
    UnitPrice,
    Usage,
    Window,
    find_zone,
    fold_area,
)

HOME, AWAY = TaxZone("taxZones/de", (TaxArea("DE"),)), TaxZone("taxZones/fr", (TaxArea("FR"),))
NOW = 1_000


def rate(zone: TaxZone, *ppm: int, compound: bool = False) -> TaxRate:
    """Return a rate of some components of a zone."""
    parts = tuple(TaxComponent(f"part {place}", one, compound and place > 0) for place, one in enumerate(ppm))
    return TaxRate(f"{zone.name}/rates/1", zone.name, parts)


RATES = {(HOME.name, ""): (rate(HOME, 190_000),), (AWAY.name, ""): (rate(AWAY, 200_000),)}
PRICES = {sku: (UnitPrice(sku, "EUR", amount),) for sku, amount in (("A", 1190), ("B", 500))}
TERMS = Terms(zone=HOME, rates=RATES, prices=PRICES, rules=Rules(prices_include_tax=True, home_zone=HOME.name))
BASKET = Basket((BasketLine("A", 1),), "EUR", NOW)
TEN_OFF = Promotion("promotions/ten", Action(PERCENTAGE, 100_000, LINES), requires_coupon=True)


def refuse(code: str, coupon: CouponCode, promotion: Promotion, *others: Promotion, usage: Usage | None = None) -> str:
    """Return the reason why a code does not apply; empty if it does."""
    terms = replace(
        TERMS,
        promotions=(promotion, *others),
        coupons={coupon.code: coupon},
        usages={promotion.name: usage} if usage else {},
    )
    refused = price_basket(replace(BASKET, codes=(code,)), terms).refused_codes
    return refused[0].problem if refused else ""


COUPON = CouponCode("ten", "coupons/ten", TEN_OFF.name)


@pytest.mark.parametrize(
    ("code", "coupon", "promotion", "reason"),
    [
        (" TEN ", COUPON, TEN_OFF, ""),
        ("eleven", COUPON, TEN_OFF, "UNKNOWN"),
        ("ten", replace(COUPON, window=Window(until_time_us=NOW)), TEN_OFF, "EXPIRED"),
        ("ten", COUPON, replace(TEN_OFF, window=Window(until_time_us=NOW)), "EXPIRED"),
        ("ten", replace(COUPON, uses=5, uses_max=5), TEN_OFF, "USED_UP"),
        ("ten", replace(COUPON, customer_uses=1, customer_uses_max=1), TEN_OFF, "USED_BY_CUSTOMER"),
        ("ten", COUPON, replace(TEN_OFF, conditions=Conditions(subtotal_min_minor=5000)), "CONDITIONS_NOT_MET"),
        ("ten", replace(COUPON, window=Window(from_time_us=NOW + 1)), TEN_OFF, "CONDITIONS_NOT_MET"),
    ],
)
def test_code_that_does_not_apply_has_a_reason(
    code: str, coupon: CouponCode, promotion: Promotion, reason: str
) -> None:
    assert refuse(code, coupon, promotion) == reason


def test_code_of_a_spent_budget_is_used_up() -> None:
    assert refuse("ten", COUPON, replace(TEN_OFF, uses_max=3), usage=Usage(uses=3)) == "USED_UP"
    assert refuse("ten", COUPON, replace(TEN_OFF, budget_minor=10), usage=Usage(discount_minor=10)) == "USED_UP"


def test_budget_limits_the_last_discount() -> None:
    promotion = replace(TEN_OFF, requires_coupon=False, budget_minor=1000)
    terms = replace(TERMS, promotions=(promotion,), usages={promotion.name: Usage(discount_minor=950)})
    assert price_basket(BASKET, terms).discount_minor == 50


def test_exclusive_promotion_excludes_a_code_of_higher_priority() -> None:
    alone = Promotion("promotions/alone", Action(AMOUNT, 1, ORDER), exclusive=True, priority=-1)
    assert refuse("ten", COUPON, TEN_OFF, alone) == "EXCLUDED"


def test_exclusive_promotion_that_takes_nothing_off_at_first_never_applies_beside_others() -> None:
    less = Promotion("promotions/less", Action(AMOUNT, 1000, ORDER))
    tiers = (Tier(0, amount_min_minor=1000),)
    alone = Promotion("promotions/alone", Action(PERCENTAGE, PPM, SHIPPING, tiers=tiers), exclusive=True)
    priced = price_basket(replace(BASKET, shipping_minor=400), replace(TERMS, promotions=(less, alone)))
    assert [one.promotion for one in priced.promotions] == ["promotions/less"]


def test_repeated_code_and_second_code_of_a_promotion() -> None:
    terms = replace(
        TERMS, promotions=(TEN_OFF,), coupons={"ten": COUPON, "zehn": CouponCode("zehn", "coupons/2", TEN_OFF.name)}
    )
    priced = price_basket(replace(BASKET, codes=("ten", "Ten", "zehn")), terms)
    assert priced.refused_codes == (RefusedCode("zehn", "EXCLUDED"),)
    assert (priced.promotions[0].code, priced.discount_minor) == ("ten", 119)


def test_gross_price_sold_abroad_keeps_its_net_and_comes_back() -> None:
    home = price_basket(BASKET, TERMS)
    away = price_basket(BASKET, replace(TERMS, zone=AWAY))
    export = price_basket(BASKET, replace(TERMS, zone=None))
    assert (home.net_minor, home.gross_minor) == (1000, 1190)
    assert (away.net_minor, away.gross_minor) == (1000, 1200)
    assert (export.net_minor, export.gross_minor, export.lines[0].amount.taxes) == (1000, 1000, ())
    assert price_basket(BASKET, TERMS) == home


def test_gross_price_sold_abroad_can_stay() -> None:
    rules = replace(TERMS.rules, kept_price=KEEP_GROSS)
    away = price_basket(BASKET, replace(TERMS, zone=AWAY, rules=rules))
    assert (away.net_minor, away.tax_minor, away.gross_minor) == (992, 198, 1190)


def test_exemption_takes_the_included_tax_away_and_is_reported() -> None:
    exemption = Exemption("reseller", "C-1", until_time_us=NOW + 1)
    priced = price_basket(replace(BASKET, exemption=exemption), TERMS)
    assert (priced.gross_minor, priced.tax_minor, priced.exemption) == (1000, 0, exemption)
    assert [tax.exempt for tax in priced.lines[0].amount.taxes] == [True]
    ended = price_basket(replace(BASKET, exemption=replace(exemption, until_time_us=NOW)), TERMS)
    assert (ended.gross_minor, ended.exemption) == (1190, None)


def test_component_of_zero_percent_is_reported() -> None:
    terms = replace(TERMS, rates={(HOME.name, ""): (rate(HOME, 0),)})
    assert [tax.tax_minor for tax in price_basket(BASKET, terms).lines[0].amount.taxes] == [0]


def test_compound_component_counts_on_the_ones_before() -> None:
    terms = Terms(zone=HOME, rates={(HOME.name, ""): (rate(HOME, 50_000, 100_000, compound=True),)}, prices=PRICES)
    basket = price_basket(replace(BASKET, lines=(BasketLine("B", 2),)), terms)
    assert [tax.tax_minor for tax in basket.lines[0].amount.taxes] == [50, 105]


def test_rate_holds_in_its_window_only() -> None:
    old = replace(rate(HOME, 160_000), window=Window(until_time_us=NOW))
    new = replace(rate(HOME, 190_000), window=Window(from_time_us=NOW))
    terms = replace(TERMS, rates={(HOME.name, ""): (old, new)})
    assert price_basket(BASKET, terms).tax_minor == 190
    assert price_basket(replace(BASKET, now_us=NOW - 1), terms).tax_minor == 164


def test_buy_two_get_the_cheapest_of_three() -> None:
    action = Action(BUY_X_GET_Y, PPM, buy_units=2, get_units=1)
    terms = replace(TERMS, promotions=(Promotion("promotions/b", action),))
    lines = (BasketLine("A", 2), BasketLine("B", 1))
    assert price_basket(replace(BASKET, lines=lines), terms).discount_minor == 500
    dearest = replace(TERMS, promotions=(Promotion("promotions/b", replace(action, dearest_first=True)),))
    assert price_basket(replace(BASKET, lines=lines), dearest).discount_minor == 1190
    assert price_basket(replace(BASKET, lines=lines[:1]), terms).discount_minor == 0


@pytest.mark.parametrize(("basis", "minimum", "cost"), [(BY_WEIGHT, 2000, 900), (BY_SUBTOTAL, 2380, 900)])
def test_shipping_method_is_priced_by_what_is_reached(basis: str, minimum: int, cost: int) -> None:
    prices = (ShippingPrice(400), ShippingPrice(900, minimum))
    method = ShippingMethod("shippingMethods/1", "EUR", prices, basis=basis)
    terms = replace(TERMS, shipping_methods={method.name: method}, items={"A": Item("A", weight_g=1000)})
    two = replace(BASKET, lines=(BasketLine("A", 2),), shipping_method=method.name)
    one = replace(two, lines=(BasketLine("A", 1),))
    assert [price_basket(basket, terms).gross_minor for basket in (one, two)] == [1190 + 400, 2380 + cost]


def test_shipping_is_free_from_the_discounted_amount_or_by_a_promotion() -> None:
    method = ShippingMethod("shippingMethods/1", "EUR", (ShippingPrice(400),), free_from_minor=1190)
    terms = replace(TERMS, shipping_methods={method.name: method})
    basket = replace(BASKET, shipping_method=method.name)
    assert price_basket(basket, terms).gross_minor == 1190
    less = Promotion("promotions/1", Action(AMOUNT, 1, ORDER))
    assert price_basket(basket, replace(terms, promotions=(less,))).gross_minor == 1189 + 400
    free = Promotion("promotions/2", Action(PERCENTAGE, PPM, SHIPPING))
    priced = price_basket(basket, replace(terms, promotions=(less, free)))
    assert (priced.gross_minor, priced.discount_minor) == (1189, 401)


def test_shipping_method_that_does_not_fit_is_refused() -> None:
    method = ShippingMethod("shippingMethods/1", "EUR", (ShippingPrice(400),), zones=frozenset({AWAY.name}))
    basket = replace(BASKET, shipping_method=method.name)
    for methods in ({}, {method.name: method}):
        with pytest.raises(InvalidField):
            price_basket(basket, replace(TERMS, shipping_methods=methods))
    with pytest.raises(CurrencyMismatch):
        price_basket(basket, replace(TERMS, shipping_methods={method.name: replace(method, currency_code="USD")}))


def test_splitting_a_line_keeps_the_price_of_the_units() -> None:
    """Tiers count the units of a SKU in the whole order; only the rounding of tax and percentages is by line."""
    tier = UnitPrice("A", "EUR", 1000, "prices/1", minimum_quantity=4)
    terms = replace(
        TERMS, prices={"A": (*PRICES["A"], tier)}, promotions=(Promotion("promotions/a", Action(AMOUNT, 401, ORDER)),)
    )
    whole = price_basket(replace(BASKET, lines=(BasketLine("A", 4),)), terms)
    split = price_basket(replace(BASKET, lines=(BasketLine("A", 1), BasketLine("A", 3))), terms)
    assert whole.gross_minor == split.gross_minor == 3599
    assert [line.amount.discount_minor for line in split.lines] == [100, 301]
    assert abs(whole.tax_minor - split.tax_minor) <= 1


def test_tier_counts_the_units_of_all_lines_also_without_another_price() -> None:
    tier = UnitPrice("A", "EUR", 1000, "prices/1", minimum_quantity=4)
    terms = replace(TERMS, prices={"A": (tier,)})
    lines = (BasketLine("A", 1), BasketLine("A", 3))
    assert price_basket(replace(BASKET, lines=lines), terms).gross_minor == 4000
    with pytest.raises(CurrencyMismatch):
        price_basket(replace(BASKET, lines=lines[1:]), terms)


def test_most_specific_zone_of_an_address() -> None:
    zones = (
        TaxZone("taxZones/ca", (TaxArea("US", "CA"),)),
        TaxZone("taxZones/la", (TaxArea("US", "CA", "900"), TaxArea("US", postal_prefix="90 2"))),
        TaxZone("taxZones/us", (TaxArea("US"),)),
        TaxZone("taxZones/world", (TaxArea(""),)),
    )
    addresses = [("US", "ca", "90001"), ("US", "", "90210"), ("US", "CA", "94000"), ("US", "NY", ""), ("JP", "", "")]
    found = [
        find_zone(zones, Address(region_code=region, administrative_area=area, postal_code=code))
        for region, area, code in addresses
    ]
    assert [zone.name.removeprefix("taxZones/") if zone else "" for zone in found] == ["la", "la", "ca", "us", "world"]
    assert find_zone(zones, None) is None


def test_area_is_found_however_its_accents_and_spaces_are_written() -> None:
    zones = (TaxZone("taxZones/qc", (TaxArea("CA", " Qu\u00e9bec "), TaxArea("JP", "", "\uff11\uff10\uff10"))),)
    for region, area, code in (
        ("CA", "Que\u0301bec", ""),
        ("CA", "QU\u00c9BEC ", ""),
        ("JP", "", "100-0001"),
        ("JP", "", "\uff11\uff10\uff10-\uff10\uff10\uff10\uff11"),
    ):
        assert find_zone(zones, Address(region_code=region, administrative_area=area, postal_code=code)) is not None
    assert fold_area(zones[0].areas[0]) == fold_area(TaxArea("CA", "que\u0301bec"))


def test_kept_tax_follows_the_windows_and_the_rules_of_the_rates() -> None:
    early = TaxRate("taxRates/early", HOME.name, (TaxComponent("VAT", 100_000),), window=Window(until_time_us=NOW + 10))
    late = TaxRate("taxRates/late", HOME.name, (TaxComponent("VAT", 200_000),), window=Window(from_time_us=NOW + 10))
    net = replace(TERMS.rules, prices_include_tax=False)
    terms = replace(TERMS, rates={(HOME.name, ""): (late, early)}, rules=net)
    taxes = [price_basket(replace(BASKET, now_us=NOW + after), terms).tax_minor for after in (0, 9, 10, 11, 5)]
    assert taxes == [119, 119, 238, 238, 119]
    exempt = price_basket(replace(BASKET, exemption=Exemption("reseller")), terms)
    assert (exempt.tax_minor, price_basket(BASKET, terms).tax_minor) == (0, 119)
    assert price_basket(BASKET, replace(terms, zone=None)).tax_minor == 0
    assert price_basket(BASKET, replace(terms, rules=TERMS.rules)).tax_minor == 108


def test_baskets_share_no_more_tables_than_allowed_and_all_are_taxed() -> None:
    zones = [TaxZone(f"taxZones/{number}", ()) for number in range(20)]
    net = replace(TERMS.rules, prices_include_tax=False)
    terms = replace(TERMS, rates={(zone.name, ""): (rate(zone, 190_000),) for zone in zones}, rules=net)
    for _ in range(2):
        assert {price_basket(BASKET, replace(terms, zone=zone)).tax_minor for zone in zones} == {226}
    assert len(terms.tax_tables) <= TABLES_MAX
