"""Read proto3 JSON into messages. A reader is compiled once for each message type, from its descriptor.

Unknown fields, repeated keys, two members of a oneof, wrong types and numbers out of range are refused with their path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from storekeep.gateway.invalid_json import InvalidJson, explain_oneof, show
from storekeep.gateway.json_scalars import INTEGER, ReadScalar, make_reader, parse_float, read_string, refuse
from storekeep.gateway.json_texts import NumberText, RepeatedKey
from storekeep.gateway.json_writers import WRAPPERS, get_map_entry
from storekeep.gateway.well_known import read_duration, read_field_mask, read_timestamp

ReadMessage = Callable[[Any, Any], None]
STRUCT_DEPTH_MAX = 30
"""Levels of a Struct: each is three messages, and parsers of protobuf stop at a hundred."""
VALUE = "google.protobuf.Value"
NULL_VALUE = "google.protobuf.NullValue"


@dataclass(slots=True)
class _Field:
    """How a field is set from a JSON value.

    Attributes:
        name: the name in the contract.
        json_name: the name in lowerCamelCase.
        oneof: the oneof that it belongs to; None for optional fields.
        reads_null: whether `null` is a value, not the absence of one.
    """

    name: str
    json_name: str
    oneof: str | None
    reads_null: bool
    set: ReadMessage


def check_object(value: Any) -> dict[str, Any]:
    """Return a JSON object.

    Raises: InvalidJson if the value is none, or has a key twice.
    """
    if type(value) is dict:
        return value
    if type(value) is RepeatedKey:
        raise InvalidJson(show(value.key), "the key appears more than once")
    raise refuse(value, "an object")


def check_list(value: Any) -> list[Any]:
    """Return a JSON list.

    Raises: InvalidJson if the value is none.
    """
    if type(value) is list:
        return value
    raise refuse(value, "a list")


class Readers:
    """The readers of message types, each compiled at its first use."""

    def __init__(self) -> None:
        self._readers: dict[str, ReadMessage] = {
            "google.protobuf.Any": self._read_any,
            "google.protobuf.Duration": read_duration,
            "google.protobuf.FieldMask": read_field_mask,
            "google.protobuf.ListValue": _read_list_value,
            "google.protobuf.Struct": _read_struct,
            "google.protobuf.Timestamp": read_timestamp,
            VALUE: _read_value,
        }
        self._plain = frozenset(self._readers) | WRAPPERS

    def get(self, descriptor: Descriptor) -> ReadMessage:
        """Return the function that fills an empty message of this type from a JSON value.

        It raises InvalidJson.
        """
        read = self._readers.get(descriptor.full_name)
        return self._compile(descriptor) if read is None else read

    def _compile(self, descriptor: Descriptor) -> ReadMessage:
        if descriptor.full_name in WRAPPERS:
            read = self._readers[descriptor.full_name] = _make_scalar_setter(descriptor.fields_by_name["value"])
            return read
        fields: dict[str, _Field] = {}

        def read_message(message: Any, value: Any) -> None:
            for key, item in check_object(value).items():
                field = fields.get(key)
                if field is None:
                    raise InvalidJson(show(key), f"{descriptor.name} has no such field")
                if key != field.json_name and field.json_name in value:
                    raise InvalidJson(key, "the field appears in both of its spellings")
                if item is None and not field.reads_null:
                    continue
                if field.oneof is not None and (other := message.WhichOneof(field.oneof)) is not None:
                    raise InvalidJson(key, explain_oneof(message, field.oneof, other))
                try:
                    field.set(message, item)
                except InvalidJson as error:
                    raise error.prefix(key) from None

        # Known before its fields are compiled: a message may contain itself.
        self._readers[descriptor.full_name] = read_message
        for field in descriptor.fields:
            oneof = field.containing_oneof
            fields[field.name] = fields[field.json_name] = _Field(
                name=field.name,
                json_name=field.json_name,
                oneof=None if oneof is None or oneof.name == f"_{field.name}" else oneof.name,
                reads_null=_reads_null(field),
                set=self.get_setter(field),
            )
        return read_message

    def get_setter(self, field: FieldDescriptor) -> ReadMessage:
        """Return the function that sets an empty field of a message from a JSON value.

        It raises InvalidJson.
        """
        entry = get_map_entry(field)
        if entry is not None:
            return self._make_map_setter(field.name, entry)
        if field.message_type is None:
            return _make_scalar_list_setter(field) if field.is_repeated else _make_scalar_setter(field)
        name, read = field.name, self.get(field.message_type)
        if not field.is_repeated:

            def set_message(message: Any, value: Any) -> None:
                child = getattr(message, name)
                child.SetInParent()
                read(child, value)

            return set_message

        def set_messages(message: Any, value: Any) -> None:
            items = getattr(message, name)
            for index, item in enumerate(check_list(value)):
                try:
                    read(items.add(), item)
                except InvalidJson as error:
                    raise error.prefix(f"[{index}]") from None

        return set_messages

    def _make_map_setter(self, name: str, entry: Descriptor) -> ReadMessage:
        value_field = entry.fields_by_name["value"]
        read_key = _make_key_reader(entry.fields_by_name["key"])
        read_child = None if value_field.message_type is None else self.get(value_field.message_type)
        read_item = make_reader(value_field) if value_field.message_type is None else None

        def set_map(message: Any, value: Any) -> None:
            items = getattr(message, name)
            for text, item in check_object(value).items():
                try:
                    key = read_key(text)
                    if key in items:
                        raise InvalidJson("", "the key appears more than once")
                    if read_child is not None:
                        read_child(items[key], item)
                    elif read_item is not None:
                        items[key] = read_item(item)
                except InvalidJson as error:
                    raise error.prefix(f'["{show(text)}"]') from None

        return set_map

    def _read_any(self, message: Any, value: Any) -> None:
        content = check_object(value)
        if not content:
            return
        url = content.get("@type")
        if type(url) is not str or "/" not in url:
            raise InvalidJson("@type", "expected the address of a message type")
        try:
            descriptor = descriptor_pool.Default().FindMessageTypeByName(read_string(url).rpartition("/")[2])
        except KeyError:
            raise InvalidJson("@type", f"there is no message type {show(repr(url))}") from None
        content = {key: item for key, item in content.items() if key != "@type"}
        child = GetMessageClass(descriptor)()
        if descriptor.full_name not in self._plain:
            self.get(descriptor)(child, content)
        elif set(content) == {"value"}:
            self.get(descriptor)(child, content["value"])
        else:
            raise InvalidJson("", "expected the fields @type and value")
        message.type_url, message.value = url, child.SerializeToString(deterministic=True)


def _reads_null(field: FieldDescriptor) -> bool:
    if field.is_repeated:
        return False
    kind = field.message_type or field.enum_type
    return kind is not None and kind.full_name in (VALUE, NULL_VALUE)


def _make_item_reader(field: FieldDescriptor) -> ReadScalar:
    read = make_reader(field)
    if field.enum_type is not None and field.enum_type.full_name == NULL_VALUE:
        return lambda value: 0 if value is None else read(value)
    return read


def _make_scalar_setter(field: FieldDescriptor) -> ReadMessage:
    name, read = field.name, _make_item_reader(field)
    return lambda message, value: setattr(message, name, read(value))


def _make_scalar_list_setter(field: FieldDescriptor) -> ReadMessage:
    name, read = field.name, _make_item_reader(field)

    def set_items(message: Any, value: Any) -> None:
        items = getattr(message, name)
        for index, item in enumerate(check_list(value)):
            try:
                items.append(read(item))
            except InvalidJson as error:
                raise error.prefix(f"[{index}]") from None

    return set_items


def _make_key_reader(field: FieldDescriptor) -> ReadScalar:
    """Return the reader of a map's keys, which are strings in JSON whatever their type."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return read_string
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _read_bool_key
    read = make_reader(field)

    def read_integer_key(text: str) -> Any:
        if not INTEGER.fullmatch(text):
            raise InvalidJson("", "the key is not an integer")
        return read(text)

    return read_integer_key


