"""OrderService: placing, confirming and cancelling orders, and reading them."""

from __future__ import annotations

import grpc

from storekeep.server.domain import order_changes, order_history, order_imports, order_placing, orders
from storekeep.server.domain.errors import InvalidAmount, UnknownCurrency
from storekeep.server.domain.money import Money
from storekeep.server.domain.order_history import OrderChange
from storekeep.server.domain.order_imports import HistoricLine, HistoricOrder
from storekeep.server.domain.order_placing import NewOrder, PlacingRules
from storekeep.server.domain.orders import Order
from storekeep.server.domain.pages import PageTokens
from storekeep.server.domain.resources import etag_of
from storekeep.server.servicers.calls import call_of, list_request_of
from storekeep.server.servicers.converters import (
    address_from,
    address_message,
    id_of,
    money_from,
    money_writer,
    optional_timestamp,
    time_us_of,
    timestamp_of,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import orders_pb2 as pb
from storekeep.v1 import orders_pb2_grpc

STATES = {
    "": pb.ORDER_STATE_UNSPECIFIED,
    "PLACED": pb.ORDER_STATE_PLACED,
    "CONFIRMED": pb.ORDER_STATE_CONFIRMED,
    "CANCELLED": pb.ORDER_STATE_CANCELLED,
    "FULFILLED": pb.ORDER_STATE_FULFILLED,
}
OUTCOMES = {
    order_imports.IMPORTED: pb.ORDER_IMPORT_OUTCOME_IMPORTED,
    order_imports.ALREADY_THERE: pb.ORDER_IMPORT_OUTCOME_ALREADY_THERE,
    order_imports.REFUSED: pb.ORDER_IMPORT_OUTCOME_REFUSED,
}
PROBLEMS = {
    "": pb.ORDER_IMPORT_PROBLEM_UNSPECIFIED,
    **{problem: pb.OrderImportProblem.Value(f"ORDER_IMPORT_PROBLEM_{problem}") for problem in order_imports.PROBLEMS},
}


def order_message(order: Order) -> pb.Order:
    """An order as the contract writes it."""
    money = money_writer(order.currency_code)
    return pb.Order(
        name=order.name,
        customer=f"customers/{order.customer_id}",
        state=STATES[order.state],
        lines=[
            pb.OrderLine(
                line_number=line.line_number,
                sku=line.sku,
                display_name=line.display_name,
                quantity=line.quantity,
                unit_price=money(line.unit_price_minor),
                subtotal=money(line.subtotal_minor),
                discount=money(line.discount_minor) if line.discount_minor else None,
                total=money(line.total_minor),
                open_quantity=line.open,
                fulfilled_quantity=line.fulfilled,
                cancelled_quantity=line.cancelled,
                returned_quantity=line.returned,
            )
            for line in order.lines
        ],
        total=money(order.total_minor),
        location=f"locations/{order.location_id}",
        shipping_address=None if order.shipping_address is None else address_message(order.shipping_address),
        external_reference=order.external_reference,
        note=order.note,
        cancel_reason=order.cancel_reason,
        create_time=timestamp_of(order.create_time_us),
        update_time=timestamp_of(order.update_time_us),
        etag=etag_of(order.version),
        number=order.number,
        shipping=money(order.shipping_minor) if order.shipping_minor else None,
        expire_time=optional_timestamp(order.expire_time_us),
        held=order.held,
        hold_reason=order.hold_reason,
    )


def change_message(change: OrderChange) -> pb.OrderHistoryEntry:
    """A step of an order's history as the contract writes it."""
    return pb.OrderHistoryEntry(
        sequence=change.sequence,
        method=change.method,
        from_state=STATES[change.from_state],
        to_state=STATES[change.to_state],
        reason=change.reason,
        actor=change.actor,
        create_time=timestamp_of(change.create_time_us),
    )


def new_order_from(request: pb.PlaceOrderRequest) -> NewOrder:
    """What a request wants to order."""
    return NewOrder(
        customer_id=id_of(request.customer),
        lines=tuple((line.sku, line.quantity) for line in request.lines),
        currency_code=request.currency_code,
        location_id=id_of(request.location),
        shipping_address=address_from(request.shipping_address) if request.HasField("shipping_address") else None,
        external_reference=request.external_reference,
        note=request.note,
        shipping=money_from(request.shipping, field="shipping") if request.HasField("shipping") else None,
    )


def historic_order_from(message: pb.HistoricOrder) -> order_imports.Item:
    """A historic order; its result where an amount in it is none."""
    try:
        return HistoricOrder(
            number=message.number,
            customer_id=id_of(message.customer),
            currency_code=message.currency_code,
            order_time_us=time_us_of(message.order_time),
            lines=tuple(_historic_line_from(line) for line in message.lines),
            shipping=_amount_in(message, "shipping"),
            ship_time_us=time_us_of(message.ship_time) if message.HasField("ship_time") else None,
            carrier=message.carrier,
            tracking_number=message.tracking_number,
            shipping_address=address_from(message.shipping_address) if message.HasField("shipping_address") else None,
            note=message.note,
            location_id=id_of(message.location),
            total=_amount_in(message, "total"),
        )
    except UnknownCurrency as error:
        return order_imports.refused(message.number, order_imports.CURRENCY, str(error))
    except InvalidAmount as error:
        return order_imports.refused(message.number, order_imports.AMOUNT, str(error))


def _historic_line_from(message: pb.HistoricOrderLine) -> HistoricLine:
    return HistoricLine(
        sku=message.sku,
        quantity=message.quantity,
        unit_price=money_from(message.unit_price, field="unit_price"),
        discount=_amount_in(message, "discount_amount"),
        discount_ppm=message.discount_ppm,
        cancelled=message.cancelled_quantity,
        total=_amount_in(message, "total"),
    )


def _amount_in(message: pb.HistoricOrder | pb.HistoricOrderLine, field: str) -> Money | None:
    """The amount in a field that may be absent."""
    return money_from(getattr(message, field), field=field) if message.HasField(field) else None  # type: ignore[arg-type]  # both have the fields


def import_result_message(result: order_imports.Result) -> pb.OrderImportResult:
    """What became of a historic order as the contract writes it."""
    return pb.OrderImportResult(
        number=result.number,
        outcome=OUTCOMES[result.outcome],
        order=result.order,
        problem=PROBLEMS[result.problem],
        detail=result.detail,
    )


class OrderServicer(orders_pb2_grpc.OrderServiceServicer):
    """The RPCs of OrderService; what each does stands in the contract."""

    def __init__(self, store: Store, tokens: PageTokens, *, rules: PlacingRules) -> None:
        self._store = store
        self._tokens = tokens
        self._rules = rules

    def PlaceOrder(self, request: pb.PlaceOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        new = new_order_from(request)
        return order_message(order_placing.place_order(self._store, call_of(request), new, rules=self._rules))

    def GetOrder(self, request: pb.GetOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        return order_message(orders.get_order(self._store, id_of(request.name)))

    def ListOrders(self, request: pb.ListOrdersRequest, context: grpc.ServicerContext) -> pb.ListOrdersResponse:
        page = orders.list_orders(self._store, list_request_of(request), tokens=self._tokens)
        return pb.ListOrdersResponse(
            orders=[order_message(order) for order in page.items], next_page_token=page.next_page_token
        )

    def BatchGetOrders(
        self, request: pb.BatchGetOrdersRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetOrdersResponse:
        found = orders.batch_get_orders(self._store, [id_of(name) for name in request.names])
        return pb.BatchGetOrdersResponse(orders=[order_message(order) for order in found])

    def ConfirmOrder(self, request: pb.ConfirmOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = order_changes.confirm_order(self._store, call_of(request), id_of(request.name), etag=request.etag)
        return order_message(order)

    def CancelOrder(self, request: pb.CancelOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = order_changes.cancel_order(
            self._store, call_of(request), id_of(request.name), reason=request.reason, etag=request.etag
        )
        return order_message(order)

    def ListOrderHistory(
        self, request: pb.ListOrderHistoryRequest, context: grpc.ServicerContext
    ) -> pb.ListOrderHistoryResponse:
        page = order_history.list_order_history(
            self._store,
            id_of(request.name),
            page_size=request.page_size,
            page_token=request.page_token,
            tokens=self._tokens,
        )
        return pb.ListOrderHistoryResponse(
            entries=[change_message(change) for change in page.items], next_page_token=page.next_page_token
        )

    def ImportOrders(self, request: pb.ImportOrdersRequest, context: grpc.ServicerContext) -> pb.ImportOrdersResponse:
        items = [historic_order_from(order) for order in request.orders]
        results = order_imports.import_orders(self._store, call_of(request), items, numbers=self._rules.numbers)
        return pb.ImportOrdersResponse(results=[import_result_message(result) for result in results])
