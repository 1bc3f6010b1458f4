"""OrderService: places, changes, fulfils and reads orders."""

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
    searches,
    updates,
)
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.servicers.calls import (
    build_call,
    build_dry_run_call,
    build_list_request,
    build_page_fields,
    build_search_request,
    has_permission,
)
from storekeep.server.servicers.converters import parse_id, parse_key
from storekeep.server.servicers.order_import_messages import build_import_result, parse_historic_order
from storekeep.server.servicers.order_messages import (
    build_fulfillment,
    build_history_entry,
    build_note,
    build_order,
    parse_edit,
    parse_fulfillment_changes,
    parse_line_units,
    parse_new_order,
    parse_order_changes,
    parse_parcels,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import orders_pb2 as pb
from storekeep.v1 import orders_pb2_grpc


class OrderServicer(orders_pb2_grpc.OrderServiceServicer):
    """The RPCs of OrderService; the contract documents each one."""

    def __init__(self, store: Store, tokens: PageTokens, *, rules: PlacingRules) -> None:
        self._store = store
        self._tokens = tokens
        self._rules = rules

    def PlaceOrder(self, request: pb.PlaceOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        new = parse_new_order(request)
        return build_order(placing.place_order(self._store, build_call(request), new, rules=self._rules))

    def GetOrder(self, request: pb.GetOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        return build_order(orders.get_order(self._store, parse_id(request.name)))

    def ListOrders(self, request: pb.ListOrdersRequest, context: grpc.ServicerContext) -> pb.ListOrdersResponse:
        hidden = frozenset() if has_permission("customers.read") else orders.CUSTOMER_FIELDS
        page = orders.list_orders(self._store, build_list_request(request, hidden=hidden), tokens=self._tokens)
        return pb.ListOrdersResponse(orders=[build_order(order) for order in page.items], **build_page_fields(page))

    def BatchGetOrders(
        self, request: pb.BatchGetOrdersRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetOrdersResponse:
        items = orders.batch_get_orders(self._store, [parse_id(name) for name in request.names])
        return pb.BatchGetOrdersResponse(orders=[build_order(order) for order in items])

    def SearchOrders(self, request: pb.SearchOrdersRequest, context: grpc.ServicerContext) -> pb.SearchOrdersResponse:
        page = searches.search_orders(
            self._store,
            build_search_request(request),
            numbers=self._rules.numbers,
            with_customers=has_permission("customers.read"),
            tokens=self._tokens,
        )
        return pb.SearchOrdersResponse(
            orders=[build_order(order) for order in page.items], next_page_token=page.next_page_token
        )

    def UpdateOrder(self, request: pb.UpdateOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        changes = parse_order_changes(request)
        call, order_id = build_call(request), parse_id(request.order.name)
        order = updates.update_order(
            self._store, call, order_id, changes, reason=request.reason, etag=request.order.etag
        )
        return build_order(order)

    def ConfirmOrder(self, request: pb.ConfirmOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = changes.confirm_order(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        return build_order(order)

    def CancelOrder(self, request: pb.CancelOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = cancellations.cancel_order(
            self._store, build_call(request), parse_id(request.name), reason=request.reason, etag=request.etag
        )
        return build_order(order)

    def CancelOrderLines(self, request: pb.CancelOrderLinesRequest, context: grpc.ServicerContext) -> pb.Order:
        order = cancellations.cancel_order_lines(
            self._store,
            build_call(request),
            parse_id(request.name),
            parse_line_units(request.lines),
            reason=request.reason,
            etag=request.etag,
        )
        return build_order(order)

    def HoldOrder(self, request: pb.HoldOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = changes.hold_order(
            self._store, build_call(request), parse_id(request.name), reason=request.reason, etag=request.etag
        )
        return build_order(order)

    def ResumeOrder(self, request: pb.ResumeOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = changes.resume_order(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        return build_order(order)

    def CompleteOrder(self, request: pb.CompleteOrderRequest, context: grpc.ServicerContext) -> pb.Order:
        order = changes.complete_order(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        return build_order(order)

    def PreviewOrderEdit(self, request: pb.PreviewOrderEditRequest, context: grpc.ServicerContext) -> pb.Order:
        edit = parse_edit(request.edit)
        order = edits.apply_order_edit(
            self._store, build_dry_run_call(), parse_id(request.name), edit, etag=request.etag
        )
        return build_order(order)

    def ApplyOrderEdit(self, request: pb.ApplyOrderEditRequest, context: grpc.ServicerContext) -> pb.Order:
        edit = parse_edit(request.edit)
        order = edits.apply_order_edit(
            self._store, build_call(request), parse_id(request.name), edit, reason=request.reason, etag=request.etag
        )
        return build_order(order)

    def AddOrderNote(self, request: pb.AddOrderNoteRequest, context: grpc.ServicerContext) -> pb.OrderNote:
        note = notes.add_order_note(
            self._store, build_call(request), parse_id(request.parent), request.content, etag=request.etag
        )
        return build_note(note)

    def ListOrderNotes(
        self, request: pb.ListOrderNotesRequest, context: grpc.ServicerContext
    ) -> pb.ListOrderNotesResponse:
        list_request = build_list_request(request, parent=parse_id(request.parent))
        page = notes.list_order_notes(self._store, list_request, tokens=self._tokens)
        return pb.ListOrderNotesResponse(notes=[build_note(note) for note in page.items], **build_page_fields(page))

    def CreateFulfillment(self, request: pb.CreateFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        fulfillment = fulfillments.create_fulfillment(
            self._store,
            build_call(request),
            parse_id(request.parent),
            location_id=parse_id(request.location),
            lines=parse_line_units(request.lines),
            etag=request.etag,
        )
        return build_fulfillment(fulfillment)

    def GetFulfillment(self, request: pb.GetFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        return build_fulfillment(fulfillments.get_fulfillment(self._store, parse_key(request.name)))

    def ListFulfillments(
        self, request: pb.ListFulfillmentsRequest, context: grpc.ServicerContext
    ) -> pb.ListFulfillmentsResponse:
        list_request = build_list_request(request, parent=parse_id(request.parent))
        page = fulfillments.list_fulfillments(self._store, list_request, tokens=self._tokens)
        return pb.ListFulfillmentsResponse(
            fulfillments=[build_fulfillment(fulfillment) for fulfillment in page.items],
            **build_page_fields(page),
        )

    def ShipFulfillment(self, request: pb.ShipFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        fulfillment = fulfillments.ship_fulfillment(
            self._store,
            build_call(request),
            parse_key(request.name),
            carrier=request.carrier,
            tracking_number=request.tracking_number,
            parcels=parse_parcels(request.parcels),
            etag=request.etag,
        )
        return build_fulfillment(fulfillment)

    def UpdateFulfillment(self, request: pb.UpdateFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        changes = parse_fulfillment_changes(request)
        call, key = build_call(request), parse_key(request.fulfillment.name)
        etag = request.fulfillment.etag
        return build_fulfillment(fulfillments.update_fulfillment(self._store, call, key, changes, etag=etag))

    def RestockFulfillment(
        self, request: pb.RestockFulfillmentRequest, context: grpc.ServicerContext
    ) -> pb.Fulfillment:
        fulfillment = fulfillments.restock_fulfillment(
            self._store,
            build_call(request),
            parse_key(request.name),
            location_id=parse_id(request.location),
            reason=request.reason,
            etag=request.etag,
        )
        return build_fulfillment(fulfillment)

    def DeliverFulfillment(
        self, request: pb.DeliverFulfillmentRequest, context: grpc.ServicerContext
    ) -> pb.Fulfillment:
        call, key = build_call(request), parse_key(request.name)
        return build_fulfillment(fulfillments.deliver_fulfillment(self._store, call, key, etag=request.etag))

    def CancelFulfillment(self, request: pb.CancelFulfillmentRequest, context: grpc.ServicerContext) -> pb.Fulfillment:
        call, key = build_call(request), parse_key(request.name)
        return build_fulfillment(fulfillments.cancel_fulfillment(self._store, call, key, etag=request.etag))

    def ListOrderHistory(
        self, request: pb.ListOrderHistoryRequest, context: grpc.ServicerContext
    ) -> pb.ListOrderHistoryResponse:
        list_request = build_list_request(request, parent=request.name)
        page = history.list_order_history(self._store, list_request, tokens=self._tokens)
        return pb.ListOrderHistoryResponse(
            entries=[build_history_entry(change) for change in page.items], **build_page_fields(page)
        )

    def ImportOrders(self, request: pb.ImportOrdersRequest, context: grpc.ServicerContext) -> pb.ImportOrdersResponse:
        items = [parse_historic_order(order) for order in request.orders]
        results = imports.import_orders(self._store, build_call(request), items, numbers=self._rules.numbers)
        return pb.ImportOrdersResponse(results=[build_import_result(result) for result in results])