def _read_bool_key(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidJson("", "the key is neither true nor false")
    return text == "true"


def _read_value(message: Any, value: Any, depth: int = 0) -> None:
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int | NumberText):
        message.number_value = parse_float(value)
    elif isinstance(value, str):
        message.string_value = read_string(value)
    elif isinstance(value, list):
        message.list_value.SetInParent()
        _read_list_value(message.list_value, value, depth)
    else:
        message.struct_value.SetInParent()
        _read_struct(message.struct_value, value, depth)


def _read_struct(message: Any, value: Any, depth: int = 0) -> None:
    if depth >= STRUCT_DEPTH_MAX:
        raise InvalidJson("", f"nested more than {STRUCT_DEPTH_MAX} levels deep")
    for key, item in check_object(value).items():
        try:
            _read_value(message.fields[read_string(key)], item, depth + 1)
        except InvalidJson as error:
            raise error.prefix(show(key)) from None


def _read_list_value(message: Any, value: Any, depth: int = 0) -> None:
    if depth >= STRUCT_DEPTH_MAX:
        raise InvalidJson("", f"nested more than {STRUCT_DEPTH_MAX} levels deep")
    for index, item in enumerate(check_list(value)):
        try:
            _read_value(message.values.add(), item, depth + 1)
        except InvalidJson as error:
            raise error.prefix(f"[{index}]") from None
