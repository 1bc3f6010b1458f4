"""Corrections of fulfilments: the carrier and the parcels, and shipped units that are taken back into stock."""

from __future__ import annotations

from typing import Any

import pytest

from storekeep.v1 import inventory_pb2, orders_pb2
from tests.domain.orders.test_fulfillments import STATE, get_fulfillment, list_fulfillments, list_units
from tests.domain.orders.test_order_changes import call_at_once, cancel_lines, list_changes, list_history
from tests.support.historic_orders import SHIPPED, historic, line
from tests.support.order_cases import make_completed, make_confirmed, put_on_hold, update_fulfillment
from tests.support.records import Records
from tests.support.refusals import refused
from tests.support.shops import MAIN, Shop, money, new_id


def parcels(*numbers: str, url: str = "") -> list[orders_pb2.Parcel]:
    return [orders_pb2.Parcel(tracking_number=number, tracking_url=url and f"{url}{number}") for number in numbers]


def correct(shop: Shop, fulfillment: orders_pb2.Fulfillment, *paths: str, **fields: Any) -> orders_pb2.Fulfillment:
    return shop.orders.UpdateFulfillment(update_fulfillment(fulfillment, *paths, **fields))


def ship_all(shop: Shop, **fields: Any) -> tuple[orders_pb2.Order, orders_pb2.Fulfillment]:
    """Ship an order of 3 and 2 units of two SKUs with 9 units each."""
    order = make_confirmed(shop)
    shipped = shop.ship(shop.fulfill(order), **fields)
    return shop.get_order(order), shipped


def restock(shop: Shop, fulfillment: orders_pb2.Fulfillment, **fields: Any) -> orders_pb2.Fulfillment:
    return shop.orders.RestockFulfillment(orders_pb2.RestockFulfillmentRequest(name=fulfillment.name, **fields))


def list_movements(shop: Shop, sku: str) -> list[inventory_pb2.StockMovement]:
    """Return the movements of a SKU, newest first."""
    request = inventory_pb2.ListStockMovementsRequest(filter=f"sku = {sku}", order_by="create_time desc")
    return list(shop.inventory.ListStockMovements(request).stock_movements)


# -- parcels


def test_tracking_number_given_alone_is_one_parcel(shop: Shop):
    _, shipped = ship_all(shop, tracking_number="P-1")
    assert (shipped.tracking_number, list(shipped.parcels)) == ("P-1", parcels("P-1"))
    assert get_fulfillment(shop, shipped) == shipped


def test_tracking_number_is_that_of_the_first_parcel(shop: Shop):
    sent = parcels("P-1", "P-2", url="https://post.example/track?n=")
    _, shipped = ship_all(shop, carrier="Post", parcels=sent)
    assert (shipped.tracking_number, list(shipped.parcels)) == ("P-1", sent)
    corrected = correct(shop, shipped, parcels=sent[::-1])
    assert (corrected.tracking_number, list(corrected.parcels)) == ("P-2", sent[::-1])
    assert get_fulfillment(shop, shipped) == corrected
    one = correct(shop, shipped, parcels=parcels("P-3"))
    assert (one.tracking_number, list(one.parcels)) == ("P-3", parcels("P-3"))
    none = correct(shop, shipped, "parcels")
    assert (none.tracking_number, list(none.parcels), none.carrier) == ("", [], "Post")


def test_shipment_with_a_tracking_number_beside_parcels_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        ship_all(shop, tracking_number="P-1", parcels=parcels("P-1"))
    assert list(refusal.violations) == ["tracking_number"]


def test_carrier_and_parcels_of_a_pending_fulfillment_stay_when_it_is_shipped(shop: Shop):
    pending = shop.fulfill(make_confirmed(shop))
    prepared = correct(shop, pending, carrier="Post", parcels=parcels("P-1", "P-2"))
    assert prepared.state == orders_pb2.FULFILLMENT_STATE_PENDING
    shipped = shop.ship(pending)
    assert (shipped.carrier, shipped.parcels) == ("Post", prepared.parcels)


def test_delivered_fulfillment_can_be_corrected_and_a_cancelled_one_cannot(shop: Shop):
    _, shipped = ship_all(shop)
    shop.orders.DeliverFulfillment(orders_pb2.DeliverFulfillmentRequest(name=shipped.name))
    assert correct(shop, shipped, carrier="Post").carrier == "Post"
    pending = shop.fulfill(make_confirmed(shop))
    cancelled = shop.orders.CancelFulfillment(orders_pb2.CancelFulfillmentRequest(name=pending.name))
    with refused("FIELD_NOT_CHANGEABLE") as refusal:
        correct(shop, cancelled, parcels=parcels("P-1"))
    assert refusal.metadata == {"resource": cancelled.name, "field": "parcels", "state": "CANCELLED"}
    assert correct(shop, cancelled, carrier="", parcels=[]) == cancelled


