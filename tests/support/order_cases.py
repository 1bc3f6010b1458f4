"""Orders in every state, the mutations that change their state, and the errors of each of their RPCs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.support.shops import Shop, money, new_id

NO_ORDER = "orders/none"
NO_FULFILLMENT = "orders/none/fulfillments/none"
NO_SKU = "NO-SUCH-SKU"
STALE = "v999"
Case = tuple[str, str]
Prepare = Callable[[Shop], Any]


# -- orders in each state


def make_two_line_order(shop: Shop) -> orders_pb2.Order:
    """Place an order of 3 units of one SKU and 2 of another."""
    return shop.order((shop.variant(stock=9).sku, 3), (shop.variant(stock=9).sku, 2))


def make_confirmed(shop: Shop) -> orders_pb2.Order:
    """Place the same order and confirm it."""
    return shop.confirm(make_two_line_order(shop))


def make_partially_fulfilled(shop: Shop) -> orders_pb2.Order:
    """Place the same order and ship one unit of its first line."""
    order = make_confirmed(shop)
    shop.ship(shop.fulfill(order, (1, 1)))
    return shop.get_order(order)


def make_fulfilled(shop: Shop) -> orders_pb2.Order:
    """Place the same order and ship all of it."""
    order = make_confirmed(shop)
    shop.ship(shop.fulfill(order))
    return shop.get_order(order)


def make_completed(shop: Shop) -> orders_pb2.Order:
    """Place the same order and complete it."""
    return shop.orders.CompleteOrder(orders_pb2.CompleteOrderRequest(name=make_fulfilled(shop).name))


def make_cancelled(shop: Shop) -> orders_pb2.Order:
    """Place the same order and cancel it before it is confirmed."""
    return shop.cancel(make_two_line_order(shop))


def put_on_hold(shop: Shop, order: orders_pb2.Order) -> orders_pb2.Order:
    """Put an order on hold."""
    return shop.orders.HoldOrder(orders_pb2.HoldOrderRequest(name=order.name, reason="a doubtful address"))


IN_STATE: dict[str, Callable[[Shop], orders_pb2.Order]] = {
    "PLACED": make_two_line_order,
    "CONFIRMED": make_confirmed,
    "PARTIALLY_FULFILLED": make_partially_fulfilled,
    "FULFILLED": make_fulfilled,
    "COMPLETED": make_completed,
    "CANCELLED": make_cancelled,
}
"""An order in each state except EXPIRED, which needs a clock."""


# -- requests


def units(*lines: tuple[int, int]) -> list[orders_pb2.OrderLineUnits]:
    """Build quantities of lines from (line number, units)."""
    return [orders_pb2.OrderLineUnits(line_number=number, quantity=quantity) for number, quantity in lines]


def edit(
    *, add: dict[str, int] | None = None, change: dict[int, int] | None = None, remove: tuple[int, ...] = ()
) -> orders_pb2.OrderEdit:
    """Build an edit of lines."""
    return orders_pb2.OrderEdit(
        added_lines=[orders_pb2.PlaceOrderLine(sku=sku, quantity=count) for sku, count in (add or {}).items()],
        changed_lines=[
            orders_pb2.OrderLineQuantity(line_number=number, quantity=count) for number, count in (change or {}).items()
        ],
        removed_lines=remove,
    )


def update(order: orders_pb2.Order, *paths: str, **fields: Any) -> orders_pb2.UpdateOrderRequest:
    """Build a request to set fields of an order; without paths, those that are given."""
    changed = orders_pb2.Order(name=order.name, **fields)
    return orders_pb2.UpdateOrderRequest(order=changed, update_mask=FieldMask(paths=paths or tuple(fields)))


def update_fulfillment(
    fulfillment: orders_pb2.Fulfillment, *paths: str, **fields: Any
) -> orders_pb2.UpdateFulfillmentRequest:
    """Build a request to set fields of a fulfilment; without paths, those that are given."""
    changed = orders_pb2.Fulfillment(name=fulfillment.name, **fields)
    return orders_pb2.UpdateFulfillmentRequest(fulfillment=changed, update_mask=FieldMask(paths=paths or tuple(fields)))


def apply(order: orders_pb2.Order, **changes: Any) -> orders_pb2.ApplyOrderEditRequest:
    """Build a request to edit an order."""
    return orders_pb2.ApplyOrderEditRequest(name=order.name, edit=edit(**changes))


CHANGES: tuple[tuple[str, Prepare, str, tuple[str, ...]], ...] = (
    (
        "CancelOrderLines",
        lambda shop: orders_pb2.CancelOrderLinesRequest(name=make_two_line_order(shop).name, lines=units((1, 1))),
        "order.lines_cancelled",
        (),
    ),
    ("HoldOrder", lambda shop: orders_pb2.HoldOrderRequest(name=shop.order().name), "order.held", ()),
    (
        "ResumeOrder",
        lambda shop: orders_pb2.ResumeOrderRequest(name=put_on_hold(shop, shop.order()).name),
        "order.resumed",
        (),
    ),
    (
        "CompleteOrder",
        lambda shop: orders_pb2.CompleteOrderRequest(name=make_fulfilled(shop).name),
        "order.completed",
        (),
    ),
    ("ApplyOrderEdit", lambda shop: apply(make_two_line_order(shop), change={1: 5}), "order.edited", ()),
    ("UpdateOrder", lambda shop: update(make_confirmed(shop), phone="+43 1 234"), "order.updated", ()),
    (
        "AddOrderNote",
        lambda shop: orders_pb2.AddOrderNoteRequest(parent=shop.order().name, content="Called back."),
        "order_note.added",
        (),
    ),
    (
        "CreateFulfillment",
        lambda shop: orders_pb2.CreateFulfillmentRequest(parent=make_confirmed(shop).name),
        "fulfillment.created",
        (),
    ),
    (
        "ShipFulfillment",
        lambda shop: orders_pb2.ShipFulfillmentRequest(name=shop.fulfill(make_confirmed(shop)).name, carrier="Post"),
        "fulfillment.shipped",
        ("order.fulfilled",),
    ),
    (
        "DeliverFulfillment",
        lambda shop: orders_pb2.DeliverFulfillmentRequest(name=shop.ship(shop.fulfill(make_confirmed(shop))).name),
        "fulfillment.delivered",
        (),
    ),
    (
        "CancelFulfillment",
        lambda shop: orders_pb2.CancelFulfillmentRequest(name=shop.fulfill(make_confirmed(shop)).name),
        "fulfillment.cancelled",
        (),
    ),
    (
        "UpdateFulfillment",
        lambda shop: update_fulfillment(_make_shipped(shop), carrier="Speedy"),
        "fulfillment.updated",
        (),
    ),
    (
        "RestockFulfillment",
        lambda shop: orders_pb2.RestockFulfillmentRequest(name=_make_shipped(shop).name),
        "fulfillment.restocked",
        ("order.restocked",),
    ),
)
"""(RPC, function that creates its request, event that it writes, events of other resources before it)."""


# -- errors


def _order_steps(
    rpc: str, *, illegal: Callable[[Shop], orders_pb2.Order] | None = make_cancelled
) -> Iterator[tuple[Case, Prepare]]:
    def request(name: str, **fields: Any) -> Any:
        kind = getattr(orders_pb2, f"{rpc}Request")
        parent = "parent" if "parent" in kind.DESCRIPTOR.fields_by_name else "name"
        needed = {
            "CancelOrderLines": {"lines": units((1, 1))},
            "ApplyOrderEdit": {"edit": edit(change={1: 1})},
            "PreviewOrderEdit": {"edit": edit(change={1: 1})},
            "AddOrderNote": {"content": "x"},
        }
        return kind(**{parent: name}, **needed.get(rpc, {}), **fields)

    yield (rpc, "ORDER_NOT_FOUND"), lambda shop: request(NO_ORDER)
    yield (rpc, "ETAG_MISMATCH"), lambda shop: request(shop.order().name, etag=STALE)
    if illegal is not None:
        yield (rpc, "ILLEGAL_STATE"), lambda shop: request(illegal(shop).name)


def _holds(rpc: str, order: Callable[[Shop], orders_pb2.Order]) -> tuple[Case, Prepare]:
    kind = getattr(orders_pb2, f"{rpc}Request")
    return (rpc, "ORDER_HELD"), lambda shop: kind(name=put_on_hold(shop, order(shop)).name)


def _fulfillment_steps(rpc: str, *, illegal: Callable[[Shop], Any]) -> Iterator[tuple[Case, Prepare]]:
    kind = getattr(orders_pb2, f"{rpc}Request")
    yield (rpc, "FULFILLMENT_NOT_FOUND"), lambda shop: kind(name=NO_FULFILLMENT)
    yield (rpc, "ETAG_MISMATCH"), lambda shop: kind(name=shop.fulfill(make_confirmed(shop)).name, etag=STALE)
    yield (rpc, "ILLEGAL_STATE"), lambda shop: kind(name=illegal(shop).name)


def _make_shipped(shop: Shop) -> orders_pb2.Fulfillment:
    return shop.ship(shop.fulfill(make_confirmed(shop)))


def _held_after_binding(shop: Shop) -> Any:
    order = make_confirmed(shop)
    pending = shop.fulfill(order)
    put_on_hold(shop, order)
    return orders_pb2.ShipFulfillmentRequest(name=pending.name)


def make_fully_bound(shop: Shop) -> orders_pb2.Order:
    """Create a confirmed order whose units are all bound to a fulfilment."""
    order = make_confirmed(shop)
    shop.fulfill(order)
    return order


def make_archived_sku(shop: Shop) -> str:
    """Return the SKU of a variant that is not for sale."""
    variant = shop.variant(stock=5)
    shop.products.ArchiveVariant(products_pb2.ArchiveVariantRequest(name=variant.name))
    return str(variant.sku)


def build_excessive_total(shop: Shop) -> dict[str, int]:
    """Return lines to add that together exceed the maximum total."""
    return {shop.variant(prices={"JPY": str(10**12)}).sku: 10**6 for _ in range(10)}


def _edits(rpc: str) -> Iterator[tuple[Case, Prepare]]:
    kind = getattr(orders_pb2, f"{rpc}Request")

    def request(order: orders_pb2.Order, **changes: Any) -> Any:
        return kind(name=order.name, edit=edit(**changes))

    yield from _order_steps(rpc)
    yield (rpc, "ORDER_LINE_NOT_FOUND"), lambda shop: request(shop.order(), remove=(2,))
    yield (rpc, "SKU_NOT_FOUND"), lambda shop: request(shop.order(), add={NO_SKU: 1})
    yield (rpc, "NOT_FOR_SALE"), lambda shop: request(shop.order(), add={make_archived_sku(shop): 1})
    yield (rpc, "CURRENCY_MISMATCH"), lambda shop: request(shop.order(), add={shop.variant(prices={"USD": "1"}).sku: 1})
    yield (
        (rpc, "QUANTITY_NOT_ALLOWED"),
        lambda shop: request(shop.order(), add={shop.variant(quantity_rules={"minimum": 2}).sku: 1}),
    )
    yield (
        (rpc, "INVALID_AMOUNT"),
        lambda shop: request(
            shop.order((shop.variant(prices={"JPY": "1"}, stock=1).sku, 1), currency_code="JPY"),
            add=build_excessive_total(shop),
        ),
    )
    yield (rpc, "UNITS_NOT_OPEN"), lambda shop: request(make_fully_bound(shop), change={1: 1})
    yield (rpc, "OUT_OF_STOCK"), lambda shop: request(make_two_line_order(shop), change={1: 10})


def build_backorder_shipment(shop: Shop) -> Any:
    """Build a request to ship backordered units that are not on hand."""
    order = shop.confirm(shop.order((shop.create_backordered_sku(units=2), 1)))
    return orders_pb2.ShipFulfillmentRequest(name=shop.fulfill(order).name)


def _make_cancelled_fulfillment(shop: Shop) -> orders_pb2.Fulfillment:
    pending = shop.fulfill(make_confirmed(shop))
    return shop.orders.CancelFulfillment(orders_pb2.CancelFulfillmentRequest(name=pending.name))


def _make_deleted_location(shop: Shop) -> str:
    name: str = shop.location().name
    shop.inventory.DeleteLocation(inventory_pb2.DeleteLocationRequest(name=name))
    return name


def _restock_to(shop: Shop, location: str) -> Any:
    return orders_pb2.RestockFulfillmentRequest(name=_make_shipped(shop).name, location=location)


def _updates() -> Iterator[tuple[Case, Prepare]]:
    order, fulfillment = "UpdateOrder", "UpdateFulfillment"
    missing = orders_pb2.Order(name=NO_ORDER), orders_pb2.Fulfillment(name=NO_FULFILLMENT)
    yield (order, "INVALID_UPDATE_MASK"), lambda shop: update(shop.order(), "lines")
    yield (order, "UNKNOWN_CURRENCY"), lambda shop: update(shop.order(), shipping=money("1", "ZZZ"))
    yield (order, "ORDER_NOT_FOUND"), lambda shop: update(missing[0], note="x")
    yield (order, "ETAG_MISMATCH"), lambda shop: update(shop.order(), "note", note="x", etag=STALE)
    yield (
        (order, "FIELD_NOT_CHANGEABLE"),
        lambda shop: update(make_partially_fulfilled(shop), shipping=money("1")),
    )
    yield (order, "CURRENCY_MISMATCH"), lambda shop: update(shop.order(), shipping=money("1", "USD"))
    yield (order, "INVALID_AMOUNT"), lambda shop: update(shop.order(), shipping=money("0.001"))
    yield (order, "REFERENCE_TAKEN"), _update_to_taken_reference
    yield (fulfillment, "INVALID_UPDATE_MASK"), lambda shop: update_fulfillment(_make_shipped(shop), "tracking_number")
    yield (fulfillment, "FULFILLMENT_NOT_FOUND"), lambda shop: update_fulfillment(missing[1], carrier="x")
    yield (
        (fulfillment, "ETAG_MISMATCH"),
        lambda shop: update_fulfillment(_make_shipped(shop), "carrier", carrier="x", etag=STALE),
    )
    yield (
        (fulfillment, "FIELD_NOT_CHANGEABLE"),
        lambda shop: update_fulfillment(_make_cancelled_fulfillment(shop), carrier="x"),
    )


def _update_to_taken_reference(shop: Shop) -> orders_pb2.UpdateOrderRequest:
    taken, other = new_id("ref"), new_id("ref")
    shop.order(source="market", external_reference=taken)
    order = shop.order(source="market", external_reference=other, unique_external_reference=True)
    return update(order, external_reference=taken)


def _lists(request: Callable[..., Any]) -> Iterator[tuple[str, Prepare]]:
    yield "INVALID_FILTER", lambda shop: request(parent="orders/-", filter="=")
    yield "INVALID_ORDER_BY", lambda shop: request(parent="orders/-", order_by="no_such_field")
    yield "INVALID_PAGE_TOKEN", lambda shop: request(parent="orders/-", page_token="AAAA")


ORDER_CASES: dict[Case, Prepare] = {
    **dict(_order_steps("ConfirmOrder")),
    **dict([_holds("ConfirmOrder", lambda shop: shop.order())]),
    **dict(_order_steps("CancelOrder")),
    **dict(_order_steps("CancelOrderLines")),
    ("CancelOrderLines", "ORDER_LINE_NOT_FOUND"): lambda shop: orders_pb2.CancelOrderLinesRequest(
        name=shop.order().name, lines=units((2, 1))
    ),
    ("CancelOrderLines", "UNITS_NOT_OPEN"): lambda shop: orders_pb2.CancelOrderLinesRequest(
        name=make_fully_bound(shop).name, lines=units((1, 1))
    ),
    **dict(_order_steps("HoldOrder")),
    **dict([_holds("HoldOrder", lambda shop: shop.order())]),
    **dict(_order_steps("ResumeOrder", illegal=None)),
    ("ResumeOrder", "ORDER_NOT_HELD"): lambda shop: orders_pb2.ResumeOrderRequest(name=shop.order().name),
    **dict(_order_steps("CompleteOrder")),
    **dict([_holds("CompleteOrder", make_fulfilled)]),
    **dict(_edits("PreviewOrderEdit")),
    **dict(_edits("ApplyOrderEdit")),
    **dict(_order_steps("AddOrderNote", illegal=None)),
    ("ListOrderNotes", "ORDER_NOT_FOUND"): lambda shop: orders_pb2.ListOrderNotesRequest(parent=NO_ORDER),
    ("ListOrderNotes", "INVALID_PAGE_TOKEN"): lambda shop: orders_pb2.ListOrderNotesRequest(
        parent=shop.order().name, page_token="AAAA"
    ),
    **dict(_order_steps("CreateFulfillment")),
    ("CreateFulfillment", "ORDER_HELD"): lambda shop: orders_pb2.CreateFulfillmentRequest(
        parent=put_on_hold(shop, make_confirmed(shop)).name
    ),
    ("CreateFulfillment", "ORDER_LINE_NOT_FOUND"): lambda shop: orders_pb2.CreateFulfillmentRequest(
        parent=make_confirmed(shop).name, lines=units((3, 1))
    ),
    ("CreateFulfillment", "UNITS_NOT_OPEN"): lambda shop: orders_pb2.CreateFulfillmentRequest(
        parent=make_fully_bound(shop).name
    ),
    ("GetFulfillment", "FULFILLMENT_NOT_FOUND"): lambda shop: orders_pb2.GetFulfillmentRequest(name=NO_FULFILLMENT),
    **{("ListFulfillments", reason): prepare for reason, prepare in _lists(orders_pb2.ListFulfillmentsRequest)},
    **dict(_fulfillment_steps("ShipFulfillment", illegal=_make_shipped)),
    ("ShipFulfillment", "ORDER_HELD"): _held_after_binding,
    ("ShipFulfillment", "OUT_OF_STOCK"): build_backorder_shipment,
    **dict(_fulfillment_steps("DeliverFulfillment", illegal=lambda shop: shop.fulfill(make_confirmed(shop)))),
    **dict(_fulfillment_steps("CancelFulfillment", illegal=_make_shipped)),
    **dict(_updates()),
    **dict(_fulfillment_steps("RestockFulfillment", illegal=lambda shop: shop.fulfill(make_confirmed(shop)))),
    ("RestockFulfillment", "LOCATION_NOT_FOUND"): lambda shop: _restock_to(shop, "locations/none"),
    ("RestockFulfillment", "RESOURCE_DELETED"): lambda shop: _restock_to(shop, _make_deleted_location(shop)),
}
ORDER_PRECEDENCE: dict[tuple[str, str, str], Prepare] = {
    **{
        (rpc, "ETAG_MISMATCH", "ILLEGAL_STATE"): (
            lambda shop, rpc=rpc: getattr(orders_pb2, f"{rpc}Request")(name=make_cancelled(shop).name, etag=STALE)
        )
        for rpc in ("ConfirmOrder", "CancelOrder", "HoldOrder", "CompleteOrder")
    },
    ("CompleteOrder", "ILLEGAL_STATE", "ORDER_HELD"): lambda shop: orders_pb2.CompleteOrderRequest(
        name=put_on_hold(shop, shop.order()).name
    ),
    ("CreateFulfillment", "ILLEGAL_STATE", "ORDER_HELD"): lambda shop: orders_pb2.CreateFulfillmentRequest(
        parent=put_on_hold(shop, shop.order()).name
    ),
    ("CreateFulfillment", "ORDER_HELD", "ORDER_LINE_NOT_FOUND"): lambda shop: orders_pb2.CreateFulfillmentRequest(
        parent=put_on_hold(shop, make_confirmed(shop)).name, lines=units((9, 1))
    ),
    ("CancelOrderLines", "ORDER_LINE_NOT_FOUND", "UNITS_NOT_OPEN"): lambda shop: orders_pb2.CancelOrderLinesRequest(
        name=make_two_line_order(shop).name, lines=units((1, 4), (3, 1))
    ),
    ("ApplyOrderEdit", "ORDER_LINE_NOT_FOUND", "SKU_NOT_FOUND"): lambda shop: apply(
        shop.order(), add={NO_SKU: 1}, remove=(2,)
    ),
    ("ApplyOrderEdit", "SKU_NOT_FOUND", "NOT_FOR_SALE"): lambda shop: apply(
        shop.order(), add={make_archived_sku(shop): 1, NO_SKU: 1}
    ),
    ("ApplyOrderEdit", "QUANTITY_NOT_ALLOWED", "OUT_OF_STOCK"): lambda shop: apply(
        shop.order(), add={shop.variant(quantity_rules={"minimum": 2}).sku: 1}
    ),
    ("ApplyOrderEdit", "UNITS_NOT_OPEN", "OUT_OF_STOCK"): lambda shop: apply(
        make_fully_bound(shop), change={1: 1}, add={shop.variant().sku: 1}
    ),
    ("UpdateOrder", "INVALID_UPDATE_MASK", "ETAG_MISMATCH"): lambda shop: update(shop.order(), "total", etag=STALE),
    ("UpdateOrder", "UNKNOWN_CURRENCY", "ETAG_MISMATCH"): lambda shop: update(
        shop.order(), "shipping", shipping=money("1", "ZZZ"), etag=STALE
    ),
    ("UpdateOrder", "ETAG_MISMATCH", "FIELD_NOT_CHANGEABLE"): lambda shop: update(
        make_cancelled(shop), "phone", phone="1", etag=STALE
    ),
    ("UpdateOrder", "FIELD_NOT_CHANGEABLE", "CURRENCY_MISMATCH"): lambda shop: update(
        make_cancelled(shop), shipping=money("1", "USD")
    ),
    ("UpdateFulfillment", "ETAG_MISMATCH", "FIELD_NOT_CHANGEABLE"): lambda shop: update_fulfillment(
        _make_cancelled_fulfillment(shop), "carrier", carrier="x", etag=STALE
    ),
    ("RestockFulfillment", "ILLEGAL_STATE", "LOCATION_NOT_FOUND"): lambda shop: orders_pb2.RestockFulfillmentRequest(
        name=shop.fulfill(make_confirmed(shop)).name, location="locations/none"
    ),
    ("ShipFulfillment", "ETAG_MISMATCH", "ILLEGAL_STATE"): lambda shop: orders_pb2.ShipFulfillmentRequest(
        name=_make_shipped(shop).name, etag=STALE
    ),
}
