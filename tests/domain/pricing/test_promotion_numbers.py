"""Discounts, coupons, shipping and special prices, computed by hand from the declared algorithm, through the server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.tills import Till, make_money, minor

PAST = {"seconds": 1}


def eur(amount: int) -> dict[str, Any]:
    """Return a price of a shipping method."""
    return {"amount": make_money(amount)}


# -- exclusive promotions and coupons


def test_exclusive_promotion_with_a_coupon_applies_alone(till: Till) -> None:
    sku = till.sku(10000)
    open_name = till.promote(sku, percent="10", priority=9, requires_coupon=True)
    alone = till.promote(sku, percent="20", priority=1, exclusive=True, requires_coupon=True)
    codes = [till.coupon(open_name), till.coupon(alone)]
    assert till.buy((sku, 1), coupon_codes=codes[:1]).total == 9000
    assert till.buy((sku, 1), coupon_codes=codes[1:]).total == 8000
    assert till.refuse((sku, 1), coupon_codes=codes) == ["EXCLUDED"]


def test_of_two_exclusive_promotions_the_first_by_priority_applies_though_it_is_smaller(till: Till) -> None:
    sku = till.sku(10000)
    till.promote(sku, percent="5", priority=9, exclusive=True)
    till.promote(sku, percent="50", priority=1, exclusive=True)
    till.promote(sku, percent="30", priority=20)
    assert till.buy((sku, 1)).applied == [500]


def test_exclusive_promotion_whose_conditions_are_not_met_excludes_nothing(till: Till) -> None:
    sku = till.sku(4000)
    till.promote(sku, percent="50", priority=9, exclusive=True, conditions={"min_subtotal": make_money(5000)})
    till.promote(sku, percent="10")
    assert [till.buy((sku, units)).total for units in (1, 2)] == [3600, 4000]


def test_second_code_of_a_promotion_is_excluded(till: Till) -> None:
    sku = till.sku(1000)
    name = till.promote(sku, percent="10", requires_coupon=True)
    codes = [till.coupon(name).lower(), till.coupon(name)]
    assert till.refuse((sku, 1), coupon_codes=codes) == ["EXCLUDED"]
    assert till.buy((sku, 1), coupon_codes=codes[:1]).total == 900


def test_promotion_in_euros_does_not_reduce_dollars(till: Till) -> None:
    sku = till.sku(1000, currency="USD")
    till.promote(sku, off=500)
    assert till.buy((sku, 1), currency_code="USD").total == 1000


def test_code_of_an_active_promotion_that_is_for_other_orders_has_not_expired(till: Till) -> None:
    sku, other = till.skus(1000, 1000)
    in_dollars = till.promote(percent="10", currency_code="USD", requires_coupon=True)
    codes = [till.coupon(in_dollars), till.coupon(till.promote(other, percent="10"))]
    assert till.refuse((sku, 1), coupon_codes=codes) == ["CONDITIONS_NOT_MET"] * 2
    assert till.refuse((sku, 1), (other, 1), coupon_codes=codes) == ["CONDITIONS_NOT_MET"]
    till.client.promotions.end(in_dollars)
    assert till.refuse((other, 1), coupon_codes=codes) == ["EXPIRED"]


def test_first_order_and_groups_of_customers(till: Till) -> None:
    sku, member = till.sku(1000), till.add_customer(groups=["gold"])
    till.promote(sku, percent="10", conditions={"first_order": True})
    till.promote(sku, percent="50", conditions={"customer_groups": ["gold", "silver"]})
    stranger = till.add_customer()
    assert [till.buy((sku, 1), customer=one).total for one in (member, member, stranger, stranger)] == [
        450,
        500,
        900,
        1000,
    ]


# -- how an amount is spread


@pytest.mark.parametrize(
    ("weights", "amount", "shares"),
    [
        ([0, 1500, 500], 1000, [0, 750, 250]),
        ([1000, 1000, 1000], 100, [34, 33, 33]),
        ([1999, 333, 7], 1000, [855, 142, 3]),  # 854.638, 142.369 and 2.993
        ([1, 1, 9998], 3, [0, 0, 3]),  # 0.0003, 0.0003 and 2.9994
        ([500, 300], 1000, [500, 300]),
        ([0, 0], 100, [0, 0]),
    ],
    ids=str,
)
def test_largest_remainder_gives_the_shares_of_an_amount(
    till: Till, weights: list[int], amount: int, shares: list[int]
) -> None:
    skus = till.skus(*weights)
    till.promote(*skus, off=amount, with_target="ORDER")
    basket = till.buy(*((sku, 1) for sku in skus))
    assert (basket.discounts, basket.total) == (shares, sum(weights) - sum(shares))


def test_line_at_its_floor_leaves_its_share_to_the_others(till: Till) -> None:
    """5.00 off two of 10.00 is 2.50 each; one can only give 1.00, so that the other gives 4.00."""
    skus = till.skus(2000, 1000)
    till.add_price(skus[0], 1000, floor=900, start_time=PAST)
    till.promote(*skus, off=500, with_target="ORDER")
    assert till.buy(*((sku, 1) for sku in skus)).discounts == [100, 400]


def test_cap_is_spread_in_proportion_to_what_the_lines_would_have_got(till: Till) -> None:
    """50 % off 30, 20 and 10 is 15, 10 and 5; 10.00 of these 30 are 5.00, 3.333 and 1.667."""
    skus = till.skus(3000, 2000, 1000)
    till.promote(*skus, percent="50", with_max_discount=make_money(1000))
    assert till.buy(*((sku, 1) for sku in skus)).discounts == [500, 333, 167]


def test_budget_limits_the_last_discount(till: Till) -> None:
    sku = till.sku(10000)
    till.promote(sku, percent="10", budget=make_money(1200))
    assert [till.buy((sku, 1)).discounts for _ in range(3)] == [[1000], [200], [0]]


# -- percentages, fixed prices and tiers


def test_percentage_is_rounded_for_each_line(till: Till) -> None:
    """10 % of 0.05 is 0.5 -> 1 cent for each of three lines; of 0.15 it is 1.5 -> 2 cents for one line."""
    sku = till.sku(5)
    till.promote(sku, percent="10")
    assert till.buy((sku, 1), (sku, 1), (sku, 1)).discounts == [1, 1, 1]
    assert till.buy((sku, 3)).discounts == [2]


def test_fixed_unit_price_never_raises_a_price_and_counts_what_is_left(till: Till) -> None:
    """10 % off 10.00 leaves 9.00, and 7.00 is 2.00 less; 6.00 is cheaper anyway."""
    dear, cheap = till.skus(1000, 600)
    till.promote(dear, cheap, percent="10", priority=9)
    till.promote(dear, cheap, each=700)
    basket = till.buy((dear, 2), (cheap, 1))
    assert (basket.discounts, basket.applied, basket.total) == ([200 + 400, 60], [260, 400], 1400 + 540)


def test_fixed_unit_price_from_some_units_on(till: Till) -> None:
    sku, cheap = till.skus(1000, 500)
    till.promote(sku, cheap, each=700, conditions={"min_units": 3, "items": {"skus": [sku, cheap]}})
    assert [till.buy((sku, units)).total for units in (2, 3)] == [2000, 2100]
    assert till.buy((cheap, 3)).total == 1500


@pytest.mark.parametrize(("dearest", "discounts"), [(False, [500, 1000, 0]), (True, [0, 1000, 1500])])
def test_percentage_of_at_most_two_units(till: Till, dearest: bool, discounts: list[int]) -> None:
    skus = till.skus(1000, 2000, 3000)
    till.promote(*skus, percent="50", with_max_units=2, with_dearest_first=dearest)
    assert till.buy(*((sku, 1) for sku in skus)).discounts == discounts


def test_tier_of_a_promotion_counts_the_units_of_all_lines(till: Till) -> None:
    first, second = till.skus(1000, 500)
    till.promote(first, second, percent="10", with_tiers=[{"percentage_ppm": 200_000, "min_units": 5}])
    assert till.buy((first, 2), (second, 2)).discounts == [200, 100]
    assert till.buy((first, 3), (second, 2)).discounts == [600, 200]


def test_tier_of_a_promotion_counts_what_is_left(till: Till) -> None:
    """60.00 less 20 % is 48.00, which is below the tier of 50.00: 5.00 off, not 15.00."""
    sku = till.sku(6000)
    till.promote(sku, percent="20", priority=9)
    tiers = [{"amount": make_money(1500), "min_amount": make_money(5000)}]
    till.promote(sku, off=500, with_target="ORDER", with_tiers=tiers)
    assert till.buy((sku, 1)).applied == [1200, 500]
    assert till.buy((sku, 2)).applied == [2400, 1500]


# -- buy X get Y


@pytest.mark.parametrize(
    ("dearest", "discounts", "taxes"),
    [(False, [0, 0, 600], [190, 152, 0]), (True, [1000, 0, 0], [0, 152, 42])],
)
def test_third_unit_is_free_with_mixed_tax_classes(
    till: Till, dearest: bool, discounts: list[int], taxes: list[int]
) -> None:
    address = till.zone(standard="19", books="7")
    skus = till.skus(1000, 800, 600, classes=["", "", "books"])
    till.promote(*skus, get="100", with_buy_units=2, with_get_units=1, with_dearest_first=dearest)
    basket = till.buy(*((sku, 1) for sku in skus), shipping_address=address)
    assert (basket.discounts, basket.taxes) == (discounts, taxes)


@pytest.mark.parametrize(("units", "discount"), [(1, 0), (2, 500), (3, 500), (4, 999), (5, 999)])
def test_every_second_unit_at_half_price(till: Till, units: int, discount: int) -> None:
    """Half of 9.99 is 4.995 -> 5.00; half of two is 9.99."""
    sku = till.sku(999)
    till.promote(sku, get="50", with_buy_units=1, with_get_units=1)
    assert till.buy((sku, units)).discounts == [discount]


@pytest.mark.parametrize(
    ("bought", "rewards", "free"),
    [(4, 3, 2), (3, 3, 1), (4, 1, 1), (1, 5, 0), (0, 3, 0)],
)
def test_two_of_one_give_one_of_another(till: Till, bought: int, rewards: int, free: int) -> None:
    first, second = till.skus(1000, 300)
    till.promote(second, get="100", with_buy_units=2, with_get_units=1, with_bought={"skus": [first]})
    basket = till.buy(*((sku, units) for sku, units in ((first, bought), (second, rewards)) if units))
    assert sum(basket.discounts) == 300 * free


def test_units_to_get_are_taken_from_the_earlier_line_and_at_most_some(till: Till) -> None:
    """Six equal units on two lines make two groups of three, of which one counts."""
    sku = till.sku(1000)
    till.promote(sku, get="100", with_buy_units=2, with_get_units=1, with_max_units=1)
    assert till.buy((sku, 3), (sku, 3)).discounts == [1000, 0]


# -- shipping


@pytest.mark.parametrize(("percent", "shipping", "total"), [("20", 490, 4800 + 490), ("10", 0, 5400), ("0.1", 0, 5994)])
def test_free_shipping_begins_at_what_the_discounts_leave(till: Till, percent: str, shipping: int, total: int) -> None:
    sku = till.sku(6000)
    till.promote(sku, percent=percent)
    basket = till.buy((sku, 1), shipping_method=till.method(eur(490), free_from=make_money(5000)))
    assert (basket.shipping[2], basket.total) == (shipping, total)


def test_free_shipping_by_coupon_needs_the_discounted_subtotal(till: Till) -> None:
    sku, other = till.skus(6000, 6000)
    till.promote(sku, percent="20", priority=9)
    name = till.promote(
        percent="100",
        with_target="SHIPPING",
        requires_coupon=True,
        conditions={"min_subtotal": make_money(5000)},
    )
    options = {"coupon_codes": [till.coupon(name)], "shipping_method": till.method(eur(490))}
    assert till.refuse((sku, 1), **options) == ["CONDITIONS_NOT_MET"]
    basket = till.buy((other, 1), **options)
    assert (basket.shipping, basket.applied, basket.total) == ((490, 0, 0), [490], 6000)


def test_amount_off_shipping_spills_into_no_line(till: Till) -> None:
    sku = till.sku(1000)
    code = till.coupon(till.promote(off=1000, with_target="SHIPPING", requires_coupon=True))
    basket = till.buy((sku, 1), coupon_codes=[code], shipping=make_money(490))
    assert (basket.discounts, basket.shipping, basket.total) == ([0], (490, 0, 0), 1000)


def test_half_of_the_shipping_is_taxed_by_its_own_class(till: Till) -> None:
    """Half of 4.95 is 2.475 -> 2.48 off; 19 % of 2.47 is 0.4693."""
    address, sku = till.zone(standard="19", books="7"), till.sku(1000, tax_class="books")
    code = till.coupon(till.promote(percent="50", with_target="SHIPPING", requires_coupon=True))
    basket = till.buy((sku, 1), coupon_codes=[code], shipping=make_money(495), shipping_address=address)
    assert (basket.taxes, basket.shipping, basket.total) == ([70], (495, 47, 294), 1070 + 294)


@pytest.mark.parametrize(("units", "shipping"), [(1, 390), (2, 690), (4, 690), (5, 990)])
def test_shipping_by_weight(till: Till, units: int, shipping: int) -> None:
    """1.2 kg each, with prices from 0, 2 and 6 kg on."""
    prices = [eur(390), eur(690) | {"min_weight_g": 2000}, eur(990) | {"min_weight_g": 6000}]
    method = till.method(*prices, basis="SHIPPING_BASIS_BY_WEIGHT")
    assert till.buy((till.sku(100, weight_g=1200), units), shipping_method=method).shipping[2] == shipping


def test_shipping_by_subtotal_counts_what_the_discounts_leave(till: Till) -> None:
    """100.00 less 50 % is 50.00, which reaches the price from 50.00 on; less 50.1 % it does not."""
    prices = [eur(490), eur(290) | {"min_subtotal": make_money(5000)}]
    method = till.method(*prices, basis="SHIPPING_BASIS_BY_SUBTOTAL")
    costs = []
    for percent in ("50", "50.1"):
        sku = till.sku(10000)
        till.promote(sku, percent=percent)
        costs.append(till.buy((sku, 1), shipping_method=method).shipping[2])
    assert costs == [290, 490]


# -- special prices


def test_price_of_a_quantity_counts_the_units_of_all_lines(till: Till) -> None:
    sku = till.sku(1000)
    till.add_price(sku, 800, minimum_quantity=10)
    assert till.buy((sku, 4), (sku, 6)).totals == [3200, 4800]
    assert till.buy((sku, 4), (sku, 5)).totals == [4000, 5000]


def test_most_specific_price_holds_though_another_is_lower(till: Till) -> None:
    """A price of the group comes before a lower one from five units on, and a sale before the lower usual price."""
    sku, sold = till.skus(1000, 1000)
    till.add_price(sku, 950, customer_group="trade")
    till.add_price(sku, 900, minimum_quantity=5)
    member = till.add_customer(groups=["trade"])
    assert [till.buy((sku, 5), customer=one).total for one in (member, till.customer)] == [4750, 4500]
    till.add_price(sold, 1100, start_time=PAST)
    assert till.buy((sold, 1)).total == 1100
    till.add_price(sold, 1050, start_time=PAST)
    assert till.buy((sold, 1)).total == 1050


def test_price_that_has_ended_or_not_begun_does_not_hold(till: Till) -> None:
    sku = till.sku(1000)
    till.add_price(sku, 1, start_time=PAST, end_time={"seconds": 2})
    till.add_price(sku, 2, start_time={"seconds": 4_000_000_000})
    basket = till.buy((sku, 1))
    assert (minor(basket.order.lines[0].unit_price), basket.order.lines[0].price) == (1000, "")