def test_update_that_changes_nothing_writes_nothing(shop: Shop, records: Records):
    _, shipped = ship_all(shop, carrier="Post", tracking_number="P-1")
    before = records.last_sequence()
    assert shop.orders.UpdateFulfillment(orders_pb2.UpdateFulfillmentRequest(fulfillment=shipped)) == shipped
    assert correct(shop, shipped, carrier="Post", parcels=parcels("P-1")) == shipped
    assert records.last_sequence() == before


@pytest.mark.parametrize(
    ("parcel", "path"),
    [
        (orders_pb2.Parcel(), "parcels[0].tracking_number"),
        (orders_pb2.Parcel(tracking_number="x" * 101), "parcels[0].tracking_number"),
        (orders_pb2.Parcel(tracking_number="x", tracking_url="javascript:alert(1)"), "parcels[0].tracking_url"),
        (orders_pb2.Parcel(tracking_number="x", tracking_url="https://a b"), "parcels[0].tracking_url"),
        (orders_pb2.Parcel(tracking_number="x", tracking_url=f"https://{'x' * 993}"), "parcels[0].tracking_url"),
    ],
    ids=["empty", "long", "script", "space", "long URL"],
)
def test_invalid_parcel_is_refused_by_its_path(shop: Shop, parcel: orders_pb2.Parcel, path: str):
    pending = shop.fulfill(make_confirmed(shop))
    with refused("INVALID_FIELD") as refusal:
        shop.ship(pending, parcels=[parcel])
    assert list(refusal.violations) == [path]
    with refused("INVALID_FIELD") as refusal:
        correct(shop, pending, parcels=[parcel])
    assert list(refusal.violations) == [f"fulfillment.{path}"]
    with refused("INVALID_FIELD"):
        correct(shop, pending, parcels=parcels(*["P"] * 101))


def test_fulfillment_is_found_by_the_number_of_any_parcel(shop: Shop):
    first, second, odd = new_id("P"), new_id("P"), f'{new_id("P")}"}},%_'
    _, shipped = ship_all(shop, parcels=parcels(first, second, odd))
    _, other = ship_all(shop, parcels=parcels(new_id("P"), f"{second}9"))
    for number in (first, second):
        assert list_fulfillments(shop, "orders/-", filter=f"tracking_number = {number}") == [shipped]
    escaped = odd.replace('"', '\\"')
    assert list_fulfillments(shop, "orders/-", filter=f'tracking_number = "{escaped}"') == [shipped]
    assert list_fulfillments(shop, "orders/-", filter=f"tracking_number = {second.upper()}") == []
    parent = shipped.name.partition("/fulfillments")[0]
    assert list_fulfillments(shop, parent, filter=f"tracking_number != {second}") == []
    assert list_fulfillments(shop, parent, filter=f"NOT tracking_number = {other.parcels[1].tracking_number}") == [
        shipped
    ]


# -- taking shipped units back


def test_restocked_units_are_on_hand_allocated_and_open_again(shop: Shop):
    order, shipped = ship_all(shop, carrier="Post", tracking_number="P-1")
    sku = order.lines[0].sku
    assert (shop.level(sku).on_hand, shop.level(sku).allocated) == (6, 0)
    restocked = restock(shop, shipped, reason="address unknown")
    assert STATE(restocked.state) == "FULFILLMENT_STATE_RESTOCKED"
    assert restocked.restock_time.ToMicroseconds() >= restocked.ship_time.ToMicroseconds()
    assert (restocked.carrier, restocked.tracking_number) == ("Post", "P-1")
    assert get_fulfillment(shop, shipped) == restocked
    level = shop.level(sku)
    assert (level.on_hand, level.allocated, level.available) == (9, 3, 6)
    movement = list_movements(shop, sku)[0]
    assert movement.cause == inventory_pb2.STOCK_MOVEMENT_CAUSE_RETURN
    assert (movement.quantity_delta, movement.allocated_delta, movement.on_hand) == (3, 3, 9)
    assert (movement.source, movement.line_number, movement.reason) == (order.name, 1, "")
    after = shop.get_order(order)
    assert (after.state, after.total) == (orders_pb2.ORDER_STATE_CONFIRMED, order.total)
    assert list_units(after) == [(3, 0, 0), (2, 0, 0)]


def test_history_tells_what_restocking_changed(shop: Shop):
    order, shipped = ship_all(shop)
    restock(shop, shipped, reason="came back")
    entry = list_history(shop, order)[-1]
    assert (entry.method, entry.reason) == ("RestockFulfillment", "came back")
    assert list_changes(entry) == {
        "state": ("FULFILLED", "CONFIRMED"),
        "lines[1].open_quantity": ("0", "3"),
        "lines[1].fulfilled_quantity": ("3", "0"),
        "lines[2].open_quantity": ("0", "2"),
        "lines[2].fulfilled_quantity": ("2", "0"),
    }


