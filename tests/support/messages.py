"""Random requests of any RPC, for tests that no request breaks the server."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

DEPTH_MAX = 3
LONG = "é" * 32_768
"""64 KiB."""
NAMES = (
    "",
    "products/-",
    "products/nowhere",
    "products/nowhere/variants/none",
    "categories/nowhere",
    "locations/main",
    "locations/main/stockLevels/NONE",
    "customers/nobody",
    "orders/none",
    "stockMovements/1",
    "reservations/none",
    "auditEntries/1",
    "serviceAccounts/nobody",
    "serviceAccounts/nobody/apiKeys/none",
    "roles/nothing",
    "../products",
    "EUR",
    "v1",
    "state = ACTIVE",
    "create_time desc",
    "7f0f5f0e-8f2b-4f6e-9a53-0d2c1f1f0a11",
    LONG,
)
TEXTS = st.sampled_from(NAMES) | st.text(max_size=30)
NUMBERS = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]) | st.integers(-(2**31), 2**31 - 1)
BIG_NUMBERS = st.sampled_from([0, 1, -1, 10**9, 10**12, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=30),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: NUMBERS,
    FieldDescriptor.TYPE_INT64: BIG_NUMBERS,
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-2, 9),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
}


@st.composite
def messages(draw: Any, descriptor: Descriptor, depth: int = 0) -> Message:
    """Draw a message of this type with some fields set."""
    message = GetMessageClass(descriptor)()
    for field in draw(st.lists(st.sampled_from(list(descriptor.fields)), unique_by=id)) if descriptor.fields else ():
        _fill(draw, message, field, depth)
    return message


def _fill(draw: Any, message: Message, field: FieldDescriptor, depth: int) -> None:
    nested = field.message_type
    if nested is not None and depth >= DEPTH_MAX:
        return
    if nested is not None and nested.GetOptions().map_entry:
        _fill_map(draw, getattr(message, field.name), nested.fields_by_name["value"].message_type, depth)
        return
    value = messages(nested, depth + 1) if nested is not None else VALUES[field.type]
    if field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(value, max_size=3)))
    elif nested is not None:
        getattr(message, field.name).CopyFrom(draw(value))
    else:
        setattr(message, field.name, draw(value))


def _fill_map(draw: Any, entries: Any, kind: Descriptor | None, depth: int) -> None:
    """Draw the entries of a map from text to text, or to messages of a kind."""
    if kind is None:
        entries.update(draw(st.dictionaries(TEXTS, TEXTS, max_size=3)))
        return
    for key, value in draw(st.dictionaries(TEXTS, messages(kind, depth + 1), max_size=3)).items():
        entries[key].CopyFrom(value)
