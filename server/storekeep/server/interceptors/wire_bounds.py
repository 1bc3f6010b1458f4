"""Wire bounds: limits the number of elements and fields in a request's bytes, before it is parsed.

The cost of a message depends on its elements. An empty element takes two bytes, so half a million fit into a request
of valid size. The bounds come from the contract (`max_items`, `max_pairs`), so every new field has one. Invariant:
the time to parse and validate an accepted request is bounded.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple, NoReturn

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from storekeep.server.interceptors.rule_texts import describe_items_max
from storekeep.server.transport.errors import InvalidFields, MalformedMessage

SCAN_FROM_BYTES = 1_024
"""Smaller requests are not scanned: their at most 512 elements cost less than 5 ms, even if all are invalid."""
FIELDS_MAX = 20_000
"""Maximum number of fields in a request, including nested and unknown ones. The largest valid requests are imports:
1,000 lines of 16 fields, and 100 orders of up to 35."""
BATCH_FIELDS_MAX = 30_000
"""The same for a batch of changes: 1,000 items of 30 fields."""
ITEMS_MAX = 100
"""Maximum number of elements of a repeated field without a bound in the contract, such as the paths of a mask."""
GROUPS_MAX = 100
"""Maximum nesting of unknown groups; the limit of protobuf itself."""
VARINT_BYTES_MAX = 10
TAG_BYTES_MAX = 5
"""Maximum bytes of a tag or a length; the limit of protobuf itself. Two are enough for each tag of the contract: each
byte after them, and each byte of padding, counts as a field, because it takes as long to read."""
VARINT, FIXED64, LENGTH, GROUP_START, GROUP_END, FIXED32 = range(6)
CONTINUATION_BIT = 0x80
"""The bit of a varint's byte that is set if another byte follows."""
CONTINUATION_BYTES = bytes(range(CONTINUATION_BIT, 256))
FIXED_BYTES = {
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
}
UNPACKED = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE})


class _Field(NamedTuple):
    """The properties of a field that the scan needs.

    Attributes:
        name: Name of the field.
        items_max: Maximum number of elements; 0 if the field is not repeated.
        fields: Fields of its message type, by number; None if it is not a message.
        packed: Whether elements may be packed into one occurrence.
        element_bytes: Length of a packed element in bytes; 0 for varints.
    """

    name: str
    items_max: int
    fields: _Fields | None
    packed: bool
    element_bytes: int


_Fields = dict[int, _Field]
_Counts = dict[int, "int | _Counts"]


class _Frame(NamedTuple):
    """A message around the scanned one; `field` is the field that contains the scanned one, None for a group."""

    end: int
    fields: _Fields | None
    counts: _Counts
    field: _Field | None


class WireBounds:
    """The bounds of one request type.

    Args:
        descriptor: Descriptor of the request type.
    """

    def __init__(self, descriptor: Any) -> None:
        self._fields = _build_field_table(descriptor)
        self._fields_max = BATCH_FIELDS_MAX if "requests" in descriptor.fields_by_name else FIELDS_MAX

    def check(self, raw: bytes) -> None:
        """Raise if a request exceeds a bound; stop at the first one.

        Raises: InvalidFields, MalformedMessage.
        """
        if len(raw) < SCAN_FROM_BYTES:
            return
        try:
            _scan(raw, self._fields, self._fields_max)
        except IndexError:
            raise MalformedMessage from None


_tables: dict[Descriptor, _Fields] = {}
"""Message type -> table of its fields: requests have many messages in common."""
_tables_lock = threading.Lock()


def _build_field_table(descriptor: Descriptor) -> _Fields:
    """Return the table of a message's fields; a recursive message refers to its own table."""
    with _tables_lock:
        return _build_inner_table(descriptor)


def _build_inner_table(descriptor: Descriptor) -> _Fields:
    if descriptor in _tables:
        return _tables[descriptor]
    table = _tables[descriptor] = {}
    for field in descriptor.fields:
        inner = None if field.message_type is None else _build_inner_table(field.message_type)
        packed = field.is_repeated and field.type not in UNPACKED
        table[field.number] = _Field(field.name, _read_items_max(field), inner, packed, FIXED_BYTES.get(field.type, 0))
    return table


