"""Fulfilments: partial deliveries from several locations; each unit is shipped once."""

from __future__ import annotations

import pytest

from storekeep.v1 import orders_pb2
from tests.support.order_cases import make_confirmed, make_fully_bound, units
from tests.support.refusals import list_shortages, refused
from tests.support.shops import MAIN, Shop, new_id

STATE = orders_pb2.FulfillmentState.Name


def list_fulfillments(shop: Shop, parent: str, **fields) -> list[orders_pb2.Fulfillment]:
    request = orders_pb2.ListFulfillmentsRequest(parent=parent, **fields)
    return list(shop.orders.ListFulfillments(request).fulfillments)


def get_fulfillment(shop: Shop, fulfillment: orders_pb2.Fulfillment) -> orders_pb2.Fulfillment:
    return shop.orders.GetFulfillment(orders_pb2.GetFulfillmentRequest(name=fulfillment.name))


def list_units(order: orders_pb2.Order) -> list[tuple[int, int, int]]:
    """Return (open, fulfilled, cancelled) units of each line."""
    return [(line.open_quantity, line.fulfilled_quantity, line.cancelled_quantity) for line in order.lines]


def test_fulfillment_of_all_has_every_line(shop: Shop):
    order = make_confirmed(shop)
    made = shop.fulfill(order)
    assert made.name.startswith(f"{order.name}/fulfillments/")
    assert (STATE(made.state), made.location) == ("FULFILLMENT_STATE_PENDING", MAIN)
    assert [(line.line_number, line.sku, line.quantity) for line in made.lines] == [
        (1, order.lines[0].sku, 3),
        (2, order.lines[1].sku, 2),
    ]
    assert get_fulfillment(shop, made) == made
    assert shop.get_order(order) == order


def test_shipment_moves_stock_and_fulfils_its_units(shop: Shop):
    order = make_confirmed(shop)
    sku = order.lines[0].sku
    shipped = shop.ship(shop.fulfill(order, (1, 2)), carrier="Post", tracking_number="P-1")
    assert (STATE(shipped.state), shipped.carrier, shipped.tracking_number) == (
        "FULFILLMENT_STATE_SHIPPED",
        "Post",
        "P-1",
    )
    assert shipped.HasField("ship_time")
    assert not shipped.HasField("deliver_time")
    level = shop.level(sku)
    assert (level.on_hand, level.allocated, level.available) == (7, 1, 6)
    after = shop.get_order(order)
    assert after.state == orders_pb2.ORDER_STATE_PARTIALLY_FULFILLED
    assert list_units(after) == [(1, 2, 0), (2, 0, 0)]
    assert after.total == order.total


def test_last_shipment_fulfils_the_order(shop: Shop):
    order = make_confirmed(shop)
    shop.ship(shop.fulfill(order, (1, 3)))
    shop.ship(shop.fulfill(order))
    after = shop.get_order(order)
    assert after.state == orders_pb2.ORDER_STATE_FULFILLED
    assert list_units(after) == [(0, 3, 0), (0, 2, 0)]


def test_units_are_bound_once(shop: Shop):
    order = make_confirmed(shop)
    shop.fulfill(order, (1, 2))
    with refused("UNITS_NOT_OPEN") as refusal:
        shop.fulfill(order, (1, 2))
    assert refusal.metadata == {"resource": order.name, "line_number": "1", "wanted": "2", "open": "1"}
    assert [line.quantity for line in shop.fulfill(order, (1, 0)).lines] == [1]
    assert [line.line_number for line in shop.fulfill(order).lines] == [2]


def test_nothing_is_left_to_bind_once_all_is_bound(shop: Shop):
    with refused("UNITS_NOT_OPEN"):
        shop.fulfill(make_fully_bound(shop))


def test_cancelled_fulfillment_frees_its_units(shop: Shop):
    order = make_confirmed(shop)
    made = shop.fulfill(order)
    cancelled = shop.orders.CancelFulfillment(orders_pb2.CancelFulfillmentRequest(name=made.name))
    assert STATE(cancelled.state) == "FULFILLMENT_STATE_CANCELLED"
    assert len(shop.fulfill(order).lines) == 2
    assert shop.level(order.lines[0].sku).allocated == 3


def test_delivered_fulfillment_says_when(shop: Shop):
    shipped = shop.ship(shop.fulfill(make_confirmed(shop)))
    delivered = shop.orders.DeliverFulfillment(orders_pb2.DeliverFulfillmentRequest(name=shipped.name))
    assert STATE(delivered.state) == "FULFILLMENT_STATE_DELIVERED"
    assert delivered.deliver_time.ToMicroseconds() >= delivered.ship_time.ToMicroseconds()


