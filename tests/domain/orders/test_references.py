"""External references of orders: unique per source on request, in every state, for orders and imports."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import field_mask_pb2

from storekeep.v1 import orders_pb2 as pb
from tests.support.historic_orders import SHIPPED, historic
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.refusals import parse_refusal, refused
from tests.support.shops import Shop, new_id, new_request_id

REFUSED = pb.ORDER_IMPORT_OUTCOME_REFUSED


def unique(reference: str, source: str = "market") -> dict[str, object]:
    """Return the fields that ask for a unique reference."""
    return {"source": source, "external_reference": reference, "unique_external_reference": True}


def test_second_order_with_a_unique_reference_is_refused_and_names_the_first(shop: Shop):
    reference = new_id("ref")
    first = shop.order(**unique(reference))
    assert (first.source, first.external_reference, first.unique_external_reference) == ("market", reference, True)
    with refused("REFERENCE_TAKEN") as refusal:
        shop.order(**unique(reference))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.metadata == {"resource": first.name, "reference": reference, "source": "market"}
    shop.order(**unique(reference, "other market"))
    shop.order(**unique(reference, ""))
    found = shop.orders.ListOrders(
        pb.ListOrdersRequest(filter=f'external_reference = "{reference}" AND source = "market"')
    )
    assert list(found.orders) == [first]


def test_unique_reference_also_counts_orders_that_did_not_ask(shop: Shop):
    reference = new_id("ref")
    first = shop.order(source="market", external_reference=reference)
    with refused("REFERENCE_TAKEN") as refusal:
        shop.order(**unique(reference))
    assert refusal.metadata["resource"] == first.name
    assert not shop.order(source="market", external_reference=reference).unique_external_reference


def test_cancelled_order_keeps_its_reference(shop: Shop):
    reference = new_id("ref")
    cancelled = shop.cancel(shop.order(**unique(reference)))
    with refused("REFERENCE_TAKEN") as refusal:
        shop.order(**unique(reference))
    assert refusal.metadata["resource"] == cancelled.name


def test_update_keeps_a_unique_reference_unique_and_present(shop: Shop):
    reference = new_id("ref")
    first, second = shop.order(**unique(reference)), shop.order(**unique(new_id("ref")))

    def update(value: str) -> pb.Order:
        mask = field_mask_pb2.FieldMask(paths=["external_reference"])
        order = pb.Order(name=second.name, external_reference=value)
        return shop.orders.UpdateOrder(pb.UpdateOrderRequest(order=order, update_mask=mask))

    with refused("REFERENCE_TAKEN") as refusal:
        update(reference)
    assert refusal.metadata["resource"] == first.name
    with refused("INVALID_FIELD") as refusal:
        update("")
    assert list(refusal.violations) == ["order.external_reference"]
    free = new_id("ref")
    assert update(free).external_reference == free


def test_unique_reference_without_a_reference_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        shop.order(source="market", unique_external_reference=True)
    assert list(refusal.violations) == ["external_reference"]


def test_retry_of_an_order_with_a_unique_reference_returns_the_order(shop: Shop):
    request = shop.order_request(**unique(new_id("ref")), request_id=new_request_id())
    assert shop.orders.PlaceOrder(request) == shop.orders.PlaceOrder(request)


def test_fifty_at_once_place_one_order(shop: Shop, records: Records):
    sku, customer, reference = shop.variant(stock=60).sku, shop.customer().name, new_id("ref")
    calls = [
        shop.orders.PlaceOrder.future(
            shop.order_request((sku, 1), customer=customer, **unique(reference), request_id=new_request_id())
        )
        for _ in range(50)
    ]
    refusals = [parse_refusal(error) for call in calls if (error := call.exception()) is not None]
    (placed,) = (call.result() for call in calls if call.exception() is None)
    assert {(one.reason, one.metadata["resource"]) for one in refusals} == {("REFERENCE_TAKEN", placed.name)}
    assert shop.level(sku).allocated == 1
    assert records.value("SELECT COUNT(*) FROM orders WHERE external_reference = ?", reference) == 1


def test_database_rejects_a_second_unique_reference(shop: Shop, server: ServerProcess):
    reference = new_id("ref")
    shop.order(**unique(reference))
    other = shop.order(source="market", external_reference=reference)
    statement = "UPDATE orders SET unique_reference = TRUE WHERE id = ?"
    with server.database.opened() as session, pytest.raises(Exception, match=r"(?i)unique"):
        session.run(statement, other.name.removeprefix("orders/"))


# -- imports


def import_orders(shop: Shop, *orders: pb.HistoricOrder) -> list[pb.OrderImportResult]:
    return list(shop.orders.ImportOrders(pb.ImportOrdersRequest(orders=orders)).results)


def test_import_with_a_unique_reference_is_refused_if_an_order_has_it(shop: Shop):
    reference = new_id("ref")
    placed = shop.order(source="market", external_reference=reference)
    orders = [
        historic(shop, **SHIPPED, **unique(reference)),
        historic(shop, **SHIPPED, **unique(reference, "elsewhere")),
        historic(shop, **SHIPPED, **unique(reference, "elsewhere")),
        historic(shop, **SHIPPED, source="elsewhere", external_reference=reference),
    ]
    results = import_orders(shop, *orders)
    taken = pb.ORDER_IMPORT_PROBLEM_REFERENCE_TAKEN
    assert [(one.outcome == REFUSED, one.problem) for one in results] == [
        (True, taken),
        (False, 0),
        (True, taken),
        (False, 0),
    ]
    assert placed.name in results[0].detail
    assert results[1].order in results[2].detail
    again = import_orders(shop, orders[1], orders[2])
    assert [one.outcome for one in again] == [pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE, REFUSED]
    imported = shop.orders.GetOrder(pb.GetOrderRequest(name=results[1].order))
    assert (imported.source, imported.external_reference) == ("elsewhere", reference)


def test_import_with_a_unique_reference_needs_a_reference(shop: Shop):
    order = historic(shop, unique_external_reference=True)
    with refused("INVALID_FIELD") as refusal:
        import_orders(shop, order)
    assert list(refusal.violations) == ["orders[0].external_reference"]
