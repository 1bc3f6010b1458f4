"""Every RPC whose reply can have personal data counts it; the contract decides which ones these are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from storekeep.server.domain.calls import READ_PERSONAL_DATA, Caller
from storekeep.server.interceptors.personal_data import mask_personal_data
from storekeep.server.telemetry.personal_reads import PersonalReads
from storekeep.server.transport.contract import read_contract
from storekeep.server.transport.personal_data import count_personal
from storekeep.server.transport.rpc import Method, Rpc
from storekeep.v1 import audit_pb2, customers_pb2, events_pb2, options_pb2, orders_pb2, products_pb2

CALLER = Caller("serviceAccounts/a", permissions=frozenset({READ_PERSONAL_DATA}))
OPEN_TYPES = ("google.protobuf.Any", "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")
"""Messages that can hold any other."""
NOT_COUNTED = {
    "EventService/WatchEvents": "a stream, whose events are counted as they are sent",
}
"""RPCs whose replies may have personal data and are not counted -> the reason."""
ERROR_DETAILS = "google.rpc.Status.details"
"""The open field of the results of batches: an error names fields, and values only for people who sent them."""
DEPTH_MAX = 6
"""Messages within messages that a filled reply has."""
METHODS = {path.removeprefix("/storekeep.v1."): method for path, method in read_contract().methods.items()}


def is_personal(field: FieldDescriptor) -> bool:
    return get_category(field) not in (options_pb2.PERSONAL_CATEGORY_UNSPECIFIED, options_pb2.PERSONAL_CATEGORY_NONE)


def get_category(field: FieldDescriptor) -> int:
    return int(field.GetOptions().Extensions[options_pb2.personal].category)


def list_fields(descriptor: Descriptor, seen: frozenset[str] = frozenset()) -> Iterator[FieldDescriptor]:
    """Yield the fields of a message and of all messages in it, without those that the contract says have none."""
    for field in descriptor.fields:
        if get_category(field) == options_pb2.PERSONAL_CATEGORY_NONE:
            continue
        yield field
        kind = field.message_type
        if kind is not None and kind.full_name not in seen | set(OPEN_TYPES):
            yield from list_fields(kind, seen | {kind.full_name})


def may_have_personal_data(method: Method) -> bool:
    assert method.response_type is not None
    return any(
        is_personal(field)
        or (field.message_type and field.message_type.full_name in OPEN_TYPES and field.full_name != ERROR_DETAILS)
        for field in list_fields(method.response_type.DESCRIPTOR)
    )


def fill(message: Any, depth: int = 0) -> None:
    """Set all texts and all parts of a message; records are those of a customer."""
    if isinstance(message, events_pb2.Event):
        message.content.Pack(customers_pb2.Customer(email="a@b.example"))
        return
    if isinstance(message, audit_pb2.AuditEntry):
        message.resource = "customers/ann"
        return
    for field in message.DESCRIPTOR.fields:
        kind, value = field.message_type, getattr(message, field.name)
        if kind is None and field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                value.append("x")
            else:
                setattr(message, field.name, "x")
        elif (
            kind is not None
            and not kind.GetOptions().map_entry
            and kind.file.package == "storekeep.v1"
            and depth < DEPTH_MAX
        ):
            fill(value.add() if field.is_repeated else value, depth + 1)


def count(method: Method, reply: Message | bytes, **fields: object) -> int:
    """Return how many resources the layer counts of a reply."""
    reads = PersonalReads(resources_min=1)
    rpc = Rpc(method.name, "r", caller=CALLER, **fields)  # type: ignore[arg-type]
    context: Any = grpc.ServicerContext
    mask_personal_data(reads)(method, lambda *_: reply)(method.request_type(), context, rpc)
    return sum(read.resources for read in reads.take())


def test_every_reply_that_may_have_personal_data_is_counted() -> None:
    not_counted = set()
    for name, method in METHODS.items():
        if method.response_type is not None and may_have_personal_data(method):
            reply = method.response_type()
            fill(reply)
            if method.is_stream or not count(method, reply):
                not_counted.add(name)
    assert not_counted == NOT_COUNTED.keys()


@pytest.mark.parametrize("name", ["CustomerService/UpdateCustomer", "CustomerService/BatchUpdateCustomers"])
def test_changed_resource_does_not_count_and_others_do(name: str) -> None:
    method = METHODS[name]
    assert method.response_type is not None
    reply = method.response_type()
    fill(reply)
    for sent in (reply, reply.SerializeToString()):  # a servicer may return either
        assert count(method, sent) == 1
        assert count(method, sent, recorded=frozenset({"x"})) == 0
        assert count(method, sent, recorded=frozenset({"customers/other"})) == 1


@pytest.mark.parametrize(
    ("reply", "resources"),
    [
        (orders_pb2.QuoteOrderResponse(price_details={"prices_include_tax": True}), 0),
        (orders_pb2.QuoteOrderResponse(price_details={"tax_exemption": {"reason": "diplomat"}}), 1),
        (audit_pb2.AuditEntry(resource="products/tea"), 0),
        (audit_pb2.ListAuditEntriesResponse(audit_entries=[{"resource": "products/a"}, {"resource": "orders/a"}]), 1),
        (products_pb2.Product(name="products/tea"), 0),
        (customers_pb2.Customer(name="customers/ann"), 1),
    ],
)
def test_reply_counts_what_has_personal_data(reply: Message, resources: int) -> None:
    assert count_personal(reply) == resources
