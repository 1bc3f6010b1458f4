"""Every mutation of catalogue, inventory, customers and orders, each with a request that succeeds once.

Tests use this table to check the contract's guarantees for all mutations; a test compares it with the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from storekeep.server.transport.contract import SERVICES
from storekeep.v1 import inventory_pb2, options_pb2, orders_pb2
from tests.support import order_cases
from tests.support.batches import BATCH_ITEMS
from tests.support.resources import KINDS, PRODUCT, Kind
from tests.support.shops import MAIN, Shop, new_id

ELSEWHERE = frozenset(
    {
        *("AuthService", "UserService", "AuditService", "EventService"),
        *("PricingService", "QuoteService", "WebhookService"),
    }
)
"""Services that have separate tests."""
DESCRIPTORS = {
    method.name: method for service in SERVICES if service.name not in ELSEWHERE for method in service.methods
}
"""The RPCs of all other services."""
BATCHES = frozenset({"ImportOrders", *BATCH_ITEMS})
"""Mutations that change many resources, or none; separate tests check their guarantees."""
RPCS_THAT_CHANGE = frozenset(
    name
    for name, method in DESCRIPTORS.items()
    if method.GetOptions().Extensions[options_pb2.mutation] and name not in BATCHES
)
MANY = frozenset({"TransferStock", "ReconcileStock", "ExportCustomerData", "EraseCustomer", "MergeCustomers"})
"""Mutations that do not change and return one resource; they have separate tests."""
STALE = "v999"
NAMED_BY_THE_SERVER = (orders_pb2.Order, orders_pb2.Fulfillment, orders_pb2.OrderNote, inventory_pb2.Reservation)
CREATES = frozenset(f"Create{kind.noun}" for kind in KINDS)
"""Mutations that create a resource with a name chosen by the caller."""


@dataclass(frozen=True)
class Change:
    """One mutation.

    Attributes:
        rpc: Name of the RPC.
        prepare: Creates the required resources and returns the request.
        event: Type of the event that it writes.
        also: Types of events of other resources that it writes before.
    """

    rpc: str
    prepare: Callable[[Shop], Any]
    event: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the name in test ids."""
        return self.rpc

    def send(self, shop: Shop, request: Message, **options: Any) -> Any:
        """Send the request."""
        return shop.stub(self.rpc)(request, **options)

    @property
    def method(self) -> str:
        """Return the full method name, as in the audit log."""
        descriptor = DESCRIPTORS[self.rpc]
        return f"{descriptor.containing_service.full_name}/{descriptor.name}"


def _standard(kind: Kind) -> list[Change]:
    """Return the mutations of a resource with the standard methods."""
    event = kind.noun.lower()

    def after(*verbs: str) -> Callable[[Shop], str]:
        def prepare(shop: Shop) -> str:
            name: str = kind.make(shop).name
            for verb in verbs:
                kind.do(shop, verb, name)
            return name

        return prepare

    def named(verb: str, *before: str) -> Change:
        prepare = after(*before)
        return Change(f"{verb}{kind.noun}", lambda shop: kind.by_name(verb, prepare(shop)), f"{event}.{verb.lower()}d")

    archiving = [named("Archive"), named("Unarchive", "Archive")] if kind.archives else []
    return [
        Change(f"Create{kind.noun}", lambda shop: kind.create_request(shop, new_id()), f"{event}.created"),
        Change(
            f"Update{kind.noun}",
            lambda shop: kind.update_request(kind.changed(kind.make(shop)), *kind.changes),
            f"{event}.updated",
        ),
        *archiving,
        named("Delete"),
        named("Undelete", "Delete"),
    ]


def _adjust(shop: Shop) -> inventory_pb2.AdjustStockRequest:
    sku = shop.variant(stock=5).sku
    return inventory_pb2.AdjustStockRequest(name=f"{MAIN}/stockLevels/{sku}", quantity_delta=3, reason="found")


def _set(shop: Shop) -> inventory_pb2.SetStockRequest:
    sku = shop.variant(stock=5).sku
    return inventory_pb2.SetStockRequest(name=f"{MAIN}/stockLevels/{sku}", quantity=9, reason="counted")


