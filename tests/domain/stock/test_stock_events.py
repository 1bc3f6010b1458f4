"""Stock events: one for each crossing of a threshold, in the transaction of the change that crosses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import events_pb2, inventory_pb2, orders_pb2
from tests.support.hostile.accounts import sign_in
from tests.support.hostile.wire import wait_until
from tests.support.refusals import refused
from tests.support.shops import MAIN, Shop, new_request_id

LOW_AT = 3
UNITS = 10


@pytest.fixture
def sku(shop: Shop) -> str:
    """A SKU with 10 units that is low from 3 units on."""
    made = str(shop.variant(stock=UNITS).sku)
    set_limits(shop, made, low_stock_threshold=LOW_AT)
    return made


def set_limits(shop: Shop, sku: str, location: str = MAIN, **limits: int) -> inventory_pb2.StockLevel:
    level = inventory_pb2.StockLevel(name=f"{location}/stockLevels/{sku}", **limits)
    mask = FieldMask(paths=sorted(limits))
    return shop.inventory.UpdateStockLevel(inventory_pb2.UpdateStockLevelRequest(stock_level=level, update_mask=mask))


def list_stock_events(shop: Shop, sku: str, location: str = MAIN) -> list[events_pb2.Event]:
    text = f'type = "stock.*" AND resource = "{location}/stockLevels/{sku}"'
    return list(shop.events.ListEvents(events_pb2.ListEventsRequest(filter=text, page_size=1000)).events)


def list_types(shop: Shop, sku: str, location: str = MAIN) -> list[str]:
    return [event.type.removeprefix("stock.") for event in list_stock_events(shop, sku, location)]


def test_order_that_makes_stock_low_has_an_event_with_the_level(shop: Shop, sku: str):
    shop.order((sku, UNITS - LOW_AT - 1))
    assert list_types(shop, sku) == []
    order = shop.order((sku, 1), request_id=(request_id := new_request_id()))
    (event,) = list_stock_events(shop, sku)
    level = inventory_pb2.StockLevel()
    assert event.content.Unpack(level)
    assert level == shop.level(sku)
    assert (event.type, event.etag, event.actor, event.request_id) == (
        "stock.low",
        level.etag,
        shop.subject,
        request_id,
    )
    (placed,) = shop.events.ListEvents(events_pb2.ListEventsRequest(filter=f'resource = "{order.name}"')).events
    assert event.create_time == placed.create_time
    assert int(event.name.rpartition("/")[2]) == int(placed.name.rpartition("/")[2]) + 1


def test_each_crossing_has_one_event(shop: Shop, sku: str):
    low = shop.order((sku, 8))
    shop.order((sku, 1))
    last = shop.order((sku, 1))
    shop.cancel(last)
    assert list_types(shop, sku) == ["low", "out", "back"]
    shop.cancel(low)
    assert list_types(shop, sku) == ["low", "out", "back"]
    shop.order((sku, 9))
    assert list_types(shop, sku) == ["low", "out", "back", "out"]


def test_threshold_of_zero_is_never_low(shop: Shop):
    sku = shop.variant(stock=2).sku
    shop.order((sku, 1))
    shop.order((sku, 1))
    assert list_types(shop, sku) == ["out"]


def take_by_order(shop: Shop, sku: str) -> None:
    shop.order((sku, UNITS))


def take_by_reservation(shop: Shop, sku: str) -> None:
    shop.reserve((sku, UNITS))


def take_by_adjustment(shop: Shop, sku: str) -> None:
    shop.adjust(sku, -UNITS)


def take_by_count(shop: Shop, sku: str) -> None:
    shop.inventory.SetStock(inventory_pb2.SetStockRequest(name=f"{MAIN}/stockLevels/{sku}", quantity=0))


def take_by_transfer(shop: Shop, sku: str) -> None:
    line = inventory_pb2.TransferLine(sku=sku, quantity=UNITS)
    request = inventory_pb2.TransferStockRequest(source=MAIN, destination=shop.location().name, lines=[line])
    shop.inventory.TransferStock(request)


def take_by_safety_threshold(shop: Shop, sku: str) -> None:
    set_limits(shop, sku, safety_threshold=UNITS)


def take_by_edit(shop: Shop, sku: str) -> None:
    order = shop.order((sku, 1))
    edit = orders_pb2.OrderEdit(changed_lines=[orders_pb2.OrderLineQuantity(line_number=1, quantity=UNITS)])
    shop.orders.ApplyOrderEdit(orders_pb2.ApplyOrderEditRequest(name=order.name, edit=edit))


def take_by_batch(shop: Shop, sku: str) -> None:
    changes = {sku: -UNITS, shop.variant(stock=1).sku: -UNITS}
    items = [
        inventory_pb2.AdjustStockRequest(name=f"{MAIN}/stockLevels/{one}", quantity_delta=delta)
        for one, delta in changes.items()
    ]
    request = inventory_pb2.BatchAdjustStockRequest(parent=MAIN, requests=items, mode="BATCH_MODE_PER_ITEM")
    results = shop.inventory.BatchAdjustStock(request).results
    assert [result.HasField("error") for result in results] == [False, True]


@pytest.mark.parametrize(
    "take",
    [
        take_by_order,
        take_by_reservation,
        take_by_adjustment,
        take_by_count,
        take_by_transfer,
        take_by_safety_threshold,
        take_by_edit,
        take_by_batch,
    ],
)
def test_any_change_that_takes_the_last_units_has_an_event(shop: Shop, sku: str, take: Callable[[Shop, str], None]):
    take(shop, sku)
    assert list_types(shop, sku) == ["out"]


def test_raised_threshold_makes_stock_low_and_a_lowered_one_has_no_event(shop: Shop, sku: str):
    set_limits(shop, sku, low_stock_threshold=UNITS)
    set_limits(shop, sku, low_stock_threshold=1)
    assert list_types(shop, sku) == ["low"]


def test_first_units_of_a_level_are_no_return(shop: Shop):
    sku = shop.variant(stock=3).sku
    north = shop.location().name
    line = inventory_pb2.TransferLine(sku=sku, quantity=1)
    shop.inventory.TransferStock(inventory_pb2.TransferStockRequest(source=MAIN, destination=north, lines=[line]))
    assert (list_types(shop, sku), list_types(shop, sku, north)) == ([], [])


def test_each_location_has_its_own_events(shop: Shop, sku: str):
    north = shop.location().name
    shop.adjust(sku, 5, location=north)
    shop.order((sku, 5), location=north)
    assert (list_types(shop, sku), list_types(shop, sku, north)) == ([], ["out"])


def test_backorders_do_not_count(shop: Shop, sku: str):
    set_limits(shop, sku, backorder_limit=100)
    shop.order((sku, UNITS))
    shop.order((sku, 5))
    assert list_types(shop, sku) == ["out"]
    shop.adjust(sku, 5)
    assert list_types(shop, sku) == ["out"]
    shop.adjust(sku, 1)
    assert list_types(shop, sku) == ["out", "back"]


def test_shipment_has_no_event(shop: Shop, sku: str):
    order = shop.confirm(shop.order((sku, 9)))
    shop.ship(shop.fulfill(order))
    assert list_types(shop, sku) == ["low"]


def test_change_that_releases_and_takes_the_same_units_has_no_event(shop: Shop, sku: str):
    reservation = shop.reserve((sku, UNITS))
    shop.order((sku, UNITS), reservations=[reservation.name])
    assert list_types(shop, sku) == ["out"]


def test_dry_run_and_refused_change_and_retry_have_no_event(shop: Shop, sku: str):
    shop.orders.PlaceOrder(shop.order_request((sku, UNITS), validate_only=True))
    with refused("OUT_OF_STOCK"):
        shop.order((sku, UNITS), (shop.variant().sku, 1))
    assert list_types(shop, sku) == []
    request = shop.order_request((sku, UNITS), request_id=new_request_id())
    assert shop.orders.PlaceOrder(request) == shop.orders.PlaceOrder(request)
    assert list_types(shop, sku) == ["out"]


def test_expiry_has_an_event_by_the_system(shop: Shop, sku: str):
    shop.reserve((sku, UNITS), ttl={"seconds": 1})
    wait_until(lambda: list_types(shop, sku) == ["out", "back"], what="the event of the expiry")
    assert [event.actor for event in list_stock_events(shop, sku)] == [shop.subject, "system/expiry"]


def test_fifty_orders_at_once_have_one_event_for_each_crossing(shop: Shop):
    sku = shop.variant(stock=50).sku
    set_limits(shop, sku, low_stock_threshold=20)
    requests = [shop.order_request((sku, 1)) for _ in range(60)]

    with ThreadPoolExecutor(max_workers=50) as pool:
        placed = [pool.submit(shop.orders.PlaceOrder, request) for request in requests]
    refusals = [one.exception() for one in placed]
    assert Counter(error and error.code() for error in refusals) == {None: 50, grpc.StatusCode.FAILED_PRECONDITION: 10}
    assert list_types(shop, sku) == ["low", "out"]


def test_caller_without_stock_rights_sees_no_stock_events(channel: grpc.Channel, shop: Shop, sku: str):
    shop.order((sku, UNITS))
    reader = sign_in(channel, shop, "serviceAccounts/admin", scopes=["events.read", "orders.read"])
    assert list_types(reader, sku) == []
