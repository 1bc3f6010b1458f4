"""Every mutation of the catalogue, inventory, customers and orders, each with a request that succeeds once.

What the contract promises of all mutations is tested over this table; a test holds it against the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from storekeep.server.transport.contract import SERVICES
from storekeep.v1 import inventory_pb2, options_pb2, orders_pb2
from tests.support import order_cases
from tests.support.resources import KINDS, Kind
from tests.support.shops import MAIN, Shop, new_id

ELSEWHERE = frozenset({"AuthService", "AuditService"})
"""Services whose mutations have tests of their own."""
DESCRIPTORS = {
    method.name: method for service in SERVICES if service.name not in ELSEWHERE for method in service.methods
}
"""The RPCs of all other services."""
BATCHES = frozenset({"ImportOrders"})
"""Mutations that change many resources, or none; their own tests hold them to what is promised of all."""
RPCS_THAT_CHANGE = frozenset(
    name
    for name, method in DESCRIPTORS.items()
    if method.GetOptions().Extensions[options_pb2.mutation] and name not in BATCHES
)
MANY = frozenset({"TransferStock", "ReconcileStock"})
"""Those that change any number of resources, and answer with more than one: they have tests of their own."""
STALE = "v999"
NAMED_BY_THE_SERVER = (orders_pb2.Order, orders_pb2.Fulfillment, orders_pb2.OrderNote, inventory_pb2.Reservation)
CREATES = frozenset(f"Create{kind.noun}" for kind in KINDS)
"""The mutations that make a resource of a name that the caller chooses."""


@dataclass(frozen=True)
class Change:
    """One mutation.

    Attributes:
        rpc: its bare name.
        prepare: makes what has to be there, and the request.
        event: the type of the event that it writes.
        also: those of the events of other resources, which come before it.
    """

    rpc: str
    prepare: Callable[[Shop], Any]
    event: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As tests are called."""
        return self.rpc

    def send(self, shop: Shop, request: Message, **options: Any) -> Any:
        """Send the request."""
        return shop.stub(self.rpc)(request, **options)

    @property
    def method(self) -> str:
        """The full name, as the audit log has it."""
        descriptor = DESCRIPTORS[self.rpc]
        return f"{descriptor.containing_service.full_name}/{descriptor.name}"


def _standard(kind: Kind) -> list[Change]:
    """The mutations of a resource with the standard methods."""
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


CHANGES = (
    *(change for kind in KINDS for change in _standard(kind)),
    Change("AdjustStock", _adjust, "stock_level.updated"),
    Change("SetStock", _set, "stock_level.updated"),
    Change("UpdateStockLevel", _update_level, "stock_level.updated"),
    Change("ReserveStock", _reserve, "reservation.created"),
    Change("ExtendReservation", _reserved(inventory_pb2.ExtendReservationRequest), "reservation.extended"),
    Change("ReleaseReservation", _reserved(inventory_pb2.ReleaseReservationRequest), "reservation.released"),
    Change("CommitReservation", _reserved(inventory_pb2.CommitReservationRequest), "reservation.committed"),
    Change("PlaceOrder", lambda shop: shop.order_request(), "order.placed"),
    Change("ConfirmOrder", lambda shop: orders_pb2.ConfirmOrderRequest(name=shop.order().name), "order.confirmed"),
    *(Change(rpc, prepare, event, also) for rpc, prepare, event, also in order_cases.CHANGES),
    Change("CancelOrder", lambda shop: orders_pb2.CancelOrderRequest(name=shop.order().name), "order.cancelled"),
)


def copy_of(request: Any, **fields: Any) -> Any:
    """The request with other values in some fields."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def etag_holder(request: Any) -> Any | None:
    """The message that takes the etag: the request itself, or the resource in it; None where a request takes none."""
    if "etag" in request.DESCRIPTOR.fields_by_name:
        return request
    for descriptor, value in request.ListFields():
        kind = descriptor.message_type
        if kind is not None and "etag" in kind.fields_by_name and "name" in kind.fields_by_name:
            return value
    return None


def with_etag(request: Any, etag: str) -> Any:
    """A copy of the request with an etag."""
    copy = copy_of(request)
    holder = etag_holder(copy)
    assert holder is not None
    holder.etag = etag
    return copy


def with_other_payload(request: Any) -> Any:
    """A copy of the request that asks for something else."""
    if etag_holder(request) is not None:
        return with_etag(request, STALE)
    free = next(name for name in ("note", "reference") if name in request.DESCRIPTOR.fields_by_name)
    return copy_of(request, **{free: "another"})


def comparable(reply: Any) -> Any:
    """A reply without what every call has of its own: times, and ids that the server chose."""
    copy = copy_of(reply)
    for name in ("create_time", "update_time", "delete_time", "expire_time", "ship_time", "deliver_time"):
        if name in copy.DESCRIPTOR.fields_by_name and copy.HasField(name):
            getattr(copy, name).Clear()
    if isinstance(copy, orders_pb2.Order):
        copy.number = ""
    if isinstance(copy, NAMED_BY_THE_SERVER):
        copy.name = ""
    return copy


def tells_version(reply: Any, version: int | None) -> bool:
    """Whether a reply has the etag of a version; what never changes has neither."""
    return getattr(reply, "etag", None) == (None if version is None else f"v{version}")
