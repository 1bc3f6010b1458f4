"""Expensive requests for every RPC of the contract, which no regular client would send.

Each has the maximum size and one shape: empty elements, one huge text, deep nesting, repetition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor

from storekeep.server.transport.rpc import Method

SIZE_BYTES = 1024 * 1024
"""The largest request that a server accepts by default."""
UNKNOWN = 2_000
"""A field number that no message has."""
GROUPS = 50_000
VARINT, LENGTH, GROUP_START, GROUP_END = 0, 2, 3, 4
PADDED_BYTES = (2, 5, 10)
"""Sizes of padded tags and lengths: protobuf reads up to 5 bytes."""
LONGEST_TEXTS = ("(", "NOT ", "-", 'a = "b" AND ', "a, ", "\u00e9", "\0")
"""Texts that are repeated up to the maximum length of the contract."""


class Shape(NamedTuple):
    """A request and the name of its shape."""

    name: str
    raw: bytes


def varint(number: int) -> bytes:
    """Encode a varint."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*parts, number))


def tag(number: int, kind: int) -> bytes:
    """Encode the tag of a field."""
    return varint(number << 3 | kind)


def pad(encoded: bytes, size_bytes: int) -> bytes:
    """Pad a varint with zeros, which change nothing, to a size."""
    zeros = size_bytes - len(encoded)
    return bytes((*encoded[:-1], encoded[-1] | 0x80, *[0x80] * (zeros - 1), 0)) if zeros > 0 else encoded


def wrap_message(path: Sequence[FieldDescriptor], payload: bytes) -> bytes:
    """Wrap a payload in the messages along a path, each present once."""
    for field in reversed(path):
        payload = tag(field.number, LENGTH) + varint(len(payload)) + payload
    return payload


def iterate_field_paths(
    descriptor: Any, path: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield the paths of all fields of a message, including nested ones."""
    for field in descriptor.fields:
        yield (*path, field)
        if field.message_type is not None:
            yield from iterate_field_paths(field.message_type, (*path, field))


def fill_message(part: bytes, path: Sequence[FieldDescriptor] = ()) -> bytes:
    """Repeat a part up to the maximum size."""
    return wrap_message(path, part * ((SIZE_BYTES - 64) // len(part)))


def build_shapes(method: Method) -> Iterator[Shape]:
    """Yield all shapes of one method's request."""
    yield Shape("unknown empty fields", fill_message(tag(UNKNOWN, LENGTH) + b"\0"))
    yield Shape("unknown numbers", fill_message(tag(UNKNOWN, VARINT) + b"\0"))
    for size_bytes in PADDED_BYTES:
        padded = pad(tag(UNKNOWN, LENGTH), size_bytes) + pad(b"\0", size_bytes)
        yield Shape(f"unknown fields padded to {size_bytes}", fill_message(padded))
    yield Shape("unknown text", tag(UNKNOWN, LENGTH) + varint(SIZE_BYTES - 64) + bytes(SIZE_BYTES - 64))
    yield Shape("nested groups", tag(UNKNOWN, GROUP_START) * GROUPS + tag(UNKNOWN, GROUP_END) * GROUPS)
    yield Shape("groups in a row", fill_message(tag(UNKNOWN, GROUP_START) + tag(UNKNOWN, GROUP_END)))
    for path in iterate_field_paths(method.request_type.DESCRIPTOR):
        name = ".".join(field.name for field in path)
        yield from _of_field(name, path)


def _of_field(name: str, path: tuple[FieldDescriptor, ...]) -> Iterator[Shape]:
    *outer, field = path
    if field.type == FieldDescriptor.TYPE_STRING:
        huge = b"a" * (SIZE_BYTES - 64)
        yield Shape(f"huge {name}", wrap_message(path, huge))
        longest = get_text_max(field)
        for text in LONGEST_TEXTS if longest else ():
            yield Shape(f"longest {name} of {text}", wrap_message(path, (text * longest)[:longest].encode()))
    if field.is_repeated and field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
        yield Shape(f"packed {name}", wrap_message(path, bytes(SIZE_BYTES - 64)))
    if field.type == FieldDescriptor.TYPE_MESSAGE or field.is_repeated:
        yield Shape(f"empty {name}", fill_message(tag(field.number, LENGTH) + b"\0", outer))
        padded = pad(tag(field.number, LENGTH), PADDED_BYTES[1]) + pad(b"\0", PADDED_BYTES[1])
        yield Shape(f"padded empty {name}", fill_message(padded, outer))
        few = items_max(field) * (tag(field.number, LENGTH) + b"\0")
        yield Shape(f"allowed empty {name}", wrap_message(outer, few))
        if outer and outer[-1].is_repeated:
            yield Shape(
                f"everywhere empty {name}",
                wrap_message(outer[:-1], items_max(outer[-1]) * wrap_message(outer[-1:], few)),
            )


def get_text_max(field: FieldDescriptor) -> int:
    """Return the maximum number of characters in the contract; 0 if it sets none."""
    return int(field.GetOptions().Extensions[validate_pb2.field].string.max_len)


def items_max(field: FieldDescriptor) -> int:
    """Return the maximum number of elements in the contract, or a hundred."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return int(rules.map.max_pairs or rules.repeated.max_items or 100)
