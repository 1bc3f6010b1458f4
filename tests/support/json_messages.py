"""Random messages of every type of the contract, and a message with each kind of field that the contract lacks."""

from __future__ import annotations

import importlib
import pkgutil
import random
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2

import storekeep.v1

DEPTH_MAX = 4
TEXTS = ("", "a", "é", "products/p-1", '\x00\x1f"\\', "\u2028\U0001f600", "</script>", "x" * 100)
INTEGERS = (0, 1, -1, 7, 100)
FLOATS = (0.0, -0.0, 1.5, 0.1, 1e30, 1e-30, 16777216.0, float("nan"), float("inf"), -float("inf"))
KINDS = (
    ("double", "TYPE_DOUBLE"),
    ("float", "TYPE_FLOAT"),
    ("int32", "TYPE_INT32"),
    ("int64", "TYPE_INT64"),
    ("uint32", "TYPE_UINT32"),
    ("uint64", "TYPE_UINT64"),
    ("sint64", "TYPE_SINT64"),
    ("fixed64", "TYPE_FIXED64"),
    ("sfixed32", "TYPE_SFIXED32"),
    ("bool", "TYPE_BOOL"),
    ("string", "TYPE_STRING"),
    ("bytes", "TYPE_BYTES"),
)
KEYS = ("bool", "int32", "int64", "uint32", "uint64", "string")
MESSAGES = (
    ("nested", ".storekeep.tests.Kinds"),
    ("any", ".google.protobuf.Any"),
    ("struct", ".google.protobuf.Struct"),
    ("json_value", ".google.protobuf.Value"),
    ("list_value", ".google.protobuf.ListValue"),
    ("duration", ".google.protobuf.Duration"),
    ("time", ".google.protobuf.Timestamp"),
    ("mask", ".google.protobuf.FieldMask"),
    ("empty", ".google.protobuf.Empty"),
    ("text_wrapper", ".google.protobuf.StringValue"),
    ("int_wrapper", ".google.protobuf.Int64Value"),
    ("bool_wrapper", ".google.protobuf.BoolValue"),
    ("double_wrapper", ".google.protobuf.DoubleValue"),
    ("bytes_wrapper", ".google.protobuf.BytesValue"),
)
IMPORTS = ("any", "struct", "duration", "timestamp", "field_mask", "empty", "wrappers")


def list_message_types() -> list[Descriptor]:
    """Return the type of each request and reply of the contract, and of `storekeep.tests.Kinds`."""
    types = {}
    for module in pkgutil.iter_modules(storekeep.v1.__path__):
        file = importlib.import_module(f"storekeep.v1.{module.name}")
        for service in getattr(getattr(file, "DESCRIPTOR", None), "services_by_name", {}).values():
            for method in service.methods:
                types[method.input_type.full_name] = method.input_type
                types[method.output_type.full_name] = method.output_type
    return [*types.values(), KINDS_TYPE]


def _build_kinds() -> Descriptor:
    fields, entries = [], []
    number = 0

    def add(name: str, kind: str, *, label: str = "LABEL_OPTIONAL", extra: str = "") -> None:
        nonlocal number
        number += 1
        fields.append(f'field {{ name: "{name}" number: {number} label: {label} type: {kind} {extra} }}')

    for name, kind in KINDS:
        add(f"one_{name}", kind)
        add(f"many_{name}", kind, label="LABEL_REPEATED")
        add(f"either_{name}", kind, extra="oneof_index: 0")
    for name, kind in MESSAGES:
        add(f"one_{name}", "TYPE_MESSAGE", extra=f'type_name: "{kind}"')
        add(f"many_{name}", "TYPE_MESSAGE", label="LABEL_REPEATED", extra=f'type_name: "{kind}"')
    add("one_null", "TYPE_ENUM", extra='type_name: ".google.protobuf.NullValue"')
    for key in KEYS:
        for value in ("int64", "nested"):
            entry = "".join(part.capitalize() for part in ("map", key, value)) + "Entry"
            kind = f"TYPE_{value.upper()}" if value == "int64" else 'TYPE_MESSAGE type_name: ".storekeep.tests.Kinds"'
            entries.append(
                f'nested_type {{ name: "{entry}" options {{ map_entry: true }}'
                f' field {{ name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_{key.upper()} }}'
                f' field {{ name: "value" number: 2 label: LABEL_OPTIONAL type: {kind} }} }}'
            )
            extra = f'type_name: ".storekeep.tests.Kinds.{entry}"'
            add(f"map_{key}_{value}", "TYPE_MESSAGE", label="LABEL_REPEATED", extra=extra)
    imports = " ".join(f'dependency: "google/protobuf/{name}.proto"' for name in IMPORTS)
    for name in IMPORTS:
        importlib.import_module(f"google.protobuf.{name}_pb2")
    text = (
        f'name: "storekeep/tests/kinds.proto" package: "storekeep.tests" syntax: "proto3" {imports}'
        f' message_type {{ name: "Kinds" oneof_decl {{ name: "either" }} {" ".join(fields)} {" ".join(entries)} }}'
    )
    pool = descriptor_pool.Default()
    pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))  # type: ignore[no-untyped-call]
    return pool.FindMessageTypeByName("storekeep.tests.Kinds")


