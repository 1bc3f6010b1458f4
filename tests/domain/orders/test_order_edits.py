"""Order edits: exact previews, all changes or none, and no lost units."""

from __future__ import annotations

import pytest

from storekeep.v1 import orders_pb2, products_pb2
from tests.support.order_cases import apply, edit, make_confirmed, make_two_line_order
from tests.support.records import Records
from tests.support.refusals import list_shortages, refused
from tests.support.resources import VARIANT
from tests.support.shops import MAIN, Shop, money


def apply_edit(shop: Shop, order: orders_pb2.Order, **changes) -> orders_pb2.Order:
    return shop.orders.ApplyOrderEdit(apply(order, **changes))


def preview_edit(shop: Shop, order: orders_pb2.Order, **changes) -> orders_pb2.Order:
    request = orders_pb2.PreviewOrderEditRequest(name=order.name, edit=edit(**changes))
    return shop.orders.PreviewOrderEdit(request)


def list_units(order: orders_pb2.Order) -> list[tuple[int, int, int]]:
    """Return (number, ordered units, open units) of each line."""
    return [(line.line_number, line.quantity, line.open_quantity) for line in order.lines]


@pytest.mark.parametrize("make", [make_two_line_order, make_confirmed])
def test_edit_adds_changes_and_removes_lines_at_once(shop: Shop, make):
    order = make(shop)
    first, second = (line.sku for line in order.lines)
    new = shop.variant(prices={"EUR": "2.50"}, stock=9).sku
    after = apply_edit(shop, order, add={new: 4}, change={1: 5}, remove=(2,))
    assert after.state == order.state
    assert list_units(after) == [(1, 5, 5), (2, 2, 0), (3, 4, 4)]
    assert [line.cancelled_quantity for line in after.lines] == [0, 2, 0]
    assert after.total == money("60")
    assert [shop.level(sku).allocated for sku in (first, second, new)] == [5, 0, 4]
    assert shop.get_order(order) == after


def test_added_line_costs_what_it_costs_now_and_the_others_what_they_did(shop: Shop):
    order = make_two_line_order(shop)
    sku = order.lines[0].sku
    request = products_pb2.ListVariantsRequest(parent="products/-", filter=f"sku = {sku}")
    (variant,) = shop.products.ListVariants(request).variants
    variant.ClearField("prices")
    variant.prices.append(money("99"))
    VARIANT.update(shop, variant, "prices")
    after = apply_edit(shop, order, add={sku: 1}, change={1: 4})
    assert [line.unit_price for line in after.lines] == [money("10"), money("10"), money("99")]
    assert after.total == money("159")


def test_preview_returns_the_exact_result_and_writes_nothing(shop: Shop, records: Records):
    order = make_confirmed(shop)
    changes = {"add": {shop.variant(stock=3).sku: 3}, "change": {1: 1}, "remove": (2,)}
    before = records.everything()
    preview = preview_edit(shop, order, **changes)
    assert records.everything() == before
    after = apply_edit(shop, order, **changes)
    for message in (preview, after):
        message.ClearField("update_time")
    assert preview == after


def test_preview_is_refused_as_the_edit_would_be(shop: Shop):
    order = make_two_line_order(shop)
    with refused("OUT_OF_STOCK") as refusal:
        preview_edit(shop, order, change={1: 10})
    sku = order.lines[0].sku
    assert refusal.metadata == list_shortages({sku: (10, 9)})
    with refused("ETAG_MISMATCH"):
        shop.orders.PreviewOrderEdit(
            orders_pb2.PreviewOrderEditRequest(name=order.name, edit=edit(change={1: 1}), etag="v9")
        )


def test_short_line_leaves_all_as_it_was(shop: Shop, records: Records):
    order = make_confirmed(shop)
    before = records.everything()
    with refused("OUT_OF_STOCK"):
        apply_edit(shop, order, change={1: 10}, remove=(2,))
    assert records.everything() == before


def test_freed_units_of_a_sku_can_be_taken_by_another_line(shop: Shop):
    sku = shop.variant(stock=5).sku
    order = shop.order((sku, 4), (sku, 1))
    after = apply_edit(shop, order, change={1: 1, 2: 4})
    assert list_units(after) == [(1, 1, 1), (2, 4, 4)]
    assert shop.level(sku).allocated == 5


def test_units_go_back_to_where_they_came_from(shop: Shop):
    other = shop.location(priority=9).name
    sku = shop.variant(stock=2).sku
    shop.adjust(sku, 3, location=other)
    order = shop.order((sku, 5))
    apply_edit(shop, order, change={1: 3})
    assert [shop.level(sku, location=location).allocated for location in (MAIN, other)] == [2, 1]
    apply_edit(shop, order, change={1: 1})
    assert [shop.level(sku, location=location).allocated for location in (MAIN, other)] == [1, 0]


