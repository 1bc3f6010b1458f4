"""Discounts and taxes in proportion: whatever the changes, the way there does not matter and nothing is negative."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.prorating import prorate_order

units = st.integers(1, 50)
amounts = st.integers(0, 10_000)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Return an order with discounts and taxes of another system, with prices that include tax or do not."""
    included, lines = draw(st.booleans()), []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        quantity, price_minor = draw(units), draw(amounts)
        discount_minor = draw(st.integers(0, quantity * price_minor))
        left_minor = quantity * price_minor - discount_minor
        tax_minor = draw(st.integers(0, left_minor if included else 10_000))
        lines.append(
            OrderLine(
                number,
                "A",
                "A",
                quantity,
                price_minor,
                quantity * price_minor,
                discount_minor=discount_minor,
                tax_minor=tax_minor,
            )
        )
    shipping_minor = draw(amounts)
    shipping_tax_minor = draw(st.integers(0, shipping_minor if included else 10_000))
    tax_minor = shipping_tax_minor + sum(line.tax_minor for line in lines)
    return Order(
        id="1",
        customer_id="ann",
        state="CONFIRMED",
        currency_code="EUR",
        total_minor=shipping_minor + (0 if included else tax_minor) + sum(line.total_minor for line in lines),
        location_id="main",
        shipping_address=None,
        external_reference="",
        note="",
        cancel_reason="",
        version=1,
        create_time_us=0,
        update_time_us=0,
        shipping_minor=shipping_minor,
        tax_minor=tax_minor,
        shipping_tax_minor=shipping_tax_minor,
        prices_include_tax=included,
        lines=tuple(lines),
    )


def change(order: Order, *, number: int, count: int, shipping_minor: int) -> Order:
    """Return an order with other active units of one line and another price of shipping."""
    lines = [
        replace(line, quantity=line.cancelled + count, subtotal_minor=(line.cancelled + count) * line.unit_price_minor)
        if line.line_number == number
        else line
        for line in order.lines
    ]
    changed = prorate_order(order, replace(order, lines=tuple(lines), shipping_minor=shipping_minor))
    added_minor = 0 if order.prices_include_tax else changed.tax_minor
    assert changed.total_minor == changed.shipping_minor + added_minor + sum(one.total_minor for one in changed.lines)
    assert changed.tax_minor == changed.shipping_tax_minor + sum(one.tax_minor for one in changed.lines)
    for line in changed.lines:
        assert min(line.total_minor, line.discount_minor, line.tax_minor) >= 0
        assert not order.prices_include_tax or line.tax_minor <= line.total_minor
    assert not order.prices_include_tax or changed.shipping_tax_minor <= changed.shipping_minor
    return changed


@settings(max_examples=200, deadline=None)
@given(orders(), st.lists(st.tuples(st.integers(1, 3), units, amounts), max_size=6))
def test_order_that_is_changed_back_costs_what_it_did(order: Order, steps: list[tuple[int, int, int]]) -> None:
    changed = order
    for number, count, shipping_minor in steps:
        changed = change(changed, number=number, count=count, shipping_minor=shipping_minor)
    for line in order.lines:
        number, count = line.line_number, line.quantity
        changed = change(changed, number=number, count=count, shipping_minor=order.shipping_minor)
    assert replace(changed, pricing=None) == order


@settings(max_examples=200, deadline=None)
@given(orders(), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_way_to_an_order_does_not_matter(order: Order, counts: list[int]) -> None:
    changed = order
    for count in counts:
        changed = change(changed, number=1, count=count, shipping_minor=order.shipping_minor)
    at_once = change(order, number=1, count=counts[-1], shipping_minor=order.shipping_minor)
    assert replace(changed, pricing=at_once.pricing) == at_once
