"""What orders cost after a change, computed by hand from the declared algorithm: cancellations, edits, other zones."""

from __future__ import annotations

from datetime import UTC, datetime

from storekeep.client import Address, Quote
from storekeep.v1.orders_pb2 import PlaceOrderLine
from tests.support.tills import Till, make_money, read_receipt

PAST = {"seconds": 1}


# -- cancelled units


def test_cancelling_units_spreads_the_amount_over_what_is_left(till: Till) -> None:
    """7.00 off 30.00 and 5.00 is 6.00 and 1.00; off 20.00 and 5.00 it is 5.60 and 1.40."""
    first, second = till.skus(1000, 500)
    till.promote(first, second, off=700, with_target="ORDER")
    order = till.buy((first, 3), (second, 1))
    assert (order.discounts, order.total) == ([600, 100], 2800)
    steps = [till.cancel(order, **{line: 1}) for line in ("line_1", "line_2", "line_1", "line_1")]
    assert [step.discounts for step in steps] == [[560, 140], [700, 0], [700, 0], [0, 0]]
    assert [step.total for step in steps] == [1800, 1300, 300, 0]


def test_cancelling_units_below_a_condition_ends_the_discount(till: Till) -> None:
    """10 % off from 50.00 on: 60.00 costs 54.00, and 48.00 costs 48.00."""
    sku = till.sku(1200)
    till.promote(sku, percent="10", conditions={"min_subtotal": make_money(5000)})
    order = till.buy((sku, 5))
    assert [order.total, till.cancel(order, line_1=1).total, till.cancel(order, line_1=1).total] == [5400, 4800, 3600]


def test_cancelling_the_unit_that_another_made_free_refunds_nothing(till: Till) -> None:
    sku = till.sku(1000)
    till.promote(sku, get="100", with_buy_units=2, with_get_units=1)
    order = till.buy((sku, 3))
    assert [order.total, till.cancel(order, line_1=1).total, till.cancel(order, line_1=1).total] == [2000, 2000, 1000]


def test_cancelling_units_below_free_shipping_brings_its_price_back(till: Till) -> None:
    method = till.method({"amount": make_money(490)}, free_from=make_money(5000))
    order = till.buy((till.sku(2000), 3), shipping_method=method)
    left = till.cancel(order, line_1=1)
    assert (order.shipping, order.total, left.shipping, left.total) == ((0, 0, 0), 6000, (490, 0, 490), 4490)


def test_cancelled_units_keep_the_price_of_the_quantity_that_was_ordered(till: Till) -> None:
    sku = till.sku(1000)
    till.add_price(sku, 800, minimum_quantity=10)
    assert till.cancel(till.buy((sku, 10)), line_1=9).total == 800


def test_cancelling_unit_by_unit_refunds_compound_taxes_to_the_cent(till: Till) -> None:
    """19.99: 1.00 and 2.09; 39.98: 2.00 and 4.19; 59.97: 3.00 and 6.28. Shipping of 4.99: 0.25 and 0.52."""
    address = till.zone(standard=("5", "9.975 compound"))
    order = till.buy((till.sku(1999), 3), shipping=make_money(499), shipping_address=address)
    shipping = 499 + 25 + 52
    assert order.components == [[300, 628]]
    assert order.total == 5997 + 928 + shipping
    assert [till.cancel(order, line_1=1).total for _ in range(3)] == [3998 + 619 + shipping, 1999 + 309 + shipping, 0]


# -- edits


def test_edit_keeps_promotions_that_have_ended_and_applies_them_to_new_lines(till: Till) -> None:
    """The new line costs today's price, less the 10 % that the order was placed with, and no later promotion."""
    first, second = till.skus(1000, 1500)
    name = till.promote(first, second, percent="10")
    order = till.buy((first, 1))
    till.client.promotions.end(name)
    till.promote(first, second, percent="50")
    till.add_price(second, 2000, start_time=PAST)
    edited = till.edit(order, add=[(second, 1)], change={1: 2})
    assert (edited.discounts, edited.total) == ([200, 200], 3600)
    assert till.edit(order, remove=[2], change={1: 1}).totals[:1] == [900]


def test_edit_keeps_the_rate_of_the_order_for_new_lines_of_its_class(till: Till) -> None:
    first, second = till.skus(1000, 1000)
    address = till.zone("z-frozen", standard="19")
    order = till.buy((first, 1), shipping_address=address)
    till.add_rate("taxZones/z-frozen", ("16",), start_time=datetime.now(UTC))
    assert till.buy((first, 1), shipping_address=address).taxes == [160]
    assert till.edit(order, add=[(second, 1)]).taxes == [190, 190]


def test_edit_reaches_a_condition_of_a_frozen_promotion(till: Till) -> None:
    sku = till.sku(2000)
    tiers = [{"percentage_ppm": 200_000, "min_units": 3}]
    till.promote(sku, percent="10", with_tiers=tiers)
    order = till.buy((sku, 2))
    assert [order.total, till.edit(order, change={1: 3}).total, till.edit(order, change={1: 2}).total] == [
        3600,
        4800,
        3600,
    ]


# -- other zones


def test_discounted_gross_order_moves_abroad_and_back(home_till: Till) -> None:
    """2 x 11.90 less 10 % is 21.42, of which 3.42 is tax; abroad 2 x 12.00 less 10 % is 21.60 with 3.60."""
    home = home_till.zone("home", standard="19")
    abroad, japan = home_till.zone(standard="20"), Address(recipient="Ada", region_code="JP")
    sku = home_till.sku(1190)
    home_till.promote(sku, percent="10")
    order = home_till.buy((sku, 2), shipping_address=home)
    moved = [home_till.move(order, address) for address in (abroad, japan, home)]
    assert [(one.tax, one.total) for one in (order, *moved)] == [(342, 2142), (360, 2160), (0, 1800), (342, 2142)]
    cancelled = home_till.cancel(order, line_1=1)
    assert (cancelled.tax, cancelled.total) == (171, 1071)
    assert home_till.move(order, abroad).total == 1080


def test_net_order_moves_to_a_zone_with_other_classes_and_back(till: Till) -> None:
    first, second = till.zone(standard="19", books="7"), till.zone(standard=("5", "9.975 compound"))
    skus = till.skus(1000, 1000, classes=["", "books"])
    order = till.buy(*((sku, 1) for sku in skus), shipping_address=first)
    moved = till.move(order, second)
    assert [order.taxes, moved.taxes, till.move(order, first).taxes] == [[190, 70], [155, 0], [190, 70]]
    assert moved.components == [[50, 105], []]  # 10.50 x 9.975 % = 1.0474


# -- quotes


def test_accepted_quote_costs_what_it_was_sent_with(till: Till) -> None:
    sku, address = till.sku(1000), till.zone(standard="19")
    name = till.promote(sku, percent="10")
    lines = [PlaceOrderLine(sku=sku, quantity=2)]
    quote = Quote(customer=till.customer, lines=lines, currency_code="EUR", shipping_address=address)
    made = till.client.quotes.create(quote)
    till.client.quotes.send(made.name)
    till.client.promotions.end(name)
    till.add_price(sku, 5000, start_time=PAST)
    order = read_receipt(till.client.quotes.accept(made.name))
    assert (order.discounts, order.taxes, order.total) == ([200], [342], 2142)
    assert till.cancel(order, line_1=1).total == 1071
