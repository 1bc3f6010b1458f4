"""Changes of orders: numbers, shipping cost, cancelled units, holds, notes and history."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from storekeep.v1 import orders_pb2
from tests.support.order_cases import (
    apply,
    make_confirmed,
    make_fulfilled,
    make_partially_fulfilled,
    make_two_line_order,
    put_on_hold,
    units,
)
from tests.support.records import Records
from tests.support.refusals import refusal, refused
from tests.support.shops import MAIN, Shop, money


def cancel_lines(shop: Shop, order: orders_pb2.Order, *lines: tuple[int, int], **fields) -> orders_pb2.Order:
    request = orders_pb2.CancelOrderLinesRequest(name=order.name, lines=units(*lines), **fields)
    return shop.orders.CancelOrderLines(request)


def list_history(shop: Shop, order: orders_pb2.Order) -> list[orders_pb2.OrderHistoryEntry]:
    return list(shop.orders.ListOrderHistory(orders_pb2.ListOrderHistoryRequest(name=order.name)).entries)


def list_changes(entry: orders_pb2.OrderHistoryEntry) -> dict[str, tuple[str, str]]:
    """Return field -> (old value, new value)."""
    return {change.field: (change.old_value, change.new_value) for change in entry.changes}


# -- numbers and shipping cost


def test_number_is_made_of_the_place_in_the_ledger(shop: Shop, records: Records):
    order = shop.order()
    sequence = records.value(
        "SELECT sequence FROM audit_entries WHERE resource = ? AND type = 'order.placed'", order.name
    )
    assert order.number == f"SK-{sequence:08d}"
    assert shop.get_order(order).number == order.number
    reply = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(filter=f"number = {order.number}"))
    assert list(reply.orders) == [order]


def test_numbers_of_orders_placed_at_once_differ(shop: Shop):
    request = shop.order_request((shop.variant(stock=60).sku, 1))
    calls = [shop.orders.PlaceOrder.future(request) for _ in range(50)]
    assert len({call.result().number for call in calls}) == 50


def test_freight_is_part_of_the_total(shop: Shop):
    order = shop.order((shop.variant(stock=1).sku, 1), shipping=money("4.90"))
    assert (order.shipping, order.total) == (money("4.90"), money("14.90"))
    assert not shop.order().HasField("shipping")
    assert shop.get_order(order) == order


@pytest.mark.parametrize(
    ("freight", "reason"),
    [
        (money("1", "USD"), "CURRENCY_MISMATCH"),
        (money("0.001"), "INVALID_AMOUNT"),
        (money("1", "ZZZ"), "UNKNOWN_CURRENCY"),
    ],
)
def test_freight_that_is_no_amount_of_the_order_is_refused(shop: Shop, freight, reason: str):
    with refused(reason):
        shop.order(shipping=freight)


def test_shipping_cost_is_cancelled_with_the_order(shop: Shop):
    order = shop.cancel(shop.order(shipping=money("4.90")))
    assert order.total == money("0")
    assert list_changes(list_history(shop, order)[-1])["shipping"] == ("4.90", "0.00")


# -- cancelling units


def test_cancelled_units_are_released_and_cost_nothing(shop: Shop):
    order = cancel_lines(shop, make_two_line_order(shop), (1, 2), reason="broken")
    (first, second) = order.lines
    assert (first.quantity, first.open_quantity, first.cancelled_quantity) == (3, 1, 2)
    assert (first.subtotal, first.total, order.total) == (money("30"), money("10"), money("30"))
    assert second.open_quantity == 2
    assert shop.level(first.sku).allocated == 1
    assert list_history(shop, order)[-1].reason == "broken"


def test_order_with_all_units_cancelled_is_cancelled(shop: Shop):
    order = cancel_lines(shop, make_confirmed(shop), (1, 0), (2, 2), reason="changed their mind")
    assert order.state == orders_pb2.ORDER_STATE_CANCELLED
    assert (order.cancel_reason, order.total) == ("changed their mind", money("0"))


def test_order_with_the_rest_cancelled_is_fulfilled(shop: Shop):
    order = cancel_lines(shop, make_partially_fulfilled(shop), (1, 0), (2, 0))
    assert order.state == orders_pb2.ORDER_STATE_FULFILLED
    assert order.total == money("10")


def test_units_are_cancelled_from_the_last_location_first(shop: Shop):
    other = shop.location(priority=9).name
    sku = shop.variant(stock=2).sku
    shop.adjust(sku, 3, location=other)
    order = cancel_lines(shop, shop.order((sku, 5)), (1, 4))
    assert [shop.level(sku, location=location).allocated for location in (MAIN, other)] == [1, 0]
    assert order.lines[0].open_quantity == 1


def test_same_sku_on_two_lines_is_cancelled_by_line(shop: Shop):
    sku = shop.variant(stock=9).sku
    order = cancel_lines(shop, shop.order((sku, 3), (sku, 4)), (2, 1))
    assert [line.open_quantity for line in order.lines] == [3, 3]
    assert shop.level(sku).allocated == 6


def test_more_units_than_are_open_are_not_cancelled(shop: Shop, records: Records):
    order = make_partially_fulfilled(shop)
    before = records.everything()
    with refused("UNITS_NOT_OPEN") as told_why:
        cancel_lines(shop, order, (2, 1), (1, 3))
    assert told_why.metadata == {"resource": order.name, "line_number": "1", "wanted": "3", "open": "2"}
    assert f"line 1 of order {order.number} has " in told_why.text
    assert records.everything() == before


# -- holds and completion


def test_hold_says_why_and_resuming_forgets_it(shop: Shop):
    order = put_on_hold(shop, shop.order())
    assert (order.held, order.hold_reason, order.state) == (True, "a doubtful address", orders_pb2.ORDER_STATE_PLACED)
    with refused("ORDER_HELD") as told_why:
        shop.confirm(order)
    assert told_why.metadata == {"resource": order.name, "hold_reason": "a doubtful address"}
    assert told_why.text == f"order {order.number} is held: a doubtful address"
    resumed = shop.orders.ResumeOrder(orders_pb2.ResumeOrderRequest(name=order.name))
    assert (resumed.held, resumed.hold_reason) == (False, "")
    assert shop.confirm(order).state == orders_pb2.ORDER_STATE_CONFIRMED


def test_held_orders_are_listed(shop: Shop):
    customer = shop.customer().name
    order = put_on_hold(shop, shop.order(customer=customer))
    shop.order(customer=customer)
    reply = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(filter=f"customer = {customer} AND held = true"))
    assert list(reply.orders) == [order]


def test_order_is_completed_once_all_is_shipped(shop: Shop):
    order = make_fulfilled(shop)
    completed = shop.orders.CompleteOrder(orders_pb2.CompleteOrderRequest(name=order.name))
    assert completed.state == orders_pb2.ORDER_STATE_COMPLETED
    assert completed.lines == order.lines


# -- notes and history


def test_notes_are_kept_in_order_and_leave_the_order_alone(shop: Shop):
    order = shop.order()
    for content in ("Called.", "Called back."):
        shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=order.name, content=content))
    request = orders_pb2.ListOrderNotesRequest(parent=order.name, page_size=1)
    first = shop.orders.ListOrderNotes(request)
    request.page_token = first.next_page_token
    rest = shop.orders.ListOrderNotes(request)
    notes = [*first.notes, *rest.notes]
    assert [(note.content, note.actor) for note in notes] == [("Called.", shop.subject), ("Called back.", shop.subject)]
    assert all(note.name.startswith(f"{order.name}/notes/") for note in notes)
    assert shop.get_order(order) == order
    assert len(list_history(shop, order)) == 1


@pytest.mark.parametrize("content", ["", "x" * 2001])
def test_note_of_no_or_too_many_characters_is_refused(shop: Shop, content: str):
    with refused("INVALID_FIELD"):
        shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=shop.order().name, content=content))


def test_history_lists_actors_and_changed_fields(shop: Shop):
    order = make_confirmed(shop)
    put_on_hold(shop, order)
    shop.orders.ResumeOrder(orders_pb2.ResumeOrderRequest(name=order.name))
    shop.ship(shop.fulfill(order))
    entries = list_history(shop, order)
    assert [entry.method for entry in entries] == [
        "PlaceOrder",
        "ConfirmOrder",
        "HoldOrder",
        "ResumeOrder",
        "ShipFulfillment",
    ]
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
    expiry = list_changes(entries[1]).pop("expire_time")
    assert expiry[0].endswith("Z")
    assert list_changes(entries[1]) == {"state": ("PLACED", "CONFIRMED"), "expire_time": (expiry[0], "")}
    assert list_changes(entries[2]) == {"held": ("false", "true"), "hold_reason": ("", "a doubtful address")}
    assert entries[2].reason == "a doubtful address"
    assert list_changes(entries[4])["lines[1].fulfilled_quantity"] == ("0", "3")
    assert entries[4].to_state == orders_pb2.ORDER_STATE_FULFILLED


# -- races


def call_at_once(*calls) -> list[str]:
    """Make calls concurrently and return their error reasons; empty for success."""
    with ThreadPoolExecutor(len(calls)) as pool:
        results = [pool.submit(refusal, *call) for call in calls]
        return [error.reason if (error := result.result()) else "" for result in results]


def test_loser_of_two_concurrent_edits_gets_the_current_etag(shop: Shop):
    order = make_two_line_order(shop)
    requests = [apply(order, change={1: quantity}) for quantity in (4, 5)]
    for request in requests:
        request.etag = order.etag
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(refusal, shop.orders.ApplyOrderEdit, request) for request in requests]
    (lost,) = [error for result in results if (error := result.result()) is not None]
    assert (lost.reason, lost.metadata["etag"]) == ("ETAG_MISMATCH", "v2")
    after = shop.get_order(order)
    assert after.etag == "v2"
    assert shop.level(order.lines[0].sku).allocated == after.lines[0].open_quantity


def test_of_cancelling_and_shipping_at_once_one_wins_and_no_unit_is_lost(shop: Shop):
    for _ in range(10):
        order = make_confirmed(shop)
        sku = order.lines[0].sku
        made = shop.fulfill(order)
        lost = call_at_once(
            (shop.orders.CancelOrder, orders_pb2.CancelOrderRequest(name=order.name)),
            (shop.orders.ShipFulfillment, orders_pb2.ShipFulfillmentRequest(name=made.name)),
        )
        assert sorted(lost) == ["", "ILLEGAL_STATE"]
        level, after = shop.level(sku), shop.get_order(order)
        shipped = after.state == orders_pb2.ORDER_STATE_FULFILLED
        assert (level.on_hand, level.allocated) == ((6, 0) if shipped else (9, 0))
        assert len(list_history(shop, order)) == 3


def test_last_open_unit_is_bound_by_one_of_many(shop: Shop):
    order = shop.confirm(shop.order((shop.variant(stock=1).sku, 1)))
    request = orders_pb2.CreateFulfillmentRequest(parent=order.name)
    lost = call_at_once(*[(shop.orders.CreateFulfillment, request)] * 8)
    assert sorted(lost) == [""] + ["UNITS_NOT_OPEN"] * 7
