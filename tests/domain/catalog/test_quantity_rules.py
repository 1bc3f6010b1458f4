"""Quantity rules: enforced for orders, edits and reservations, on the sum of all lines with the SKU."""

from __future__ import annotations

import pytest

from storekeep.v1 import orders_pb2, products_pb2
from tests.support.order_cases import apply
from tests.support.refusals import refused
from tests.support.resources import VARIANT
from tests.support.shops import Shop

RULES = {"minimum": 4, "maximum": 10, "multiple": 2}


def make_sku(shop: Shop, **rules: int) -> str:
    return str(shop.variant(stock=100, quantity_rules=rules or RULES).sku)


@pytest.mark.parametrize(
    ("units", "rule", "limit"),
    [((2,), "minimum", 4), ((12,), "maximum", 10), ((6, 6), "maximum", 10), ((5,), "multiple", 2)],
    ids=str,
)
def test_units_that_break_a_rule_are_refused_with_its_name(shop: Shop, units: tuple[int, ...], rule: str, limit: int):
    sku = make_sku(shop)
    lines = [(sku, quantity) for quantity in units]
    for call in (shop.order, shop.reserve):
        with refused("QUANTITY_NOT_ALLOWED") as refusal:
            call(*lines)
        assert refusal.metadata == {"sku": sku, "rule": rule, "limit": str(limit), "quantity": str(sum(units))}
    assert shop.level(sku).allocated == shop.level(sku).reserved == 0


@pytest.mark.parametrize(("units", "rule"), [(3, "minimum"), (11, "maximum")])
def test_one_unit_beyond_a_rule_is_refused(shop: Shop, units: int, rule: str):
    sku = make_sku(shop, minimum=4, maximum=10)
    with refused("QUANTITY_NOT_ALLOWED") as refusal:
        shop.order((sku, units))
    assert refusal.metadata["rule"] == rule


@pytest.mark.parametrize("units", [(4,), (10,), (3, 3)], ids=str)
def test_units_that_keep_the_rules_are_sold(shop: Shop, units: tuple[int, ...]):
    sku = make_sku(shop)
    lines = [(sku, quantity) for quantity in units]
    reservation = shop.reserve(*lines)
    assert [line.quantity for line in shop.order(*lines, reservation=reservation.name).lines] == list(units)


def test_first_sku_that_breaks_a_rule_is_named(shop: Shop):
    skus = sorted(make_sku(shop) for _ in range(3))
    with refused("QUANTITY_NOT_ALLOWED") as refusal:
        shop.order((skus[2], 1), (skus[1], 1), (skus[0], 4))
    assert refusal.metadata["sku"] == skus[1]


def test_edit_is_checked_by_the_units_that_it_leads_to(shop: Shop):
    sku = make_sku(shop)
    order = shop.order((sku, 8), (shop.variant(stock=1).sku, 1))
    for changes in ({"change": {1: 3}}, {"change": {1: 12}}, {"add": {sku: 4}}):
        with refused("QUANTITY_NOT_ALLOWED"):
            shop.orders.ApplyOrderEdit(apply(order, **changes))
    added = shop.orders.ApplyOrderEdit(apply(order, add={sku: 2}))
    assert [line.quantity for line in added.lines] == [8, 1, 2]
    removed = shop.orders.ApplyOrderEdit(apply(added, remove=(1, 3)))
    assert [line.quantity - line.cancelled_quantity for line in removed.lines] == [0, 1, 0]


def test_rules_do_not_bind_what_was_ordered_before(shop: Shop):
    variant = shop.variant(stock=10)
    order = shop.order((variant.sku, 3), (shop.variant(stock=2).sku, 2))
    variant.quantity_rules.minimum = 5
    VARIANT.update(shop, variant, "quantity_rules")
    changed = shop.orders.ApplyOrderEdit(apply(order, change={2: 1}))
    assert [line.quantity for line in changed.lines] == [3, 1]
    request = orders_pb2.CancelOrderLinesRequest(name=order.name)
    request.lines.add(line_number=1, quantity=1)
    assert shop.orders.CancelOrderLines(request).lines[0].cancelled_quantity == 1


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"minimum": 5, "maximum": 4}, "maximum"),
        ({"maximum": 4, "multiple": 6}, "multiple"),
        ({"minimum": 7, "maximum": 11, "multiple": 6}, "multiple"),
        ({"minimum": -1}, "minimum"),
        ({"maximum": 10**6 + 1}, "maximum"),
    ],
    ids=str,
)
def test_rules_that_nothing_keeps_are_refused(shop: Shop, rules: dict[str, int], field: str):
    with refused("INVALID_FIELD") as refusal:
        shop.variant(quantity_rules=rules)
    assert list(refusal.violations) == [f"variant.quantity_rules.{field}"]


def test_rules_are_removed_by_an_update(shop: Shop):
    variant = shop.variant(quantity_rules=RULES)
    variant.ClearField("quantity_rules")
    changed = VARIANT.update(shop, variant, "quantity_rules")
    assert not changed.HasField("quantity_rules")
    rules = products_pb2.QuantityRules()
    assert not shop.variant(quantity_rules=rules).HasField("quantity_rules")
