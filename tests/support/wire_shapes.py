"""Requests that cost more than they should, for every RPC of the contract: bytes that nobody would send.

Each is as large as a request may be, and of one shape: empty elements, one huge text, deep nesting, repetition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor

from storekeep.server.transport.rpc import Method

SIZE_BYTES = 1024 * 1024
"""The largest request that a server takes with its default settings."""
UNKNOWN = 2_000
"""The number of a field that no message has."""
GROUPS = 50_000
VARINT, LENGTH, GROUP_START, GROUP_END = 0, 2, 3, 4
LONGEST_TEXTS = ("(", "NOT ", "-", 'a = "b" AND ', "a, ", "\u00e9", "\0")
"""Of which texts are made that are as long as the contract allows."""


class Shape(NamedTuple):
    """One request, and what is odd about it."""

    name: str
    raw: bytes


def varint(number: int) -> bytes:
    """A number as protobuf has it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*parts, number))


def tag(number: int, kind: int) -> bytes:
    """What stands before a field."""
    return varint(number << 3 | kind)


def wrapped(path: Sequence[FieldDescriptor], payload: bytes) -> bytes:
    """A payload within the messages that a path leads through, each there once."""
    for field in reversed(path):
        payload = tag(field.number, LENGTH) + varint(len(payload)) + payload
    return payload


def fields_of(descriptor: Any, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The paths of all fields of a message, of those in it too."""
    for field in descriptor.fields:
        yield (*path, field)
        if field.message_type is not None:
            yield from fields_of(field.message_type, (*path, field))


def filled(part: bytes, path: Sequence[FieldDescriptor] = ()) -> bytes:
    """A part as often as there is room for."""
    return wrapped(path, part * ((SIZE_BYTES - 64) // len(part)))


def shapes_of(method: Method) -> Iterator[Shape]:
    """All shapes of one method's request."""
    yield Shape("unknown empty fields", filled(tag(UNKNOWN, LENGTH) + b"\0"))
    yield Shape("unknown numbers", filled(tag(UNKNOWN, VARINT) + b"\0"))
    yield Shape("unknown text", tag(UNKNOWN, LENGTH) + varint(SIZE_BYTES - 64) + bytes(SIZE_BYTES - 64))
    yield Shape("nested groups", tag(UNKNOWN, GROUP_START) * GROUPS + tag(UNKNOWN, GROUP_END) * GROUPS)
    yield Shape("groups in a row", filled(tag(UNKNOWN, GROUP_START) + tag(UNKNOWN, GROUP_END)))
    for path in fields_of(method.request_type.DESCRIPTOR):
        name = ".".join(field.name for field in path)
        yield from _of_field(name, path)


def _of_field(name: str, path: tuple[FieldDescriptor, ...]) -> Iterator[Shape]:
    *outer, field = path
    if field.type == FieldDescriptor.TYPE_STRING:
        huge = b"a" * (SIZE_BYTES - 64)
        yield Shape(f"huge {name}", wrapped(path, huge))
        longest = longest_of(field)
        for text in LONGEST_TEXTS if longest else ():
            yield Shape(f"longest {name} of {text}", wrapped(path, (text * longest)[:longest].encode()))
    if field.is_repeated and field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
        yield Shape(f"packed {name}", wrapped(path, bytes(SIZE_BYTES - 64)))
    if field.type == FieldDescriptor.TYPE_MESSAGE or field.is_repeated:
        yield Shape(f"empty {name}", filled(tag(field.number, LENGTH) + b"\0", outer))
        few = items_max(field) * (tag(field.number, LENGTH) + b"\0")
        yield Shape(f"allowed empty {name}", wrapped(outer, few))
        if outer and outer[-1].is_repeated:
            yield Shape(
                f"everywhere empty {name}", wrapped(outer[:-1], items_max(outer[-1]) * wrapped(outer[-1:], few))
            )


def longest_of(field: FieldDescriptor) -> int:
    """How many characters the contract allows; 0 where it does not count them."""
    return int(field.GetOptions().Extensions[validate_pb2.field].string.max_len)


def items_max(field: FieldDescriptor) -> int:
    """How many elements the contract allows, or a hundred."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return int(rules.map.max_pairs or rules.repeated.max_items or 100)
