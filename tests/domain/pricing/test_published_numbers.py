"""Numbers that the test suites of other systems publish, through the server; each test names its source."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.client import IllegalState, PriceChanged, Storekeep, UnitsNotOpen
from storekeep.server.domain.money import spread_amount
from tests.support.shops import MAIN
from tests.support.tills import Receipt, Till, make_money, minor, read_receipt

NET_TAXES = [
    ([(123, 1)], "20", 148),  # vendure: order-calculator.spec.ts
    ([(123, 3)], "20", 443),  # vendure: order-calculator.spec.ts
    ([(4595, 1)], "10", 4595 + 460),  # sylius: rounding_taxes_on_order_item_level.feature
    ([(4594, 1)], "10", 4594 + 459),  # sylius: rounding_taxes_on_order_item_level.feature
    ([(1010, 10)], "23", 12423),  # sylius: rounding_taxes_on_order_item_level.feature
    ([(1000, 1)], "10", 1100),  # spree: tax_provider/internal_spec.rb
    ([(999, 1)], "20", 999 + 200),  # woocommerce: tax.php, which keeps 1.998
    ([(1000, 3)], "5", 3150),  # spree: default_tax_spec.rb
    ([(1000, 3), (1000, 3)], "5", 6300),  # spree: default_tax_spec.rb
]
GROSS_TAXES = [
    (999, 1, 0, "20", 167),  # woocommerce: tax.php, which keeps 1.665
    (1000, 3, 0, "5", 143),  # spree: default_tax_spec.rb
    (1000, 3, 100, "5", 138),  # spree: default_tax_spec.rb
    (850, 50, 0, "7", 2780),  # spree: default_tax_spec.rb
    (850, 50, 4000, "7", 2519),  # spree: default_tax_spec.rb
]
NET_MUGS = {"shirt": 1000, "symfony": 5605, "php": 5604}
GROSS_MUGS = {"shirt": 1000, "symfony": 5695, "php": 5690}


# -- tax


@pytest.mark.parametrize(("items", "rate", "total"), NET_TAXES, ids=str)
def test_net_prices_give_the_published_total(till: Till, items: list[tuple[int, int]], rate: str, total: int) -> None:
    lines = [(till.sku(price), units) for price, units in items]
    assert till.buy(*lines, shipping_address=till.zone(standard=rate)).total == total


@pytest.mark.parametrize(("price", "units", "off", "rate", "tax"), GROSS_TAXES)
def test_gross_prices_contain_the_published_tax(
    gross_till: Till, price: int, units: int, off: int, rate: str, tax: int
) -> None:
    sku = gross_till.sku(price)
    if off:
        gross_till.promote(sku, off=off)
    basket = gross_till.buy((sku, units), shipping_address=gross_till.zone(standard=rate))
    assert (basket.tax, basket.total) == (tax, price * units - off)


def test_compound_tax_on_net_and_in_gross_prices(till: Till, gross_till: Till) -> None:
    """woocommerce: tax.php: 5.00 and 8.925; 4.3889 and 7.8341."""
    for one, taxes in ((till, [500, 893]), (gross_till, [439, 783])):
        address = one.zone(standard=("5", "8.5 compound"))
        assert one.buy((one.sku(10000), 1), shipping_address=address).components == [taxes]


def test_gross_line_and_gross_shipping(gross_till: Till) -> None:
    """vendure: order-calculator.spec.ts."""
    address = gross_till.zone(standard="20")
    basket = gross_till.buy((gross_till.sku(100), 1), shipping_address=address, shipping=make_money(500))
    assert (basket.nets, basket.totals, basket.shipping) == ([83], [100], (500, 500 - 417, 500))


def test_german_gross_prices_of_several_classes(unit_till: Till) -> None:
    """solidus: taxation_integration_spec.rb. It has two shipments, for which Storekeep has two orders."""
    address = unit_till.zone(seven="7", nineteen="19", nine="9")
    ships = [
        unit_till.method({"amount": make_money(amount)}, tax_class=tax_class)
        for amount, tax_class in ((800, "seven"), (1600, "nineteen"))
    ]
    book, fruit, sweater, download = unit_till.skus(
        2000, 500, 3000, 1000, classes=["seven", "nine", "nineteen", "nineteen"]
    )
    first = unit_till.buy((book, 1), (fruit, 1), shipping_method=ships[0], shipping_address=address)
    second = unit_till.buy((sweater, 1), (download, 1), shipping_method=ships[1], shipping_address=address)
    assert (first.taxes, first.shipping[1]) == ([131, 41], 52)
    assert (second.taxes, second.shipping[1]) == ([479, 160], 255)


def test_gross_tax_by_line_and_by_unit(gross_till: Till, unit_till: Till) -> None:
    """magento2: including_tax_row.php, including_tax_unit.php."""
    for till, net, tax in ((gross_till, 1665, 333), (unit_till, 1664, 334)):
        basket = till.buy((till.sku(999), 2), shipping_address=till.zone(standard="20"))
        assert (basket.net, basket.tax, basket.total) == (net, tax, 1998)


def test_tax_on_a_discounted_amount_and_included_tax(till: Till, gross_till: Till) -> None:
    """spree: tax_provider/internal_spec.rb."""
    sku = till.sku(1000)
    till.promote(sku, off=500, with_target="ORDER")
    assert till.buy((sku, 1), shipping_address=till.zone(standard="10")).tax == 50
    included = gross_till.buy((gross_till.sku(1000), 1), shipping_address=gross_till.zone(standard="20"))
    assert (included.tax, included.net) == (167, 833)


def test_tax_on_shipping_rounds_on_its_own(till: Till) -> None:
    """taxjar-ruby: taxes.json."""
    basket = till.buy((till.sku(1500), 1), shipping=make_money(150), shipping_address=till.zone(standard="7"))
    assert (basket.taxes, basket.shipping[1], basket.tax) == ([105], 11, 116)


@pytest.mark.parametrize(
    ("fee", "rates", "total", "tax"),
    [
        (5106, {"ship": "10"}, 6055, 460),
        (5104, {"ship": "10"}, 6053, 459),
        (5104, {"ship": "10", "standard": "23"}, 6283, 689),
    ],
    ids=str,
)
def test_tax_on_discounted_shipping(till: Till, fee: int, rates: dict[str, str], total: int, tax: int) -> None:
    """sylius: applying_correct_taxes_for_order_with_discount_for_shipping.feature."""
    sku, method = till.sku(1000), till.method({"amount": make_money(fee)}, tax_class="ship")
    till.promote(percent="10", with_target="SHIPPING", conditions={"items": {"skus": [sku]}})
    basket = till.buy((sku, 1), shipping_method=method, shipping_address=till.zone(**rates))
    assert (basket.total, basket.tax) == (total, tax)


# -- tax on what discounts leave


def buy_mugs(till: Till, prices: dict[str, int], units: dict[str, int], *, target: str, **offs: int) -> Receipt:
    """Buy shirts at 23 % and mugs at 10 %, with an amount off for each of `offs` that the basket contains."""
    skus = {name: till.sku(price, tax_class="shirts" if name == "shirt" else "mugs") for name, price in prices.items()}
    for name, off in offs.items():
        chosen = [skus[name]] if target == "UNITS" else []
        till.promote(*chosen, off=off, with_target=target, conditions={"items": {"skus": [skus[name]]}})
    lines = [(skus[name], count) for name, count in units.items()]
    return till.buy(*lines, shipping_address=till.zone(shirts="23", mugs="10"))


@pytest.mark.parametrize(
    ("units", "offs", "total", "tax"),
    [
        ({"symfony": 1}, {}, 5055, 460),
        ({"php": 1}, {}, 5053, 459),
        ({"shirt": 2, "php": 1}, {}, 7479, 885),
        ({"symfony": 2, "php": 1}, {}, 16273, 1479),
        ({"symfony": 1, "shirt": 1}, {"shirt": 500}, 5704, 609),
    ],
    ids=str,
)
def test_net_tax_after_amounts_off_the_order(
    till: Till, units: dict[str, int], offs: dict[str, int], total: int, tax: int
) -> None:
    """sylius: applying_correct_taxes_for_order_with_discount_for_whole_order.feature."""
    basket = buy_mugs(till, NET_MUGS, units, target="ORDER", symfony=1010, php=1010, **offs)
    assert (basket.total, basket.tax) == (total, tax)


@pytest.mark.parametrize(
    ("target", "units", "offs", "total", "tax"),
    [
        ("ORDER", {"symfony": 1}, {}, 4695, 427),
        ("ORDER", {"php": 1}, {}, 4690, 426),
        ("ORDER", {"shirt": 2, "php": 1}, {}, 6690, 775),
        ("ORDER", {"php": 2, "symfony": 1}, {}, 15075, 1370),
        ("ORDER", {"symfony": 1, "shirt": 1}, {"shirt": 500}, 5195, 547),
        ("UNITS", {"symfony": 1}, {}, 4695, 427),
        ("UNITS", {"php": 1}, {}, 4690, 426),
        ("UNITS", {"shirt": 2, "symfony": 1}, {}, 6695, 801),
        ("UNITS", {"shirt": 2, "symfony": 2}, {}, 11390, 1228),
    ],
    ids=str,
)
def test_gross_tax_after_amounts_off(
    gross_till: Till, target: str, units: dict[str, int], offs: dict[str, int], total: int, tax: int
) -> None:
    """sylius: applying_correct_taxes_for_order_with_discount_for_{whole,an_item_in}_order_….feature."""
    basket = buy_mugs(gross_till, GROSS_MUGS, units, target=target, symfony=1000, php=1000, **offs)
    assert (basket.total, basket.tax) == (total, tax)


# -- proration


@pytest.mark.parametrize(
    ("weights", "amount", "shares"),
    [
        ([12300], 300, [300]),  # vendure: prorate.spec.ts, with a weight of 123
        ([4300, 1400, 2300], 299, [161, 52, 86]),  # vendure: prorate.spec.ts
        ([1000, 1000, 1000], 299, [100, 100, 99]),  # vendure: prorate.spec.ts
        ([1000, 0], 40, [40, 0]),  # vendure: prorate.spec.ts, with weights of 10 and 0
        ([2000, 2000, 2000], 1000, [334, 333, 333]),  # sylius: IntegerDistributorSpec.php
    ],
)
def test_amount_off_an_order_has_the_published_shares(
    till: Till, weights: list[int], amount: int, shares: list[int]
) -> None:
    """A discount is never more than the price, so that two of the weights are larger than in the source."""
    skus = till.skus(*weights)
    till.promote(*skus, off=amount, with_target="ORDER")
    assert till.buy(*((sku, 1) for sku in skus)).discounts == shares


@pytest.mark.parametrize(
    ("weights", "amount", "shares"),
    [
        ([123], 300, [300]),  # vendure: prorate.spec.ts
        ([10, 0], 40, [40, 0]),  # vendure: prorate.spec.ts
        ([1, 1, 1], -1000, [-334, -333, -333]),  # sylius: IntegerDistributorSpec.php
        ([0, 0], 40, [0, 0]),
        ([], 40, []),
    ],
)
def test_spread_amount_gives_shares_that_no_order_has(weights: list[int], amount: int, shares: list[int]) -> None:
    assert spread_amount(amount, weights) == shares


def test_percentage_of_an_order_after_an_item_discount(till: Till) -> None:
    """help.salesforce.com: cc.b2c_promotion_proration_logic."""
    first, second = till.skus(6000, 5000)
    till.promote(first, second, percent="15")
    assert till.buy((first, 1), (second, 1)).discounts == [900, 750]
    reduced, other = till.skus(6000, 5000)
    till.promote(reduced, off=1000, priority=9)
    till.promote(reduced, other, percent="15")
    both = till.buy((reduced, 1), (other, 1))
    assert [minor(share.amount) for share in both.order.lines[0].discount_shares] == [1000, 750]
    assert (both.discounts[1], both.total) == (750, 8500)
    excluded = till.buy((first, 1), (second, 1), (till.sku(4000), 1))
    assert (excluded.discounts, excluded.total) == ([900, 750, 0], 13350)


# -- floors and promotions


def test_price_floor_limits_a_percentage(till: Till) -> None:
    """sylius: receiving_discounts_with_product_minimum_price_specified.feature."""
    sku = till.sku(9000)
    till.add_price(sku, 5000, floor=4500, minimum_quantity=1, start_time={"seconds": 1})
    till.promote(sku, percent="50")
    basket = till.buy((sku, 1))
    assert (basket.total, basket.discounts) == (4500, [500])


@pytest.mark.parametrize(("amount_priority", "percent_priority", "total"), [(1, 4, 7000), (4, 1, 7200)])
def test_promotions_apply_by_priority(till: Till, amount_priority: int, percent_priority: int, total: int) -> None:
    """sylius: receiving_discount_in_order_of_promotions_priority.feature."""
    sku = till.sku(10000)
    till.promote(sku, off=1000, with_target="ORDER", priority=amount_priority)
    till.promote(sku, percent="20", priority=percent_priority)
    assert till.buy((sku, 1)).total == total


def test_fraction_of_a_percent_and_nothing_spills_into_shipping(till: Till) -> None:
    """vendure: order-promotion.e2e-spec.ts."""
    sku, cheap = till.skus(6000, 120)
    till.promote(sku, percent="10.5")
    assert till.buy((sku, 1)).total == 5370
    till.promote(cheap, off=1000, with_target="ORDER")
    small = till.buy((cheap, 1), shipping=make_money(500))
    assert (small.totals, small.shipping, small.total) == ([0], (500, 0, 500), 500)


def test_amount_off_units_is_never_more_than_the_price(till: Till) -> None:
    """woocommerce: discounts.php."""
    sku = till.sku(1395)
    till.promote(sku, off=2000, with_target="UNITS")
    assert till.buy((sku, 3)).discounts == [4185]


def test_two_percentages_compound(till: Till) -> None:
    """medusa: compute-actions.spec.ts."""
    skus = till.skus(5000, 15000)
    for _ in range(2):
        till.promote(*skus, percent="10")
    lines = till.buy(*((sku, 1) for sku in skus)).order.lines
    assert [[minor(share.amount) for share in line.discount_shares] for line in lines] == [[500, 450], [1500, 1350]]


def test_tiers_of_a_percentage(till: Till) -> None:
    """solidus: tiered_percent_spec.rb."""
    sku = till.sku(1000)
    tiers: list[dict[str, Any]] = [
        {"percentage_ppm": 150_000, "min_amount": make_money(2000)},
        {"percentage_ppm": 200_000, "min_amount": make_money(3000)},
    ]
    till.promote(sku, percent="10", with_tiers=tiers, currency_code="EUR")
    assert [till.buy((sku, units)).discounts for units in (1, 2, 3)] == [[100], [300], [600]]


# -- checkouts


def test_price_of_the_server_rules(till: Till) -> None:
    """UCP conformance: business_logic_test.py. A caller cannot send a title or a price, only the total it expects."""
    sku = till.sku(3500, display_name="Bouquet")
    lines: dict[str, Any] = {"customer": till.customer, "currency_code": "EUR"}
    with pytest.raises(PriceChanged):
        till.client.orders.place(lines=[(sku, 1)], expected_total=make_money(1), **lines)
    assert [till.buy((sku, units)).total for units in (1, 2)] == [3500, 7000]
    assert "Bouquet" in till.buy((sku, 1)).order.lines[0].display_name


def test_percentage_off_each_line_adds_up(till: Till) -> None:
    """agentic-commerce-protocol: percentage-discount-with-allocations.json."""
    skus = till.skus(2500, 6000)
    till.promote(*skus, percent="20")
    basket = till.buy((skus[0], 2), (skus[1], 1))
    assert (basket.discounts, basket.applied, basket.total) == ([1000, 1200], [2200], 8800)


# -- refunds, returns and stock


def read_difference(client: Storekeep, order: str) -> int:
    """Return by how much the last change of an order reduced its total, from its history."""
    entries = list(client.orders.list_history(order))
    (change,) = [one for entry in entries[-1:] for one in entry.changes if one.field == "total"]
    return minor_text(change.old_value) - minor_text(change.new_value)


def minor_text(amount: str) -> int:
    """Return an amount such as `45.75 EUR` in cents."""
    return int(amount.split()[0].replace(".", ""))


def test_what_is_to_be_refunded_is_told_and_never_more_than_is_left(till: Till) -> None:
    """spree: workflows/refunds/create_spec.rb: refund all of 45.75, 10, more than is left, nothing.

    Storekeep takes no payments. It tells the difference that a cancellation makes, which the shop then refunds, and
    refuses a cancellation of units that are not there. A refund of 0 has no counterpart: 0 units mean all open ones.
    """
    ten, rest = till.skus(1000, 3575)
    for units, difference in (({1: 1}, 1000), ({1: 1, 2: 1}, 4575)):
        order = till.buy((ten, 1), (rest, 1)).order
        assert minor(order.total) == 4575
        left = till.client.orders.cancel_lines(order.name, units)
        assert (minor(left.total), read_difference(till.client, order.name)) == (4575 - difference, difference)
        with pytest.raises((UnitsNotOpen, IllegalState)):
            till.client.orders.cancel_lines(order.name, {1: 1})


def test_units_come_back_once_and_never_more_than_were_shipped(till: Till) -> None:
    """spree: workflows/returns/lifecycle_spec.rb: more than shipped, more than requested, twice, and free again.

    In Storekeep, what comes back is a shipped fulfilment as a whole: its units are then open again.
    """
    orders, fulfillments = till.client.orders, till.client.fulfillments
    order = orders.confirm(till.buy((till.sku(1000), 3)).order.name)
    with pytest.raises(UnitsNotOpen):
        fulfillments.create(order.name, units={1: 4})
    pending = fulfillments.create(order.name, units={1: 2})
    with pytest.raises(IllegalState):
        fulfillments.restock(pending.name)
    with pytest.raises(UnitsNotOpen):
        fulfillments.create(order.name, units={1: 2})
    fulfillments.ship(pending.name)
    fulfillments.restock(pending.name)
    with pytest.raises(IllegalState):
        fulfillments.restock(pending.name)
    assert fulfillments.create(order.name, units={1: 3}).lines[0].quantity == 3
    assert read_receipt(orders.get(order.name)).total == 3000


@pytest.mark.parametrize(
    ("allocated", "threshold", "backorders", "saleable"),
    [(0, 0, 0, 10), (0, 3, 0, 7), (5, 0, 0, 5), (5, 3, 0, 2), (10, 0, 0, 0), (10, 0, 5, 5)],
)
def test_saleable_stock(till: Till, allocated: int, threshold: int, backorders: int, saleable: int) -> None:
    """vendure.io: announcing-vendure-v0-17-0. Its negative threshold is a backorder limit here."""
    sku = till.sku(100)
    till.client.inventory.set_stock(f"{MAIN}/stockLevels/{sku}", quantity=10)
    if allocated:
        till.buy((sku, allocated))
    till.limit_stock(sku, safety_threshold=threshold, backorder_limit=backorders)
    assert till.available(sku) == saleable