def test_split_line_is_shipped_from_each_of_its_locations(shop: Shop):
    other = shop.location().name
    sku = shop.variant(stock=2).sku
    shop.adjust(sku, 3, location=other)
    order = shop.confirm(shop.order((sku, 5)))
    here, there = shop.fulfill(order), shop.fulfill(order)
    assert {(made.location, made.lines[0].quantity) for made in (here, there)} == {(MAIN, 2), (other, 3)}
    shop.ship(there)
    shop.ship(here)
    assert [shop.level(sku, location=location).on_hand for location in (MAIN, other)] == [0, 0]
    assert shop.get_order(order).state == orders_pb2.ORDER_STATE_FULFILLED


def test_named_location_gives_only_what_it_has(shop: Shop):
    other = shop.location().name
    sku = shop.variant(stock=2).sku
    shop.adjust(sku, 3, location=other)
    order = shop.confirm(shop.order((sku, 5)))
    with refused("UNITS_NOT_OPEN") as refusal:
        shop.fulfill(order, (1, 3), location=MAIN)
    assert refusal.metadata["open"] == "2"
    assert shop.fulfill(order, (1, 3)).location == other


@pytest.mark.parametrize("location", ["locations/nowhere", "locations/l-empty"])
def test_location_without_units_of_the_order_gives_nothing(shop: Shop, location: str):
    with refused("UNITS_NOT_OPEN"):
        shop.fulfill(make_confirmed(shop), location=location)


def test_line_named_twice_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.fulfill(make_confirmed(shop), (1, 1), (1, 1))
    assert list(refusal.violations) == ["lines[1].line_number"]


def test_fulfillment_of_another_order_is_not_found(shop: Shop):
    made = shop.fulfill(make_confirmed(shop))
    name = f"{make_confirmed(shop).name}/fulfillments/{made.name.rpartition('/')[2]}"
    with refused("FULFILLMENT_NOT_FOUND"):
        shop.orders.GetFulfillment(orders_pb2.GetFulfillmentRequest(name=name))


def test_backordered_units_are_shipped_once_they_are_on_hand(shop: Shop):
    sku = shop.create_backordered_sku(units=2)
    order = shop.confirm(shop.order((sku, 2)))
    made = shop.fulfill(order)
    with refused("OUT_OF_STOCK") as refusal:
        shop.ship(made)
    assert refusal.metadata == list_shortages({sku: (2, 0)})
    assert get_fulfillment(shop, made) == made
    shop.adjust(sku, 2)
    assert shop.ship(made).HasField("ship_time")


def test_cancelled_order_takes_its_pending_fulfillments_with_it(shop: Shop):
    order = make_confirmed(shop)
    made = shop.fulfill(order, (1, 1)), shop.fulfill(order)
    assert shop.cancel(order).state == orders_pb2.ORDER_STATE_CANCELLED
    assert {STATE(get_fulfillment(shop, one).state) for one in made} == {"FULFILLMENT_STATE_CANCELLED"}
    assert shop.level(order.lines[0].sku).allocated == 0


def test_shipped_order_is_not_cancelled(shop: Shop):
    order = make_confirmed(shop)
    shop.ship(shop.fulfill(order, (1, 1)))
    with refused("ILLEGAL_STATE") as refusal:
        shop.cancel(order)
    assert (refusal.metadata["state"], refusal.metadata["wanted"]) == ("PARTIALLY_FULFILLED", "CANCELLED")


def test_units_of_a_fulfillment_are_not_cancelled(shop: Shop):
    order = make_confirmed(shop)
    shop.fulfill(order, (1, 2))
    request = orders_pb2.CancelOrderLinesRequest(name=order.name, lines=units((1, 2)))
    with refused("UNITS_NOT_OPEN"):
        shop.orders.CancelOrderLines(request)
    request = orders_pb2.CancelOrderLinesRequest(name=order.name, lines=units((1, 0)))
    assert list_units(shop.orders.CancelOrderLines(request))[0] == (2, 0, 1)


def test_list_of_one_order_is_in_the_order_of_creation_page_by_page(shop: Shop):
    order = make_confirmed(shop)
    made = [shop.fulfill(order, (1, 1)) for _ in range(3)]
    request = orders_pb2.ListFulfillmentsRequest(parent=order.name, page_size=2)
    first = shop.orders.ListFulfillments(request)
    request.page_token = first.next_page_token
    rest = shop.orders.ListFulfillments(request)
    assert [*first.fulfillments, *rest.fulfillments] == made
    assert rest.next_page_token == ""


def test_fulfillments_of_all_orders_are_found_by_what_people_know_of_them(shop: Shop):
    number = new_id("P")
    order = make_confirmed(shop)
    pending = shop.fulfill(order, (1, 1))
    shipped = shop.ship(shop.fulfill(order, (1, 1)), carrier="Post", tracking_number=number)
    assert list_fulfillments(shop, "orders/-", filter=f"tracking_number = {number}") == [shipped]
    assert list_fulfillments(shop, order.name, filter="state = PENDING") == [pending]
    assert list_fulfillments(shop, order.name, filter="carrier = Post AND location = locations/main") == [shipped]
    assert list_fulfillments(shop, order.name, order_by="create_time desc") == [shipped, pending]
    assert list_fulfillments(shop, "orders/none") == []
