"""EventService: the committed changes of resources, in the order of their commits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import grpc
import msgspec
from google.protobuf.message import Message

from storekeep.server.domain.catalog.categories import Category
from storekeep.server.domain.catalog.products import Product
from storekeep.server.domain.catalog.variants import Variant
from storekeep.server.domain.customers import Customer
from storekeep.server.domain.events import reading, watching
from storekeep.server.domain.events.cursors import Position, read_cursor
from storekeep.server.domain.orders.fulfillments import Fulfillment
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.quotes import Quote
from storekeep.server.domain.pricing.coupons import Coupon
from storekeep.server.domain.pricing.prices import Price
from storekeep.server.domain.pricing.promotions import Promotion
from storekeep.server.domain.pricing.shipping_methods import ShippingMethod
from storekeep.server.domain.pricing.tax_rates import TaxRate
from storekeep.server.domain.pricing.tax_zones import TaxZone
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock.locations import Location
from storekeep.server.domain.stock.reservations import Reservation
from storekeep.server.domain.stock.stock_levels import StockLevel
from storekeep.server.servicers.calls import build_list_request, build_page_fields
from storekeep.server.servicers.converters import parse_id, parse_time_us
from storekeep.server.servicers.customer_messages import build_customer
from storekeep.server.servicers.event_bytes import EventEncoder
from storekeep.server.servicers.inventory import build_location, build_reservation, build_stock_level
from storekeep.server.servicers.order_messages import build_fulfillment, build_note, build_order
from storekeep.server.servicers.pricing_messages import (
    build_coupon,
    build_price,
    build_shipping_method,
    build_tax_rate,
    build_tax_zone,
)
from storekeep.server.servicers.products import build_category, build_product, build_variant
from storekeep.server.servicers.promotion_messages import build_promotion
from storekeep.server.servicers.quote_messages import build_quote
from storekeep.server.store.engine import Store
from storekeep.server.telemetry.personal_reads import PersonalReader
from storekeep.server.transport.budgets import get_peer_address
from storekeep.server.transport.event_feed import Events
from storekeep.server.transport.event_watchers import Access, Watcher
from storekeep.server.transport.rpc import CURRENT, require_position
from storekeep.v1 import events_pb2 as pb
from storekeep.v1 import events_pb2_grpc

CONTENTS: dict[str, tuple[type[msgspec.Struct], Callable[[Any], Message]]] = {
    "category": (Category, build_category),
    "coupon": (Coupon, build_coupon),
    "customer": (Customer, build_customer),
    "fulfillment": (Fulfillment, build_fulfillment),
    "location": (Location, build_location),
    "order": (Order, build_order),
    "order_note": (OrderNote, build_note),
    "price": (Price, build_price),
    "product": (Product, build_product),
    "promotion": (Promotion, build_promotion),
    "quote": (Quote, build_quote),
    "reservation": (Reservation, build_reservation),
    "shipping_method": (ShippingMethod, build_shipping_method),
    "stock": (StockLevel, build_stock_level),
    "stock_level": (StockLevel, build_stock_level),
    "tax_rate": (TaxRate, build_tax_rate),
    "tax_zone": (TaxZone, build_tax_zone),
    "variant": (Variant, build_variant),
}
"""The noun of an event type -> the resource that its entries store, and the function that builds its message. No
function needs a current RPC: webhooks are sent outside of one. Who gets events of orders may read their contacts."""


def make_event_encoder(tokens: PageTokens) -> EventEncoder:
    """Return the encoder of all events."""
    return EventEncoder(CONTENTS, tokens=tokens)


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """The RPCs of EventService; the contract documents each one."""

    def __init__(self, store: Store, page_tokens: PageTokens, events: Events, *, encoder: EventEncoder) -> None:
        self._store = store
        self._page_tokens = page_tokens
        self._encoder = encoder
        self._feed, self._retention, self._heartbeat_s = events

    def GetEvent(self, request: pb.GetEventRequest, context: grpc.ServicerContext) -> pb.Event:
        permissions, sequence = CURRENT.get().caller.permissions, int(parse_id(request.name))
        self._retention.check_age(sequence - 1)
        event = reading.get_event(self._store, sequence, permissions=permissions)
        return pb.Event.FromString(self._encoder.encode([event])[0])

    def ListEvents(self, request: pb.ListEventsRequest, context: grpc.ServicerContext) -> pb.ListEventsResponse:
        tokens = self._page_tokens
        query = build_list_request(request, parent=request.cursor)
        permissions, after = CURRENT.get().caller.permissions, self._read_cursor(request.cursor)
        page = reading.list_events(
            self._store,
            query,
            after=after,
            permissions=permissions,
            tokens=tokens,
            retention=self._retention,
        )
        events = [pb.Event.FromString(encoded) for encoded in self._encoder.encode(page.items)]
        return pb.ListEventsResponse(events=events, **build_page_fields(page))

    def _read_cursor(self, cursor: str) -> Position | None:
        """Return the position of the cursor of a request, and let only replicas that have reached it answer."""
        if not cursor:
            return None
        position = read_cursor(cursor, tokens=self._page_tokens)
        require_position(position.sequence)
        return position

    def WatchEvents(  # type: ignore[override]  # the transport sends the events of the watcher
        self, request: pb.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Watcher:
        """Return the watcher, which sends the events from then on."""
        rpc, heartbeat_s = CURRENT.get(), self._heartbeat_s
        if request.HasField("heartbeat_interval"):
            heartbeat_s = request.heartbeat_interval.seconds + request.heartbeat_interval.nanos / 1e9
        selected = watching.make_filter(
            rpc.caller.permissions,
            types=request.event_types,
            resources=request.resources,
            omit_content=request.omit_content,
        )
        start_time_us = parse_time_us(request.start_time) if request.HasField("start_time") else None
        cursor = self._read_cursor(request.cursor)
        position = watching.find_start(
            self._store, cursor=cursor, start_time_us=start_time_us, retention=self._retention
        )
        caller = rpc.caller
        access = Access(
            authorization=None if rpc.authorization is None else sys.intern(rpc.authorization),  # many share a token
            peer=sys.intern(rpc.peer),
            address=get_peer_address(rpc.peer),
            key=caller.api_key or caller.subject,
            request_id=rpc.request_id,
            expire_us=caller.expire_us,
            reader=PersonalReader(caller.subject, caller.api_key, caller.session_id, rpc.method),
        )
        return self._feed.open(access, selected=selected, position=position, heartbeat_s=heartbeat_s)