def _read_items_max(field: FieldDescriptor) -> int:
    if not field.is_repeated:
        return 0
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return rules.map.max_pairs or rules.repeated.max_items or ITEMS_MAX


def _scan(raw: bytes, fields: _Fields | None, fields_max: int) -> None:  # noqa: C901 - one loop: a call for each field doubles its cost
    """Scan the bytes of a request.

    Raises: InvalidFields, MalformedMessage, IndexError if the bytes end too soon.
    """
    position, end, field_count = 0, len(raw), 0
    counts: _Counts = {}
    frames: list[_Frame] = []
    while True:
        if position >= end:
            if position > end or (frames and frames[-1].field is None):
                raise MalformedMessage
            if not frames:
                return
            end, fields, counts, _ = frames.pop()
            continue
        tag = raw[position]
        position += 1
        if tag >= CONTINUATION_BIT:
            tag, position, excess = _read_tag(raw, position - 1)
            field_count += excess
        field_count += 1
        if field_count > fields_max:
            raise InvalidFields([(_build_path(frames), f"the request has more than {fields_max} fields")])
        number, kind = tag >> 3, tag & 7
        start = position
        if kind == LENGTH:
            length = raw[position]
            position += 1
            if length >= CONTINUATION_BIT:
                length, position, excess = _read_tag(raw, position - 1)
                field_count += excess
            start = position
            position += length
            if position > end:
                raise MalformedMessage
        elif kind == VARINT:
            position = _skip_varint(raw, position)
        elif kind in (FIXED32, FIXED64):
            position += 4 if kind == FIXED32 else 8
        elif kind == GROUP_START and len(frames) < GROUPS_MAX:
            frames.append(_Frame(end, fields, counts, None))
            fields, counts = None, {}
            continue
        elif kind == GROUP_END and frames and frames[-1].field is None:
            _, fields, counts, _ = frames.pop()
            continue
        else:
            raise MalformedMessage
        field = None if fields is None else fields.get(number)
        if field is None:
            continue
        if field.items_max:
            items = 1 if kind != LENGTH or not field.packed else _count_packed(raw[start:position], field.element_bytes)
            counts[number] = count = counts.get(number, 0) + items  # type: ignore[operator]  # of a repeated field
            if count > field.items_max:
                _raise_too_many_items(frames, field)
        if field.fields is not None and kind == LENGTH and position > start:
            frames.append(_Frame(end, fields, counts, field))
            # Occurrences of a field that is not repeated are merged into one message.
            counts = {} if field.items_max else counts.setdefault(number, {})  # type: ignore[assignment]
            fields, position, end = field.fields, start, position


def _read_tag(raw: bytes, position: int) -> tuple[int, int, int]:
    """Return the tag or length at a position, the position after it, and the fields that it counts as besides.

    Raises: MalformedMessage, IndexError.
    """
    number = 0
    for index in range(TAG_BYTES_MAX):
        byte = raw[position + index]
        number |= (byte & ~CONTINUATION_BIT) << 7 * index
        if byte < CONTINUATION_BIT:
            return number, position + index + 1, index if byte == 0 else index - 1
    raise MalformedMessage


def _count_packed(payload: bytes, element_bytes: int) -> int:
    """Return the number of elements in one packed occurrence; each varint has one last byte."""
    return len(payload) // element_bytes if element_bytes else len(payload.translate(None, CONTINUATION_BYTES))


def _raise_too_many_items(frames: list[_Frame], field: _Field) -> NoReturn:
    path = ".".join(filter(None, (_build_path(frames), field.name)))
    raise InvalidFields([(path, describe_items_max(field.items_max))])


def _build_path(frames: list[_Frame]) -> str:
    """Return the path of the scanned message, such as `orders[3]`."""
    names = []
    for frame in frames:
        if frame.field is not None:
            number = next((number for number, field in (frame.fields or {}).items() if field is frame.field), 0)
            count = frame.counts.get(number)
            names.append(f"{frame.field.name}[{count - 1}]" if isinstance(count, int) else frame.field.name)
    return ".".join(names)


def _skip_varint(raw: bytes, position: int) -> int:
    """Return the position after a varint.

    Raises: MalformedMessage, IndexError.
    """
    position_max = position + VARINT_BYTES_MAX
    while raw[position] >= CONTINUATION_BIT:
        position += 1
        if position >= position_max:
            raise MalformedMessage
    return position + 1
