"""The bodies of webhooks: the type and name of an event, and in full payloads the resource in the contract's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.server.domain.catalog.categories import Category
from storekeep.server.domain.catalog.products import Product
from storekeep.server.domain.catalog.variants import Variant
from storekeep.server.domain.customers import Customer
from storekeep.server.domain.orders.fulfillments import Fulfillment
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.stock.levels import StockLevel
from storekeep.server.domain.stock.locations import Location
from storekeep.server.domain.stock.reservations import Reservation
from storekeep.server.domain.webhooks.deliveries import Message
from storekeep.server.domain.webhooks.endpoints import FULL, WebhookEndpoint
from storekeep.server.servicers.customers import build_customer
from storekeep.server.servicers.inventory import build_location, build_reservation, build_stock_level
from storekeep.server.servicers.order_messages import build_fulfillment, build_note, build_order
from storekeep.server.servicers.products import build_category, build_product, build_variant
from storekeep.server.servicers.webhooks import build_endpoint

RESOURCES: dict[str, tuple[type[Any], Callable[[Any], Any]]] = {
    "category": (Category, build_category),
    "customer": (Customer, build_customer),
    "fulfillment": (Fulfillment, build_fulfillment),
    "location": (Location, build_location),
    "order": (Order, build_order),
    "order_note": (OrderNote, build_note),
    "product": (Product, build_product),
    "reservation": (Reservation, build_reservation),
    "stock_level": (StockLevel, build_stock_level),
    "variant": (Variant, build_variant),
    "webhook_endpoint": (WebhookEndpoint, build_endpoint),
}
"""The noun of an event type -> the resource in the ledger, and the function that builds its message."""


def render_message(message: Message) -> bytes:
    """Return the body of a webhook as JSON."""
    time = Timestamp()
    time.FromMicroseconds(message.time_us)
    data: dict[str, Any] = {"name": message.resource}
    if message.endpoint.payload == FULL and message.after is not None:
        resource, build = RESOURCES[message.event_type.partition(".")[0]]
        try:
            data["resource"] = MessageToDict(build(msgspec.json.decode(message.after, type=resource)))
        except msgspec.ValidationError:
            data["resource"] = None  # an entry of a release whose resources had other fields
    body = {"type": message.event_type, "timestamp": time.ToJsonString(), "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
