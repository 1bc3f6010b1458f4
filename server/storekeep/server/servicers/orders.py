"""OrderService: placing, changing and delivering orders, and reading them."""

from __future__ import annotations

import grpc

from storekeep.server.domain.orders import (
    cancellations,
    changes,
    edits,
    fulfillments,
    history,
    imports,
    notes,
    orders,
    placing,
)
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.servicers.calls import call_of, list_request_of, trial_call
from storekeep.server.servicers.converters import id_of, key_of
from storekeep.server.servicers.order_import_messages import historic_order_from, import_result_message
from storekeep.server.servicers.order_messages import (
    change_message,
    edit_from,
    fulfillment_message,
    line_units,
    new_order_from,
    note_message,
    order_message,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import orders_pb2 as pb
from storekeep.v1 import orders_pb2_grpc


class OrderServicer(orders_pb2_grpc.OrderServiceServicer):
    """The RPCs of OrderService; what each does stands in the contract."""

    def __init__(self, store: Store, tokens: PageTokens, *, rules: PlacingRules) -> None:
        self._store = store
        self._tokens = tokens
        self._rules = rules

    def PlaceOrder(self, request: pb.PlaceOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        new = new_order_from(request)
        return order_message(placing.place_order(self._store, call_of(request), new, rules=self._rules))

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
        order = changes.confirm_order(self._store, call_of(request), id_of(request.name), etag=request.etag)
        return order_message(order)

    def CancelOrder(self, request: pb.CancelOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = cancellations.cancel_order(
            self._store, call_of(request), id_of(request.name), reason=request.reason, etag=request.etag
        )
        return order_message(order)

    def CancelOrderLines(self, request: pb.CancelOrderLinesRequest, context: grpc.ServicerContext) -> pb.Order:
        order = cancellations.cancel_order_lines(
            self._store,
            call_of(request),
            id_of(request.name),
            line_units(request.lines),
            reason=request.reason,
            etag=request.etag,
        )
        return order_message(order)

    def HoldOrder(self, request: pb.HoldOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = changes.hold_order(
            self._store, call_of(request), id_of(request.name), reason=request.reason, etag=request.etag
        )
        return order_message(order)

    def ResumeOrder(self, request: pb.ResumeOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = changes.resume_order(self._store, call_of(request), id_of(request.name), etag=request.etag)
        return order_message(order)

    def CompleteOrder(self, request: pb.CompleteOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = changes.complete_order(self._store, call_of(request), id_of(request.name), etag=request.etag)
        return order_message(order)

    def PreviewOrderEdit(self, request: pb.PreviewOrderEditRequest, context: grpc.ServicerContext) -> pb.Order:
        edit = edit_from(request.edit)
        order = edits.apply_order_edit(self._store, trial_call(), id_of(request.name), edit, etag=request.etag)
        return order_message(order)

    def ApplyOrderEdit(self, request: pb.ApplyOrderEditRequest, context: grpc.ServicerContext) -> pb.Order:
        edit = edit_from(request.edit)
        order = edits.apply_order_edit(
            self._store, call_of(request), id_of(request.name), edit, reason=request.reason, etag=request.etag
        )
        return order_message(order)

    def AddOrderNote(self, request: pb.AddOrderNoteRequest, context: grpc.ServicerContext) -> pb.OrderNote:
        note = notes.add_order_note(
            self._store, call_of(request), id_of(request.parent), request.content, etag=request.etag
        )
        return note_message(note)

    def ListOrderNotes(
        self, request: pb.ListOrderNotesRequest, context: grpc.ServicerContext
    ) -> pb.ListOrderNotesResponse:
        page = notes.list_order_notes(
            self._store,
            id_of(request.parent),
            page_size=request.page_size,
            page_token=request.page_token,
            tokens=self._tokens,
        )
        return pb.ListOrderNotesResponse(
            notes=[note_message(note) for note in page.items], next_page_token=page.next_page_token
        )

    def CreateFulfillment(self, request: pb.CreateFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        fulfillment = fulfillments.create_fulfillment(
            self._store,
            call_of(request),
            id_of(request.parent),
            location_id=id_of(request.location),
            lines=line_units(request.lines),
            etag=request.etag,
        )
        return fulfillment_message(fulfillment)

    def GetFulfillment(self, request: pb.GetFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        return fulfillment_message(fulfillments.get_fulfillment(self._store, key_of(request.name)))

    def ListFulfillments(
        self, request: pb.ListFulfillmentsRequest, context: grpc.ServicerContext
    ) -> pb.ListFulfillmentsResponse:
        wanted = list_request_of(request, parent=id_of(request.parent))
        page = fulfillments.list_fulfillments(self._store, wanted, tokens=self._tokens)
        return pb.ListFulfillmentsResponse(
            fulfillments=[fulfillment_message(fulfillment) for fulfillment in page.items],
            next_page_token=page.next_page_token,
        )

    def ShipFulfillment(self, request: pb.ShipFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        fulfillment = fulfillments.ship_fulfillment(
            self._store,
            call_of(request),
            key_of(request.name),
            carrier=request.carrier,
            tracking_number=request.tracking_number,
            etag=request.etag,
        )
        return fulfillment_message(fulfillment)

    def DeliverFulfillment(
        self, request: pb.DeliverFulfillmentRequest, context: grpc.ServicerContext
    ) -> pb.Fulfillment:
        call, key = call_of(request), key_of(request.name)
        return fulfillment_message(fulfillments.deliver_fulfillment(self._store, call, key, etag=request.etag))

    def CancelFulfillment(self, request: pb.CancelFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        call, key = call_of(request), key_of(request.name)
        return fulfillment_message(fulfillments.cancel_fulfillment(self._store, call, key, etag=request.etag))

    def ListOrderHistory(
        self, request: pb.ListOrderHistoryRequest, context: grpc.ServicerContext
    ) -> pb.ListOrderHistoryResponse:
        page = history.list_order_history(
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
        results = imports.import_orders(self._store, call_of(request), items, numbers=self._rules.numbers)
        return pb.ImportOrdersResponse(results=[import_result_message(result) for result in results])
