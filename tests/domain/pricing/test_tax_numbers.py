"""Taxes that were computed by hand from the declared algorithm in docs/technical-design.md, through the server."""

from __future__ import annotations

import pytest

from storekeep.client import Address, OrderTaxExemption, Variant
from tests.support.tills import Till, make_money, minor

RESELLER = OrderTaxExemption(reason="reseller", certificate="C-1")
QUEBEC = ("5", "9.975 compound")


# -- components


@pytest.mark.parametrize(
    ("price", "parts", "taxes"),
    [
        (10000, ("5", "9.975"), [500, 998]),  # 9.975 -> 9.98
        (10000, QUEBEC, [500, 1047]),  # 105.00 x 9.975 % = 10.47375
        (1000, ("10", "10 compound", "10 compound"), [100, 110, 121]),  # 10.00, 11.00 and 12.10 x 10 %
        (15, ("10", "50 compound"), [2, 8]),  # 1.5 -> 2; 16.5 x 50 % = 8.25, not 17 x 50 % = 8.5
        (10000, ("0", "19"), [0, 1900]),  # a component of 0 % is a row
        (10, ("4", "4", "4"), [0, 0, 0]),  # each 0.4; one rate of 12 % would be 1
        (10, ("5", "5", "5"), [1, 1, 1]),  # each 0.5; one rate of 15 % would be 2
    ],
    ids=str,
)
def test_each_component_is_rounded(till: Till, price: int, parts: tuple[str, ...], taxes: list[int]) -> None:
    basket = till.buy((till.sku(price), 1), shipping_address=till.zone(standard=parts))
    assert basket.components == [taxes]
    assert basket.total == price + sum(taxes)


def test_compound_components_are_taken_out_of_a_gross_price(gross_till: Till) -> None:
    """115.47 / 1.1547375: 5 % is 4.99984, the compound 9.975 % of 1.05 is 10.47341, and 100.00 is left."""
    basket = gross_till.buy((gross_till.sku(11547), 1), shipping_address=gross_till.zone(standard=QUEBEC))
    assert (basket.components, basket.nets, basket.total) == ([[500, 1047]], [10000], 11547)


def test_class_without_a_rate_pays_no_tax_and_has_no_row(till: Till) -> None:
    address = till.zone(standard="19", books="0")
    skus = till.skus(1000, 1000, 1000, classes=["", "books", "stamps"])
    basket = till.buy(*((sku, 1) for sku in skus), shipping_address=address)
    assert (basket.components, basket.taxes) == ([[190], [0], []], [190, 0, 0])


def test_longest_postal_prefix_is_the_zone(till: Till) -> None:
    outer = till.zone(standard="19")
    inner = till.zone(prefix=f"{outer.postal_code}2", standard="7")
    sku = till.sku(10000)
    assert [till.buy((sku, 1), shipping_address=one).tax for one in (outer, inner)] == [1900, 700]


# -- rounding


@pytest.mark.parametrize(
    ("price", "rate", "up", "even"),
    [
        (250, "5", 13, 12),  # 12.5
        (750, "5", 38, 38),  # 37.5
        (5, "10", 1, 0),  # 0.5
        (15, "10", 2, 2),  # 1.5
        (25, "10", 3, 2),  # 2.5
        (26, "10", 3, 3),  # 2.6
        (24, "10", 2, 2),  # 2.4
    ],
)
def test_half_even_differs_only_at_the_half(
    till: Till, even_till: Till, price: int, rate: str, up: int, even: int
) -> None:
    taxes = [one.buy((one.sku(price), 1), shipping_address=one.zone(standard=rate)).tax for one in (till, even_till)]
    assert taxes == [up, even]


def test_half_even_rounds_discounts_too(till: Till, even_till: Till) -> None:
    """50 % of 0.05 is 2.5 cents."""
    discounts = []
    for one in (till, even_till):
        sku = one.sku(5)
        one.promote(sku, percent="50")
        discounts.append(one.buy((sku, 1)).discounts)
    assert discounts == [[3], [2]]


