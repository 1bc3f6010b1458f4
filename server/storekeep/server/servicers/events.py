"""EventService: the committed changes of resources, in the order of their commits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from storekeep.server.domain.catalog.categories import Category
from storekeep.server.domain.catalog.products import Product
from storekeep.server.domain.catalog.variants import Variant
from storekeep.server.domain.customers import Customer
from storekeep.server.domain.events import reading
from storekeep.server.domain.events.reading import Event
from storekeep.server.domain.orders.fulfillments import Fulfillment
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.domain.stock.levels import StockLevel
from storekeep.server.domain.stock.locations import Location
from storekeep.server.domain.stock.reservations import Reservation
from storekeep.server.servicers.calls import build_list_request, build_page_fields
from storekeep.server.servicers.converters import build_timestamp, parse_id
from storekeep.server.servicers.customers import build_customer
from storekeep.server.servicers.inventory import build_location, build_reservation, build_stock_level
from storekeep.server.servicers.order_messages import build_fulfillment, build_note, build_order
from storekeep.server.servicers.products import build_category, build_product, build_variant
from storekeep.server.store.engine import Store
from storekeep.server.transport.rpc import CURRENT
from storekeep.v1 import events_pb2 as pb
from storekeep.v1 import events_pb2_grpc

CONTENTS: dict[str, tuple[type[msgspec.Struct], Callable[[Any], Message]]] = {
    "category": (Category, build_category),
    "customer": (Customer, build_customer),
    "fulfillment": (Fulfillment, build_fulfillment),
    "location": (Location, build_location),
    "order": (Order, partial(build_order, with_contact=True)),
    "order_note": (OrderNote, build_note),
    "product": (Product, build_product),
    "reservation": (Reservation, build_reservation),
    "stock_level": (StockLevel, build_stock_level),
    "variant": (Variant, build_variant),
}
"""The noun of an event type -> the resource that its entries store, and the function that builds its message. No
function needs a current RPC: webhooks are sent outside of one. Who gets events of orders may read their contacts."""


def build_event(event: Event, *, tokens: PageTokens) -> pb.Event:
    """Build the message of an event. Without a content that this release can read, it has no content and etag."""
    message = pb.Event(
        name=event.name,
        type=event.type,
        resource=event.resource,
        actor=event.actor,
        request_id=event.request_id,
        create_time=build_timestamp(event.create_time_us),
        cursor=reading.write_cursor(event.sequence, tokens=tokens),
    )
    kind, build = CONTENTS[event.noun]
    try:
        resource: Any = msgspec.json.decode(event.content, type=kind)
        content = AnyMessage()
        content.Pack(build(resource))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return message
    message.content.CopyFrom(content)
    version = getattr(resource, "version", None)
    message.resource_sequence = version or 1
    if version is not None:
        message.etag = make_etag(version)
    return message


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """The RPCs of EventService; the contract documents each one."""

    def __init__(self, store: Store, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    def GetEvent(self, request: pb.GetEventRequest, context: grpc.ServicerContext) -> pb.Event:
        permissions = CURRENT.get().caller.permissions
        event = reading.get_event(self._store, int(parse_id(request.name)), permissions=permissions)
        return build_event(event, tokens=self._page_tokens)

    def ListEvents(self, request: pb.ListEventsRequest, context: grpc.ServicerContext) -> pb.ListEventsResponse:
        tokens = self._page_tokens
        query = build_list_request(request, parent=request.cursor)
        permissions = CURRENT.get().caller.permissions
        page = reading.list_events(self._store, query, cursor=request.cursor, permissions=permissions, tokens=tokens)
        events = [build_event(event, tokens=tokens) for event in page.items]
        return pb.ListEventsResponse(events=events, **build_page_fields(page))
