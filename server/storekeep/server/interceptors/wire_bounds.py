"""Bounds on a request's bytes, checked before anything is made of them: how many elements and fields they have.

A message costs what its elements cost, and an empty element takes two bytes: half a million fit into a request that is
not too large. The tables are made once from the contract (`max_items`, `max_pairs`), so a new field has a bound as soon
as it is there. Invariant: a request that passes is parsed and validated in time that its bounds determine.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from storekeep.server.transport.errors import InvalidFields, MalformedMessage

SCAN_FROM_BYTES = 1_024
"""Smaller requests are not scanned: their at most 512 elements cost less than 5 ms, whatever is wrong with each."""
FIELDS_MAX = 20_000
"""Fields of a request in all, of messages in it and unknown ones too. The largest that the contract allows are imports:
1,000 lines of 16 fields, and 100 orders of up to 35."""
ITEMS_MAX = 100
"""Elements of a repeated field for which the contract has no bound, such as the paths of a mask."""
GROUPS_MAX = 100
"""Unknown groups within each other, as many as protobuf itself parses."""
VARINT_BYTES_MAX = 10
VARINT, FIXED64, LENGTH, GROUP_START, GROUP_END, FIXED32 = range(6)
CONTINUES = 0x80
"""The bit of a varint's byte that says that another follows."""
CONTINUATIONS = bytes(range(CONTINUES, 256))
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
    """What the scan has to know of a field.

    Attributes:
        items_max: how many elements it may have; 0 where it is not repeated.
        fields: of the message that it holds, by their numbers; None where it holds none.
        packed: whether its elements may come together in one occurrence.
        element_bytes: how long each of those is; 0 for varints.
    """

    name: str
    items_max: int
    fields: _Fields | None
    packed: bool
    element_bytes: int


_Fields = dict[int, _Field]
_Counts = dict[int, "int | _Counts"]


class _Frame(NamedTuple):
    """A message around the one that is scanned; `field` is what it holds that one in, None for a group."""

    end: int
    fields: _Fields | None
    counts: _Counts
    field: _Field | None


class WireBounds:
    """The bounds of one type of request.

    Args:
        descriptor: of the type.
    """

    def __init__(self, descriptor: Any) -> None:
        self._fields = _fields_of(descriptor, {})

    def check(self, raw: bytes) -> None:
        """Pass a request that keeps the bounds; stops at the first that it breaks.

        Raises: InvalidFields, MalformedMessage.
        """
        if len(raw) < SCAN_FROM_BYTES:
            return
        try:
            _scan(raw, self._fields)
        except IndexError:
            raise MalformedMessage from None


def _fields_of(descriptor: Descriptor, known: dict[str, _Fields]) -> _Fields:
    """The table of a message's fields; one that is within itself has one table."""
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    table = known[descriptor.full_name] = {}
    for field in descriptor.fields:
        inner = None if field.message_type is None else _fields_of(field.message_type, known)
        packed = field.is_repeated and field.type not in UNPACKED
        table[field.number] = _Field(field.name, _items_max(field), inner, packed, FIXED_BYTES.get(field.type, 0))
    return table


def _items_max(field: FieldDescriptor) -> int:
    if not field.is_repeated:
        return 0
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return rules.map.max_pairs or rules.repeated.max_items or ITEMS_MAX


def _scan(raw: bytes, fields: _Fields | None) -> None:  # noqa: C901 - one loop: a call for each field doubles its cost
    """Raises: InvalidFields, MalformedMessage, IndexError where the bytes end too soon."""
    at, end = 0, len(raw)
    counts: _Counts = {}
    frames: list[_Frame] = []
    seen = 0
    while True:
        if at >= end:
            if at > end or (frames and frames[-1].field is None):
                raise MalformedMessage
            if not frames:
                return
            end, fields, counts, _ = frames.pop()
            continue
        tag = raw[at]
        at += 1
        if tag >= CONTINUES:
            tag, at = _varint(raw, at - 1)
        seen += 1
        if seen > FIELDS_MAX:
            raise InvalidFields([(_path(frames), f"the request has more than {FIELDS_MAX} fields")])
        number, kind = tag >> 3, tag & 7
        start = at
        if kind == LENGTH:
            length = raw[at]
            at += 1
            if length >= CONTINUES:
                length, at = _varint(raw, at - 1)
            start = at
            at += length
            if at > end:
                raise MalformedMessage
        elif kind == VARINT:
            at = _behind_varint(raw, at)
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
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
            items = 1 if kind != LENGTH or not field.packed else _packed_items(raw[start:at], field.element_bytes)
            counts[number] = count = counts.get(number, 0) + items  # type: ignore[operator]  # of a repeated one
            if count > field.items_max:
                _refuse(frames, field)
        if field.fields is not None and kind == LENGTH:
            frames.append(_Frame(end, fields, counts, field))
            # Occurrences of a field that is not repeated are merged into one message.
            counts = {} if field.items_max else counts.setdefault(number, {})  # type: ignore[assignment]
            fields, at, end = field.fields, start, at


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends.

    Raises: MalformedMessage, IndexError.
    """
    number = 0
    for place in range(VARINT_BYTES_MAX):
        byte = raw[at + place]
        number |= (byte & ~CONTINUES) << 7 * place
        if byte < CONTINUES:
            return number, at + place + 1
    raise MalformedMessage


def _packed_items(payload: bytes, element_bytes: int) -> int:
    """How many elements come in one occurrence: of varints each has one last byte."""
    return len(payload) // element_bytes if element_bytes else len(payload.translate(None, CONTINUATIONS))


def _refuse(frames: list[_Frame], field: _Field) -> NoReturn:
    path = ".".join(filter(None, (_path(frames), field.name)))
    raise InvalidFields([(path, f"must contain no more than {field.items_max} item(s)")])


def _path(frames: list[_Frame]) -> str:
    """The path of the message that is scanned, such as `orders[3]`."""
    names = []
    for frame in frames:
        if frame.field is not None:
            number = next((number for number, field in (frame.fields or {}).items() if field is frame.field), 0)
            count = frame.counts.get(number)
            names.append(f"{frame.field.name}[{count - 1}]" if isinstance(count, int) else frame.field.name)
    return ".".join(names)


def _behind_varint(raw: bytes, at: int) -> int:
    """Return the place behind a varint.

    Raises: MalformedMessage, IndexError.
    """
    longest = at + VARINT_BYTES_MAX
    while raw[at] >= CONTINUES:
        at += 1
        if at >= longest:
            raise MalformedMessage
    return at + 1
