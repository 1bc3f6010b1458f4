"""OrderService: places, changes, fulfils and reads orders."""

from __future__ import annotations

import grpc

from storekeep.server.domain.access_errors import PermissionDenied
from storekeep.server.domain.calls import READ_PERSONAL_DATA
from storekeep.server.domain.orders import (
    acceptance,
    cancellations,
    changes,
    edits,
    fulfillments,
    history,
    imports,
    notes,
    orders,
    placing,
    quoting,
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
from storekeep.server.servicers.converters import EncodedReply, parse_id, parse_key
from storekeep.server.servicers.order_import_messages import build_import_result, parse_historic_order
from storekeep.server.servicers.order_messages import (
    build_fulfillment,
    build_history_entry,
    build_note,
    build_quotation,
    encode_order_list,
    encode_order_reply,
    parse_edit,
    parse_fulfillment_changes,
    parse_line_units,
    parse_new_order,
    parse_order_changes,
    parse_parcels,
)
from storekeep.server.servicers.order_price_messages import parse_inquiry
from storekeep.server.store.engine import Store
from storekeep.v1 import orders_pb2 as pb
from storekeep.v1 import orders_pb2_grpc


def _reads_customers() -> bool:
    """Return whether the caller may find orders by what it knows about their customers."""
    return has_permission("customers.read") and has_permission(READ_PERSONAL_DATA)


def _check_draft_access(request: pb.QuoteOrderRequest) -> None:
    """Refuse to try a promotion that tells the caller more than it may read.

    A promotion for a group or for first orders tells whether the customer is in the group or has ordered.

    Raises: PermissionDenied.
    """
    conditions = request.draft_promotion.conditions
    if request.HasField("draft_promotion") and not has_permission("pricing.read"):
        raise PermissionDenied("pricing.read")
    tells_of_customer = conditions.customer_groups or conditions.first_order
    if request.customer and tells_of_customer and not has_permission("customers.read"):
        raise PermissionDenied("customers.read")


class OrderServicer(orders_pb2_grpc.OrderServiceServicer):
    """The RPCs of OrderService; the contract documents each one."""

    def __init__(self, store: Store, tokens: PageTokens, *, rules: PlacingRules) -> None:
        self._store = store
        self._tokens = tokens
        self._rules = rules

    def PlaceOrder(self, request: pb.PlaceOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        new = parse_new_order(request)
        place = acceptance.place_quoted_order if new.quote_id else placing.place_order
        return encode_order_reply(place(self._store, build_call(request), new, rules=self._rules))

    def QuoteOrder(self, request: pb.QuoteOrderRequest, context: grpc.ServicerContext) -> pb.QuoteOrderResponse:
        _check_draft_access(request)
        quotation = quoting.quote_order(self._store, parse_inquiry(request), rules=self._rules.pricing)
        return build_quotation(quotation)

    def GetOrder(self, request: pb.GetOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        return encode_order_reply(orders.get_order(self._store, parse_id(request.name)))

    def ListOrders(self, request: pb.ListOrdersRequest, context: grpc.ServicerContext) -> EncodedReply:
        hidden = frozenset() if _reads_customers() else orders.CUSTOMER_FIELDS
        page = orders.list_orders(self._store, build_list_request(request, hidden=hidden), tokens=self._tokens)
        return encode_order_list(page.items, pb.ListOrdersResponse(**build_page_fields(page)))

    def BatchGetOrders(self, request: pb.BatchGetOrdersRequest, context: grpc.ServicerContext) -> EncodedReply:
        items = orders.batch_get_orders(self._store, [parse_id(name) for name in request.names])
        return encode_order_list(items, pb.BatchGetOrdersResponse())

    def SearchOrders(self, request: pb.SearchOrdersRequest, context: grpc.ServicerContext) -> EncodedReply:
        page = searches.search_orders(
            self._store,
            build_search_request(request),
            numbers=self._rules.numbers,
            with_customers=_reads_customers(),
            tokens=self._tokens,
        )
        return encode_order_list(page.items, pb.SearchOrdersResponse(next_page_token=page.next_page_token))

    def UpdateOrder(self, request: pb.UpdateOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        changes = parse_order_changes(request)
        call, order_id = build_call(request), parse_id(request.order.name)
        order = updates.update_order(
            self._store, call, order_id, changes, reason=request.reason, etag=request.order.etag
        )
        return encode_order_reply(order)

    def ConfirmOrder(self, request: pb.ConfirmOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        order = changes.confirm_order(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        return encode_order_reply(order)

    def CancelOrder(self, request: pb.CancelOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        order = cancellations.cancel_order(
            self._store, build_call(request), parse_id(request.name), reason=request.reason, etag=request.etag
        )
        return encode_order_reply(order)

    def CancelOrderLines(self, request: pb.CancelOrderLinesRequest, context: grpc.ServicerContext) -> EncodedReply:
        order = cancellations.cancel_order_lines(
            self._store,
            build_call(request),
            parse_id(request.name),
            parse_line_units(request.lines),
            reason=request.reason,
            etag=request.etag,
        )
        return encode_order_reply(order)

    def HoldOrder(self, request: pb.HoldOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        order = changes.hold_order(
            self._store, build_call(request), parse_id(request.name), reason=request.reason, etag=request.etag
        )
        return encode_order_reply(order)

    def ResumeOrder(self, request: pb.ResumeOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        order = changes.resume_order(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        return encode_order_reply(order)

    def CompleteOrder(self, request: pb.CompleteOrderRequest, context: grpc.ServicerContext) -> EncodedReply:
        order = changes.complete_order(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        return encode_order_reply(order)

    def PreviewOrderEdit(self, request: pb.PreviewOrderEditRequest, context: grpc.ServicerContext) -> EncodedReply:
        edit = parse_edit(request.edit)
        order = edits.apply_order_edit(
            self._store, build_dry_run_call(), parse_id(request.name), edit, etag=request.etag
        )
        return encode_order_reply(order)

    def ApplyOrderEdit(self, request: pb.ApplyOrderEditRequest, context: grpc.ServicerContext) -> EncodedReply:
        edit = parse_edit(request.edit)
        order = edits.apply_order_edit(
            self._store, build_call(request), parse_id(request.name), edit, reason=request.reason, etag=request.etag
        )
        return encode_order_reply(order)

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
        results = imports.import_orders(
            self._store,
            build_call(request),
            items,
            numbers=self._rules.numbers,
            taken=[imports.TakenUnits(one.sku, parse_id(one.location), one.quantity) for one in request.taken_units],
        )
        return pb.ImportOrdersResponse(results=[build_import_result(result) for result in results])