def _update_level(shop: Shop) -> inventory_pb2.UpdateStockLevelRequest:
    name = f"{MAIN}/stockLevels/{shop.variant(stock=5).sku}"
    return inventory_pb2.UpdateStockLevelRequest(stock_level=inventory_pb2.StockLevel(name=name, safety_threshold=2))


def _reserve(shop: Shop) -> inventory_pb2.ReserveStockRequest:
    line = inventory_pb2.ReserveStockLine(sku=shop.variant(stock=5).sku, quantity=2)
    return inventory_pb2.ReserveStockRequest(lines=[line])


def _reserved(request: Callable[..., Any]) -> Callable[[Shop], Any]:
    return lambda shop: request(name=shop.inventory.ReserveStock(_reserve(shop)).name)


def _update_reservation(shop: Shop) -> inventory_pb2.UpdateReservationRequest:
    reserved = shop.inventory.ReserveStock(_reserve(shop))
    line = inventory_pb2.ReservationLine(sku=reserved.lines[0].sku, quantity=3)
    return inventory_pb2.UpdateReservationRequest(
        reservation=inventory_pb2.Reservation(name=reserved.name, lines=[line])
    )


CHANGES = (
    *(change for kind in KINDS for change in _standard(kind)),
    Change("PublishProduct", lambda shop: PRODUCT.by_name("Publish", shop.draft().name), "product.published"),
    Change("AdjustStock", _adjust, "stock_level.updated"),
    Change("SetStock", _set, "stock_level.updated"),
    Change("UpdateStockLevel", _update_level, "stock_level.updated"),
    Change("ReserveStock", _reserve, "reservation.created"),
    Change("UpdateReservation", _update_reservation, "reservation.updated"),
    Change("ExtendReservation", _reserved(inventory_pb2.ExtendReservationRequest), "reservation.extended"),
    Change("ReleaseReservation", _reserved(inventory_pb2.ReleaseReservationRequest), "reservation.released"),
    Change("CommitReservation", _reserved(inventory_pb2.CommitReservationRequest), "reservation.committed"),
    Change("PlaceOrder", lambda shop: shop.order_request(), "order.placed"),
    Change("ConfirmOrder", lambda shop: orders_pb2.ConfirmOrderRequest(name=shop.order().name), "order.confirmed"),
    *(Change(rpc, prepare, event, also) for rpc, prepare, event, also in order_cases.CHANGES),
    Change("CancelOrder", lambda shop: orders_pb2.CancelOrderRequest(name=shop.order().name), "order.cancelled"),
)


def copy_message(request: Any, **fields: Any) -> Any:
    """Return a copy of a message with other values in some fields."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def etag_holder(request: Any) -> Any | None:
    """Return the message with the etag: the request or the resource in it; None if the request takes none."""
    if "etag" in request.DESCRIPTOR.fields_by_name:
        return request
    for descriptor, value in request.ListFields():
        kind = descriptor.message_type
        if kind is not None and "etag" in kind.fields_by_name and "name" in kind.fields_by_name:
            return value
    return None


def with_etag(request: Any, etag: str) -> Any:
    """Return a copy of a request with an etag."""
    copy = copy_message(request)
    holder = etag_holder(copy)
    assert holder is not None
    holder.etag = etag
    return copy


def with_other_payload(request: Any) -> Any:
    """Return a copy of a request with a different payload."""
    if etag_holder(request) is not None:
        return with_etag(request, STALE)
    free = next(name for name in ("note", "reference") if name in request.DESCRIPTOR.fields_by_name)
    return copy_message(request, **{free: "another"})


def normalize_reply(reply: Any) -> Any:
    """Return a reply without the parts that differ per call: times and ids chosen by the server."""
    copy = copy_message(reply)
    for name in (
        "create_time",
        "update_time",
        "delete_time",
        "expire_time",
        "ship_time",
        "deliver_time",
        "restock_time",
        "publish_time",
    ):
        if name in copy.DESCRIPTOR.fields_by_name and copy.HasField(name):
            getattr(copy, name).Clear()
    if isinstance(copy, orders_pb2.Order):
        copy.number = ""
    if isinstance(copy, NAMED_BY_THE_SERVER):
        copy.name = ""
    return copy


def has_version_etag(reply: Any, version: int | None) -> bool:
    """Return whether a reply has the etag of a version; immutable resources have neither."""
    return getattr(reply, "etag", None) == (None if version is None else f"v{version}")
