"""Personal data: finds the fields with the contract's option `personal`, and masks their values in messages.

Invariant: a masked message has the same fields as before. A record, such as the resource in an audit entry, is masked
by the rules of the resource that it is a copy of. Other resources than RESOURCES have no personal data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from google.api import resource_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value

from storekeep.v1 import audit_pb2, customers_pb2, inventory_pb2, options_pb2, orders_pb2, quotes_pb2, users_pb2

MASK = "***"
"""What callers without the permission get instead of a value."""
RESOURCES = (
    customers_pb2.Customer,
    orders_pb2.Order,
    orders_pb2.OrderNote,
    orders_pb2.Fulfillment,
    quotes_pb2.Quote,
    inventory_pb2.Reservation,
    users_pb2.User,
)
"""The resources with personal data."""
NAME_TAG = b"\n"
"""The first byte of a resource: the tag of its name, the field with the number 1. The length of the name follows."""
STORED_ONLY = frozenset({"change_reason"})
"""Personal fields that only stored copies of resources have."""
VERSIONS = frozenset({"etag", "update_time"})
"""Fields that stay as they are if a change changes nothing."""
PACKAGE = "storekeep.v1"
NOT_PERSONAL = frozenset({options_pb2.PERSONAL_CATEGORY_UNSPECIFIED, options_pb2.PERSONAL_CATEGORY_NONE})
STORED_PARTS: dict[str, Descriptor] = {
    "pricing": orders_pb2.PriceDetails.DESCRIPTOR,
    "customer": orders_pb2.PriceDetails.DESCRIPTOR,
    "exemption": orders_pb2.OrderTaxExemption.DESCRIPTOR,
    "requested_exemption": orders_pb2.OrderTaxExemption.DESCRIPTOR,
}
"""Parts of stored copies that the contract has under other names -> the messages whose rules hold for them."""
Masker = Callable[[Any], None]


def is_personal(field: FieldDescriptor) -> bool:
    """Return whether a field itself holds personal data."""
    return _get_category(field) not in NOT_PERSONAL


@cache
def has_personal_data(descriptor: Descriptor) -> bool:
    """Return whether messages of a type can hold personal data."""
    return any(_holds_personal_data(field) for field in descriptor.fields)


def _get_category(field: FieldDescriptor) -> int:
    category: int = field.GetOptions().Extensions[options_pb2.personal].category
    return category


def _get_parts(field: FieldDescriptor) -> Descriptor | None:
    """Return the type of the messages with personal data in a field; None if it has none."""
    kind = field.message_type
    if kind is None or kind.file.package != PACKAGE or _get_category(field) == options_pb2.PERSONAL_CATEGORY_NONE:
        return None
    return kind if has_personal_data(kind) else None


@cache
def list_personal_paths(descriptor: Descriptor) -> frozenset[str]:
    """Return the paths of the personal fields of a message, such as `addresses.address.recipient`."""
    return frozenset(path for path, _ in walk_personal_fields(descriptor))


def walk_personal_fields(descriptor: Descriptor) -> Iterator[tuple[str, FieldDescriptor]]:
    """Yield the path and the descriptor of each personal field of a message, in the order of the contract."""
    for field in descriptor.fields:
        if is_personal(field):
            yield field.name, field
        elif (parts := _get_parts(field)) is not None:
            for path, inner in walk_personal_fields(parts):
                yield f"{field.name}.{path}", inner


def mask_message(message: Message) -> None:
    """Replace the personal data in a message by `MASK`."""
    if has_personal_data(message.DESCRIPTOR):
        _mask_fields(message)


def _mask_fields(message: Any) -> None:
    mask_records = RECORDS.get(message.DESCRIPTOR.full_name)
    if mask_records is not None:
        mask_records(message)
    for field, value in message.ListFields():
        if is_personal(field):
            if _get_category(field) != options_pb2.PERSONAL_CATEGORY_RECORD:
                _mask_field(message, field, value)
        elif _get_parts(field) is not None:
            for part in value if field.is_repeated else (value,):
                _mask_fields(part)


def _mask_field(message: Any, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        value[:] = [MASK] * len(value)
    else:
        setattr(message, field.name, MASK)


def count_personal(reply: Message, *, recorded: frozenset[str] = frozenset()) -> int:
    """Return how many resources, records and results with personal data a reply has.

    Args:
        recorded: the names of resources that do not count.
    """
    if _is_resource(reply.DESCRIPTOR):
        return _count_messages((reply,), recorded)
    parts = [(field, value) for field, value in reply.ListFields() if _get_parts(field) is not None]
    return sum(_count_messages(value if field.is_repeated else (value,), recorded) for field, value in parts)


def is_recorded(reply: Any, recorded: frozenset[str]) -> bool:
    """Return whether a reply is the bytes of a resource with one of the names: 0.3 µs, where parsing an order takes 8.

    False if that cannot be seen without parsing it.
    """
    if not isinstance(reply, bytes) or not reply.startswith(NAME_TAG):
        return False
    return reply[2 : 2 + reply[1]].decode(errors="replace") in recorded


@cache
def _is_resource(descriptor: Any) -> bool:
    """Return whether messages of a type are resources, and not requests, replies or parts."""
    return bool(descriptor.GetOptions().HasExtension(resource_pb2.resource))


def _count_messages(messages: Sequence[Any], recorded: frozenset[str]) -> int:
    """Return how many messages of one type have personal data. Resources of RESOURCES always count as if they had."""
    if not recorded and isinstance(messages[0], RESOURCES):
        return len(messages)
    return sum(_has_value(message) and _find_name(message) not in recorded for message in messages)


def _has_value(message: Any) -> bool:
    """Return whether a message has personal data."""
    if isinstance(message, RESOURCES):
        return True
    kind = RECORD_KINDS.get(message.DESCRIPTOR.full_name)
    if kind is not None:
        return kind(message) is not None
    for field, value in message.ListFields():
        if is_personal(field):
            return True
        if _get_parts(field) is not None and any(map(_has_value, value if field.is_repeated else (value,))):
            return True
    return False


def _find_name(message: Any) -> str:
    """Return the name of a resource, or of the resource in the result of a batch; empty without one."""
    if "name" in message.DESCRIPTOR.fields_by_name:
        return str(message.name)
    resources = (value for field, value in message.ListFields() if field.message_type and not field.is_repeated)
    return next(map(_find_name, resources), "")


def _holds_personal_data(field: FieldDescriptor) -> bool:
    return is_personal(field) or _get_parts(field) is not None


def clear_versions(message: Message) -> None:
    """Clear the fields of resources with personal data that tell whether a change would change anything."""
    for field, value in message.ListFields():
        if field.name in VERSIONS:
            message.ClearField(field.name)
        elif _get_parts(field) is not None:
            for part in value if field.is_repeated else (value,):
                clear_versions(part)


def find_masked_path(message: Message) -> str:
    """Return the path of the first personal field of a request that is the mask; empty if there is none."""
    if not has_personal_data(message.DESCRIPTOR):
        return ""
    for field, value in message.ListFields():
        if is_personal(field):
            if MASK in (value if field.is_repeated else (value,)):
                return field.name
        elif _get_parts(field) is not None:
            for part in value if field.is_repeated else (value,):
                path = find_masked_path(part)
                if path:
                    return f"{field.name}.{path}"
    return ""


# -- records


def _mask_audit_entry(entry: audit_pb2.AuditEntry) -> None:
    resource = _find_entry_kind(entry)
    if resource is not None:
        for name in ("before", "after"):
            if entry.HasField(name):
                _mask_struct(getattr(entry, name), resource)


def _find_entry_kind(entry: audit_pb2.AuditEntry) -> Descriptor | None:
    """Return the type of the changed resource if it has personal data; None for other resources."""
    return next((kind for pattern, kind in _compile_patterns() if pattern.fullmatch(entry.resource)), None)


def _find_event_kind(event: Any) -> Descriptor | None:
    """Return the type of the content of an event if it has personal data; None for other contents."""
    return next((kind.DESCRIPTOR for kind in RESOURCES if event.content.Is(kind.DESCRIPTOR)), None)


@cache
def _compile_patterns() -> tuple[tuple[re.Pattern[str], Descriptor], ...]:
    options = [(kind.DESCRIPTOR, kind.DESCRIPTOR.GetOptions().Extensions[resource_pb2.resource]) for kind in RESOURCES]
    return tuple((re.compile(re.sub(r"\{\w+\}", "[^/]+", option.pattern[0])), kind) for kind, option in options)


def _mask_struct(struct: Struct, descriptor: Descriptor) -> None:
    """Mask the stored copy of a resource. Its fields have the names of the contract."""
    for name, value in struct.fields.items():
        field = descriptor.fields_by_name.get(name)
        kind = value.WhichOneof("kind")
        if kind == "struct_value" and name in STORED_PARTS:
            _mask_struct(value.struct_value, STORED_PARTS[name])
        elif name in STORED_ONLY or (field is not None and is_personal(field)):
            _mask_value(value)
        elif field is not None and (parts := _get_parts(field)) is not None:
            for part in value.list_value.values if kind == "list_value" else (value,):
                if part.WhichOneof("kind") == "struct_value":
                    _mask_struct(part.struct_value, parts)


def _mask_value(value: Value) -> None:
    """Mask all texts in a value that are not empty."""
    kind = value.WhichOneof("kind")
    if kind == "string_value" and value.string_value:
        value.string_value = MASK
    elif kind == "list_value":
        for item in value.list_value.values:
            _mask_value(item)


def _mask_content(event: Any) -> None:
    """Mask the resource in an event."""
    kind = _find_event_kind(event)
    if kind is not None:
        content: AnyMessage = event.content
        resource = GetMessageClass(kind)()
        content.Unpack(resource)
        mask_message(resource)
        content.Pack(resource)


def _mask_change(change: orders_pb2.OrderFieldChange) -> None:
    if change.field in list_personal_paths(orders_pb2.Order.DESCRIPTOR):
        for name in ("old_value", "new_value"):
            if getattr(change, name):
                setattr(change, name, MASK)


RECORDS: dict[str, Masker] = {
    "storekeep.v1.AuditEntry": _mask_audit_entry,
    "storekeep.v1.Event": _mask_content,
    "storekeep.v1.OrderFieldChange": _mask_change,
}
"""The messages with fields of the category RECORD, and the functions that mask these fields."""
RECORD_KINDS: dict[str, Callable[[Any], Descriptor | None]] = {
    "storekeep.v1.AuditEntry": _find_entry_kind,
    "storekeep.v1.Event": _find_event_kind,
}
"""The records of resources, and the functions that return the type of a resource with personal data in them."""