@pytest.mark.parametrize(
    ("items", "by_line", "by_unit"),
    [
        ((100, 3, 0), 20, 21),  # 300 x 7 / 107 = 19.63; each 6.54 -> 7
        ((400, 3, 200), 65, 66),  # 1000 x 7 / 107 = 65.42; 334 -> 21.85 -> 22, 333 -> 21.79 -> 22
        ((50, 2, 1), 6, 6),  # 99 x 7 / 107 = 6.48; 50 -> 3.27 -> 3, 49 -> 3.21 -> 3
    ],
    ids=str,
)
def test_tax_by_unit_splits_what_is_left_of_a_line(
    gross_till: Till, unit_till: Till, items: tuple[int, int, int], by_line: int, by_unit: int
) -> None:
    price, units, off = items
    taxes = []
    for till in (gross_till, unit_till):
        sku = till.sku(price)
        if off:
            till.promote(sku, off=off)
        taxes.append(till.buy((sku, units), shipping_address=till.zone(standard="7")).tax)
    assert taxes == [by_line, by_unit]


def test_line_that_is_split_differs_by_its_own_rounding_only(till: Till) -> None:
    """3 x 0.05 at 10 %: 1.5 -> 2 as one line, 0.5 -> 1 for each of three lines."""
    sku, address = till.sku(5), till.zone(standard="10")
    assert till.buy((sku, 3), shipping_address=address).tax == 2
    assert till.buy((sku, 1), (sku, 1), (sku, 1), shipping_address=address).taxes == [1, 1, 1]


# -- currencies


def test_currency_without_minor_units(till: Till) -> None:
    """15 % of 333 is 49.95 -> 50; 10 % of 283 is 28.3 -> 28; 10 % of 335 is 33.5 -> 34."""
    address = till.zone(standard="10")
    reduced, other = (till.sku(price, currency="JPY") for price in (333, 335))
    till.promote(reduced, percent="15")
    basket = till.buy((reduced, 1), (other, 1), currency_code="JPY", shipping_address=address)
    assert (basket.discounts, basket.taxes, basket.total) == ([50, 0], [28, 34], 283 + 28 + 335 + 34)


def test_currency_with_thousandths(till: Till) -> None:
    """0.500 over three of 0.333 is 166.67 each. 5 % of 0.166 and of 0.167 is 8.3 and 8.35, of 1.005 it is 50.25."""
    address = till.zone(standard="5")
    skus = [till.sku(price, currency="KWD") for price in (333, 333, 333, 1005)]
    till.promote(*skus[:3], off=500, currency_code="KWD", with_target="ORDER")
    basket = till.buy(*((sku, 1) for sku in skus), currency_code="KWD", shipping_address=address)
    assert basket.discounts == [167, 167, 166, 0]
    assert (basket.taxes, basket.total) == ([8, 8, 8, 50], 499 + 1005 + 74)


# -- exemptions


def test_exempt_order_shows_each_tax_that_it_does_not_pay(till: Till) -> None:
    address = till.zone(standard=QUEBEC, books="7")
    skus = till.skus(10000, 1000, classes=["", "books"])
    basket = till.buy(
        *((sku, 1) for sku in skus), shipping_address=address, tax_exemption=RESELLER, shipping=make_money(500)
    )
    assert (basket.components, basket.shipping, basket.total) == ([[0, 0], [0]], (500, 0, 500), 11500)
    assert {tax.exempt for line in basket.order.lines for tax in line.taxes} == {True}
    assert basket.order.price_details.tax_exemption == RESELLER


def test_exemption_that_takes_nothing_away_is_not_shown(till: Till) -> None:
    basket = till.buy((till.sku(1000, tax_class="stamps"), 1), shipping_address=till.zone(), tax_exemption=RESELLER)
    assert not basket.order.price_details.HasField("tax_exemption")


def test_exempt_order_does_not_pay_the_tax_that_its_prices_include(gross_till: Till) -> None:
    """11.90 and a method of 5.95 at 19 % are 10.00 and 5.00 without. A price of shipping that is stated stays."""
    sku, address = gross_till.sku(1190), gross_till.zone(standard="19")
    method = gross_till.method({"amount": make_money(595)})
    basket = gross_till.buy((sku, 2), shipping_method=method, shipping_address=address, tax_exemption=RESELLER)
    assert (basket.totals, basket.shipping, basket.tax) == ([2000], (500, 0, 500), 0)
    stated = gross_till.buy((sku, 1), shipping=make_money(595), shipping_address=address, tax_exemption=RESELLER)
    assert (stated.totals, stated.shipping) == ([1000], (595, 0, 595))