def test_order_with_other_shipped_units_is_partially_fulfilled(shop: Shop):
    order = make_confirmed(shop)
    first = shop.ship(shop.fulfill(order, (1, 2)))
    second = shop.ship(shop.fulfill(order))
    restock(shop, first)
    after = shop.get_order(order)
    assert after.state == orders_pb2.ORDER_STATE_PARTIALLY_FULFILLED
    assert list_units(after) == [(2, 1, 0), (0, 2, 0)]
    restock(shop, second)
    assert shop.get_order(order).state == orders_pb2.ORDER_STATE_CONFIRMED


def test_restocked_units_are_shipped_again_or_cancelled(shop: Shop):
    order, shipped = ship_all(shop)
    restock(shop, shipped)
    again = shop.ship(shop.fulfill(order, (1, 3)))
    assert again.name != shipped.name
    ended = cancel_lines(shop, order, (2, 2))
    assert (ended.state, ended.total) == (orders_pb2.ORDER_STATE_FULFILLED, money("30"))
    levels = [shop.level(one.sku) for one in order.lines]
    assert [(level.on_hand, level.allocated) for level in levels] == [(6, 0), (9, 0)]


def test_delivered_fulfillment_of_a_held_order_is_restocked_and_the_order_cancelled(shop: Shop):
    order, shipped = ship_all(shop)
    shop.orders.DeliverFulfillment(orders_pb2.DeliverFulfillmentRequest(name=shipped.name))
    put_on_hold(shop, order)
    restocked = restock(shop, shipped)
    assert restocked.HasField("deliver_time")
    cancelled = shop.cancel(order)
    assert (cancelled.state, cancelled.total) == (orders_pb2.ORDER_STATE_CANCELLED, money("0"))
    assert shop.level(order.lines[0].sku).available == 9


def test_units_come_back_to_another_location_that_never_had_them(shop: Shop):
    order, shipped = ship_all(shop)
    other = shop.location().name
    restock(shop, shipped, location=other)
    sku = order.lines[0].sku
    assert (shop.level(sku).on_hand, shop.level(sku).allocated) == (6, 0)
    level = shop.level(sku, location=other)
    assert (level.on_hand, level.allocated) == (3, 3)
    assert shop.fulfill(order).location == other


def test_imported_shipment_brings_its_units_into_stock(shop: Shop):
    sku = shop.variant().sku
    request = orders_pb2.ImportOrdersRequest(orders=[historic(shop, line(sku), **SHIPPED)])
    (result,) = shop.orders.ImportOrders(request).results
    (shipped,) = list_fulfillments(shop, result.order)
    restock(shop, shipped)
    assert (shop.level(sku).on_hand, shop.level(sku).allocated) == (3, 3)
    again = shop.orders.ImportOrders(request).results[0]
    assert (again.outcome, again.order) == (orders_pb2.ORDER_IMPORT_OUTCOME_ALREADY_THERE, result.order)


def test_fulfillment_of_a_completed_order_stays_as_it_is(shop: Shop):
    order = make_completed(shop)
    (shipped,) = list_fulfillments(shop, order.name)
    with refused("ILLEGAL_STATE") as refusal:
        restock(shop, shipped)
    assert refusal.metadata == {"resource": order.name, "state": "COMPLETED", "wanted": "CONFIRMED"}
    assert get_fulfillment(shop, shipped) == shipped


def test_dry_run_restocks_nothing(shop: Shop, records: Records):
    _, shipped = ship_all(shop)
    before = records.everything()
    assert STATE(restock(shop, shipped, validate_only=True).state) == "FULFILLMENT_STATE_RESTOCKED"
    assert records.everything() == before


def test_of_many_who_restock_at_once_one_does(shop: Shop):
    order, shipped = ship_all(shop)
    request = orders_pb2.RestockFulfillmentRequest(name=shipped.name)
    assert sorted(call_at_once(*[(shop.orders.RestockFulfillment, request)] * 8)) == ["", *["ILLEGAL_STATE"] * 7]
    level = shop.level(order.lines[0].sku)
    assert (level.on_hand, level.allocated) == (9, 3)


def test_of_restocking_and_completing_at_once_one_wins(shop: Shop):
    for _ in range(4):
        order, shipped = ship_all(shop)
        lost = call_at_once(
            (shop.orders.RestockFulfillment, orders_pb2.RestockFulfillmentRequest(name=shipped.name)),
            (shop.orders.CompleteOrder, orders_pb2.CompleteOrderRequest(name=order.name)),
        )
        assert sorted(lost) == ["", "ILLEGAL_STATE"]
        completed = shop.get_order(order).state == orders_pb2.ORDER_STATE_COMPLETED
        assert shop.level(order.lines[0].sku, location=MAIN).on_hand == (6 if completed else 9)