def test_added_units_come_from_the_location_of_the_order(shop: Shop):
    own = shop.location().name
    sku = shop.variant(stock=9).sku
    shop.adjust(sku, 2, location=own)
    order = shop.order((sku, 1), location=own)
    with refused("OUT_OF_STOCK"):
        apply_edit(shop, order, change={1: 3})
    apply_edit(shop, order, change={1: 2})
    assert shop.level(sku, location=own).allocated == 2


def test_edit_that_changes_nothing_writes_nothing(shop: Shop, records: Records):
    order = make_two_line_order(shop)
    before = records.everything()
    assert apply_edit(shop, order, change={1: 3, 2: 2}) == order
    assert records.everything() == before


@pytest.mark.parametrize(
    "changes", [{}, {"change": {1: 1}, "remove": (1,)}], ids=["of nothing", "of a line to two things"]
)
def test_edit_that_makes_no_sense_is_refused(shop: Shop, changes):
    with refused("INVALID_FIELD") as refusal:
        apply_edit(shop, make_two_line_order(shop), **changes)
    assert list(refusal.violations) == ["edit"]


def test_order_has_a_thousand_lines_at_most(shop: Shop, records: Records):
    sku = shop.variant(stock=2_000).sku
    half = [orders_pb2.PlaceOrderLine(sku=sku, quantity=1)] * 499
    order = shop.order(*[(sku, 1)] * 500)
    added = orders_pb2.ApplyOrderEditRequest(name=order.name, edit=orders_pb2.OrderEdit(added_lines=half))
    assert len(shop.orders.ApplyOrderEdit(added).lines) == 999
    before = records.everything()
    two = orders_pb2.OrderEdit(added_lines=half[:2], removed_lines=[1, 2])  # removed lines still count
    with refused("INVALID_FIELD") as refusal:
        shop.orders.ApplyOrderEdit(orders_pb2.ApplyOrderEditRequest(name=order.name, edit=two))
    assert list(refusal.violations) == ["edit.added_lines"]
    assert records.everything() == before
    one = orders_pb2.OrderEdit(added_lines=half[:1])
    full = shop.orders.ApplyOrderEdit(orders_pb2.ApplyOrderEditRequest(name=order.name, edit=one))
    assert [line.line_number for line in full.lines] == list(range(1, 1_001))


def test_order_without_a_line_left_is_cancelled(shop: Shop):
    after = apply_edit(shop, make_confirmed(shop), remove=(1, 2))
    assert after.state == orders_pb2.ORDER_STATE_CANCELLED
    assert after.total == money("0")


def test_bound_units_are_not_taken_away(shop: Shop):
    order = make_confirmed(shop)
    shop.fulfill(order, (1, 2))
    with refused("UNITS_NOT_OPEN") as refusal:
        apply_edit(shop, order, change={1: 1})
    assert (refusal.metadata["wanted"], refusal.metadata["open"]) == ("2", "1")
    assert list_units(apply_edit(shop, order, change={1: 2}))[0] == (1, 2, 2)


def test_removed_line_can_be_ordered_again(shop: Shop):
    order = apply_edit(shop, make_two_line_order(shop), remove=(2,))
    after = apply_edit(shop, order, change={2: 1})
    assert list_units(after)[1] == (2, 3, 1)
    assert after.lines[1].cancelled_quantity == 2
    assert after.total == money("40")


def test_history_lists_an_edit_field_by_field(shop: Shop):
    order = make_two_line_order(shop)
    new = shop.variant(prices={"EUR": "2.50"}, stock=9).sku
    request = apply(order, add={new: 2}, change={1: 5}, remove=(2,))
    request.reason = "as agreed on the phone"
    shop.orders.ApplyOrderEdit(request)
    entries = shop.orders.ListOrderHistory(orders_pb2.ListOrderHistoryRequest(name=order.name)).entries
    assert list(entries[0].changes) == []
    assert (entries[1].method, entries[1].reason) == ("ApplyOrderEdit", "as agreed on the phone")
    assert [(change.field, change.old_value, change.new_value) for change in entries[1].changes] == [
        ("total", "50.00", "55.00"),
        ("lines[1].quantity", "3", "5"),
        ("lines[1].total", "30.00", "50.00"),
        ("lines[1].open_quantity", "3", "5"),
        ("lines[2].total", "20.00", "0.00"),
        ("lines[2].open_quantity", "2", "0"),
        ("lines[2].cancelled_quantity", "0", "2"),
        ("lines[3].sku", "", new),
        ("lines[3].quantity", "", "2"),
        ("lines[3].unit_price", "", "2.50"),
        ("lines[3].total", "", "5.00"),
        ("lines[3].open_quantity", "", "2"),
    ]
