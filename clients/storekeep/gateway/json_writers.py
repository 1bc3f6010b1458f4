"""Write messages as the values of proto3 JSON. A writer is compiled once for each message type, from its descriptor.

What is not set is not written: with a read mask, a zero would claim a value that nobody read (decision 48).
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from storekeep.gateway.invalid_json import UnwritableMessage
from storekeep.gateway.well_known import write_duration, write_field_mask, write_timestamp

WriteValue = Callable[[Any], Any]
Table = dict[FieldDescriptor, tuple[str, WriteValue | None]]
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)
WRITTEN_AS_TEXT = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_SINT64,
    }
)
"""Integers that a double of JavaScript cannot hold."""


def get_map_entry(field: FieldDescriptor) -> Descriptor | None:
    """Return the type of a map's entries; None if the field is no map."""
    kind = field.message_type
    return kind if kind is not None and kind.GetOptions().map_entry else None


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _write_double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_float(value: float) -> float | str:
    """Return the shortest decimal number that is the same in 32 bits."""
    if not math.isfinite(value):
        return _write_double(value)
    packed = struct.pack("f", value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= abs(value) * 1.01 and struct.pack("f", short) == packed:
            return short
    return float(f"{value:.9g}")


def _write_key(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _make_enum_writer(enum: EnumDescriptor) -> WriteValue:
    names = {number: value.name for number, value in enum.values_by_number.items()}
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _number: None
    return lambda number: names.get(number, number)


def _make_list_writer(write: WriteValue | None) -> WriteValue:
    if write is None:
        return list
    return lambda values: [write(value) for value in values]


def _make_map_writer(write: WriteValue | None) -> WriteValue:
    if write is None:
        return lambda values: {_write_key(key): value for key, value in sorted(values.items())}
    return lambda values: {_write_key(key): write(values[key]) for key in sorted(values)}


FORMATTED: dict[int, WriteValue] = {
    FieldDescriptor.TYPE_BYTES: _write_bytes,
    FieldDescriptor.TYPE_DOUBLE: _write_double,
    FieldDescriptor.TYPE_FLOAT: _write_float,
}
"""The writers of the scalar types that JSON writes otherwise than Python."""


class Writers:
    """The writers of message types, each compiled at its first use.

    Args:
        writes_zeros: whether fields that are zero or empty are written too, unless their presence is explicit.
    """

    def __init__(self, *, writes_zeros: bool = False) -> None:
        self._writes_zeros = writes_zeros
        self._writers: dict[str, WriteValue] = {
            "google.protobuf.Any": self._write_any,
            "google.protobuf.Duration": write_duration,
            "google.protobuf.FieldMask": write_field_mask,
            "google.protobuf.ListValue": self._write_list_value,
            "google.protobuf.Struct": self._write_struct,
            "google.protobuf.Timestamp": write_timestamp,
            "google.protobuf.Value": self._write_value,
        }
        self._plain = frozenset(self._writers) | WRAPPERS

    def get(self, descriptor: Descriptor) -> WriteValue:
        """Return the function that converts a message of this type to a JSON value.

        It raises UnwritableMessage.
        """
        write = self._writers.get(descriptor.full_name)
        return self._compile(descriptor) if write is None else write

    def _compile(self, descriptor: Descriptor) -> WriteValue:
        if descriptor.full_name in WRAPPERS:
            write = self._writers[descriptor.full_name] = self._compile_wrapper(descriptor)
            return write
        table: Table = {}
        zeros: dict[str, Any] = {}

        def write_message(message: Any) -> dict[str, Any]:
            result = zeros.copy()
            for field, value in message.ListFields():
                name, convert = table[field]
                result[name] = value if convert is None else convert(value)
            return result

        # Known before its fields are compiled: a message may contain itself.
        self._writers[descriptor.full_name] = write_message
        for field in descriptor.fields:
            table[field] = (field.json_name, self.get_field_writer(field))
            if self._writes_zeros and not field.has_presence:
                zeros[field.json_name] = self._get_zero(field)
        return write_message

    def _compile_wrapper(self, descriptor: Descriptor) -> WriteValue:
        write = self._make_value_writer(descriptor.fields_by_name["value"])
        return (lambda message: message.value) if write is None else (lambda message: write(message.value))

    def _get_zero(self, field: FieldDescriptor) -> Any:
        if field.is_repeated:
            return [] if get_map_entry(field) is None else {}
        write = self._make_value_writer(field)
        return field.default_value if write is None else write(field.default_value)

    def get_field_writer(self, field: FieldDescriptor) -> WriteValue | None:
        """Return the function that converts the value of a field to JSON; None if the value itself is written.

        It raises UnwritableMessage.
        """
        entry = get_map_entry(field)
        if entry is not None:
            return _make_map_writer(self._make_value_writer(entry.fields_by_name["value"]))
        write = self._make_value_writer(field)
        return _make_list_writer(write) if field.is_repeated else write

    def _make_value_writer(self, field: FieldDescriptor) -> WriteValue | None:
        """Return the writer of one value of a field; None if the value itself is written."""
        if field.message_type is not None:
            return self.get(field.message_type)
        if field.enum_type is not None:
            return _make_enum_writer(field.enum_type)
        if field.type in WRITTEN_AS_TEXT:
            return str
        return FORMATTED.get(field.type)

    def _write_any(self, message: Any) -> dict[str, Any]:
        if not message.type_url and not message.value:
            return {}
        try:
            descriptor = descriptor_pool.Default().FindMessageTypeByName(message.type_url.rpartition("/")[2])
            content = GetMessageClass(descriptor).FromString(message.value)
        except (KeyError, DecodeError):
            raise UnwritableMessage(f"an Any of the type {message.type_url!r}") from None
        value = self.get(descriptor)(content)
        if descriptor.full_name in self._plain:
            return {"@type": message.type_url, "value": value}
        return {"@type": message.type_url, **value}

    def _write_struct(self, message: Any) -> dict[str, Any]:
        return {key: self._write_value(message.fields[key]) for key in sorted(message.fields)}

    def _write_list_value(self, message: Any) -> list[Any]:
        return [self._write_value(value) for value in message.values]

    def _write_value(self, message: Any) -> Any:
        kind = message.WhichOneof("kind")
        if kind == "struct_value":
            return self._write_struct(message.struct_value)
        if kind == "list_value":
            return self._write_list_value(message.list_value)
        if kind is None or kind == "null_value":
            return None
        value = getattr(message, kind)
        if kind == "number_value" and not math.isfinite(value):
            raise UnwritableMessage("a Value that is not a finite number")
        return value