KINDS_TYPE = _build_kinds()
"""A message with fields of all kinds: `one_*`, `many_*`, `map_*` and the oneof `either_*`."""


class RandomMessages:
    """Builds random messages that JSON can express.

    Args:
        seed: the same seed builds the same messages.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def build(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """Return a message of this type with some of its fields set."""
        message: Any = GetMessageClass(descriptor)()
        special = getattr(self, f"_fill_{descriptor.name.lower()}", None)
        if descriptor.full_name.startswith("google.protobuf.") and special is not None:
            special(message, depth)
            return message  # type: ignore[no-any-return]
        share = self._random.choice((0.1, 0.5, 1.0)) if depth < 2 else 0.2
        for field in descriptor.fields:
            if self._random.random() < share:
                self._fill(message, field, depth)
        return message  # type: ignore[no-any-return]

    def _fill(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        kind = field.message_type
        if kind is not None and depth >= DEPTH_MAX:
            return
        if kind is not None and kind.GetOptions().map_entry:
            items = getattr(message, field.name)
            for _ in range(self._random.randrange(3)):
                key, value = (kind.fields_by_name[part] for part in ("key", "value"))
                if value.message_type is None:
                    items[self._draw(key)] = self._draw(value)
                else:
                    items[self._draw(key)].CopyFrom(self.build(value.message_type, depth + 1))
            return
        count = self._random.randrange(3) if field.is_repeated else 1
        for _ in range(count):
            value = self._draw(field) if kind is None else self.build(kind, depth + 1)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            elif kind is not None:
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)

    def _draw(self, field: FieldDescriptor) -> Any:
        draw = self._random
        if field.enum_type is not None:
            return draw.choice(list(field.enum_type.values_by_number))
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return draw.randbytes(draw.randrange(6)) if field.type == FieldDescriptor.TYPE_BYTES else draw.choice(TEXTS)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return draw.random() < 0.5
        if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return draw.choice(
                (0.0, -0.0, 1.5, 0.1, 1e30, 1e-30, 16777216.0, float("nan"), float("inf"), -float("inf"))
            )
        bits = 63 if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64) else 31
        low = 0 if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64) else -(2**bits)
        return draw.choice([max(low, number) for number in (*INTEGERS, low, 2**bits - 1)])

    def _fill_timestamp(self, message: Any, depth: int) -> None:
        message.seconds = self._random.choice((0, -1, 1_700_000_000, -62_135_596_800, 253_402_300_799))
        message.nanos = self._draw_nanos()

    def _fill_duration(self, message: Any, depth: int) -> None:
        message.seconds = self._random.choice((0, 1, 3_600, 315_575_999_999))
        message.nanos = self._draw_nanos()
        if self._random.random() < 0.5:
            message.seconds, message.nanos = -message.seconds, -message.nanos

    def _draw_nanos(self) -> int:
        return self._random.choice((0, 1, 1_000, 1_000_000, 500_000_000, 999_999_999, 120_000))

    def _fill_fieldmask(self, message: Any, depth: int) -> None:
        message.paths.extend(self._random.sample(("name", "display_name", "lines.tax_class", "labels"), 2))

    def _fill_any(self, message: AnyMessage, depth: int) -> None:
        choices: tuple[Descriptor | Any, ...] = (
            error_details_pb2.BadRequest.DESCRIPTOR,
            descriptor_pool.Default().FindMessageTypeByName("google.protobuf.Duration"),  # type: ignore[no-untyped-call]
        )
        message.Pack(self.build(self._random.choice(choices), depth + 1), deterministic=True)

    def _fill_value(self, message: Any, depth: int) -> None:
        kind = self._random.randrange(6 if depth < DEPTH_MAX else 4)
        if kind == 0:
            message.null_value = 0
        elif kind == 1:
            message.number_value = self._random.choice((0.0, 1.5, -1e300, 3.0))
        elif kind == 2:
            message.string_value = self._random.choice(TEXTS)
        elif kind == 3:
            message.bool_value = self._random.random() < 0.5
        elif kind == 4:
            message.struct_value.SetInParent()
            self._fill_struct(message.struct_value, depth + 1)
        else:
            message.list_value.SetInParent()
            self._fill_listvalue(message.list_value, depth + 1)

    def _fill_struct(self, message: Any, depth: int) -> None:
        for key in self._random.sample(TEXTS, 2):
            self._fill_value(message.fields[key], depth)

    def _fill_listvalue(self, message: Any, depth: int) -> None:
        for _ in range(self._random.randrange(3)):
            self._fill_value(message.values.add(), depth)