# -- gross prices abroad


@pytest.fixture(scope="module")
def home(home_till: Till) -> Address:
    """An address at home: 19 %, books 7 %."""
    return home_till.zone("home", standard="19", books="7")


@pytest.fixture(scope="module")
def abroad(home_till: Till) -> Address:
    """An address abroad: 20 %, books 5.5 %."""
    return home_till.zone("abroad", standard="20", books="5.5")


@pytest.mark.parametrize(
    ("price", "tax_class", "at_home", "away", "nowhere"),
    [
        (1190, "", (190, 1190), (200, 1200), 1000),
        (999, "", (160, 999), (168, 1007), 839),  # 9.99 x 1.2 / 1.19 = 10.0739; / 1.19 = 8.3950
        (1070, "books", (70, 1070), (55, 1055), 1000),
        (1000, "stamps", (0, 1000), (0, 1000), 1000),
    ],
)
def test_net_price_is_kept_abroad_and_the_way_back_gives_the_first_price(
    home_till: Till,
    home: Address,
    abroad: Address,
    price: int,
    tax_class: str,
    at_home: tuple[int, int],
    away: tuple[int, int],
    nowhere: int,
) -> None:
    sku, japan = home_till.sku(price, tax_class=tax_class), Address(recipient="Ada", region_code="JP")
    first = home_till.buy((sku, 1), shipping_address=home)
    assert [(one.tax, one.total) for one in (first, home_till.move(first, abroad))] == [at_home, away]
    assert home_till.move(first, japan).total == nowhere
    back = home_till.move(first, home)
    assert back.order.price_details == first.order.price_details
    assert home_till.buy((sku, 1), shipping_address=abroad).total == away[1]


def test_unit_price_is_converted_once(home_till: Till, home: Address, abroad: Address) -> None:
    """Two units of 9.99 abroad are 2 x 10.07, not 19.98 x 1.2 / 1.19 = 20.1479. 10 % off is 2.014 -> 2.01."""
    sku = home_till.sku(999)
    assert home_till.buy((sku, 2), shipping_address=abroad).total == 2014
    home_till.promote(sku, percent="10")
    away = home_till.buy((sku, 2), shipping_address=abroad)
    assert (away.discounts, away.total, away.tax) == ([201], 1813, 302)  # 18.13 / 6 = 3.0217
    back = home_till.move(away, home)
    assert (back.discounts, back.total, back.tax) == ([200], 1798, 287)  # 17.98 x 19 / 119 = 2.8708


def test_amounts_of_promotions_and_floors_abroad(home_till: Till, abroad: Address) -> None:
    """5.00 off is 5.00 off everywhere; the floor of 11.00 is converted like the price: 11.00 x 1.2 / 1.19 = 11.09."""
    sku, floored = home_till.skus(1190, 1000)
    home_till.add_price(floored, 1190, floor=1100, start_time={"seconds": 1})
    home_till.promote(sku, floored, off=500)
    basket = home_till.buy((sku, 1), (floored, 1), shipping_address=abroad)
    assert basket.discounts == [500, 1200 - 1109]


# -- the lowest price of 30 days


def test_lowest_price_of_the_last_days_is_told_for_each_group(till: Till) -> None:
    """Directive 98/6/EC, Article 6a: 10.00, then 7.00, then 9.00; tiers do not count, groups only for themselves."""
    sku = till.sku(1000)
    (variant,) = till.client.variants.list(till.product, filter=f"sku = {sku}")
    for amount in (700, 900):
        changed = Variant(name=variant.name, prices=[make_money(amount)])
        till.client.variants.update(changed, update_mask=["prices"])
    till.add_price(sku, 100, minimum_quantity=10)
    till.add_price(sku, 650, customer_group="trade")
    lowest = [till.client.prices.get_lowest(sku, "EUR", customer_group=group) for group in ("", "trade", "gold")]
    assert [minor(one.amount) for one in lowest] == [700, 650, 700]
