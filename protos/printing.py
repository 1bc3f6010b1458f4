"""Print a descriptor of protobuf's second syntax as `.proto` source, without comments and without options of fields.

Owns only what the schema of protovalidate needs, whose wheel has no source. It refuses nested types, groups and default
values, which the schema does not have, because a wrong source would be worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto

LABELS = {
    FieldDescriptorProto.LABEL_OPTIONAL: "optional",
    FieldDescriptorProto.LABEL_REQUIRED: "required",
    FieldDescriptorProto.LABEL_REPEATED: "repeated",
}
FIELD_NUMBER_MAX = 536_870_911


def print_file(file: descriptor_pb2.FileDescriptorProto) -> str:
    """Return the source of a file.

    Raises: ValueError if it has something that this module cannot print.
    """
    if file.syntax not in ("", "proto2") or file.service:
        raise ValueError(f"{file.name}: only messages, enums and extensions of proto2 can be printed")
    parts = [
        f'syntax = "proto2";\n\npackage {file.package};\n',
        "".join(f'import "{name}";\n' for name in file.dependency),
        "".join(_print_options(file.options)),
        *("".join(f"{line}\n" for line in _print_extension(field)) for field in file.extension),
        *("".join(f"{line}\n" for line in _print_message(message)) for message in file.message_type),
        *("".join(f"{line}\n" for line in _print_enum(enum)) for enum in file.enum_type),
    ]
    return "\n".join(parts)


def _print_options(options: descriptor_pb2.FileOptions) -> Iterator[str]:
    for field, value in options.ListFields():
        text = str(value).lower() if isinstance(value, bool) else '"{}"'.format(value.replace("\\", "\\\\"))
        yield f"option {field.name} = {text};\n"


def _print_extension(field: FieldDescriptorProto) -> Iterator[str]:
    yield f"extend {field.extendee} {{"
    yield f"  {_print_field(field)}"
    yield "}"


def _print_message(message: DescriptorProto) -> Iterator[str]:
    if message.nested_type or message.enum_type or message.extension:
        raise ValueError(f"{message.name} has nested types")
    yield f"message {message.name} {{"
    yield from _print_reserved(message.reserved_range, message.reserved_name, past_end=1)
    for extensions in message.extension_range:
        last = "max" if extensions.end > FIELD_NUMBER_MAX else extensions.end - 1
        yield f"  extensions {extensions.start} to {last};"
    for field in message.field:
        if not field.HasField("oneof_index"):
            yield f"  {_print_field(field)}"
    for index, oneof in enumerate(message.oneof_decl):
        yield f"  oneof {oneof.name} {{"
        members = (field for field in message.field if field.HasField("oneof_index") and field.oneof_index == index)
        yield from (f"    {_print_field(field, label='')}" for field in members)
        yield "  }"
    yield "}"


def _print_field(field: FieldDescriptorProto, *, label: str | None = None) -> str:
    if field.HasField("default_value") or field.type == FieldDescriptorProto.TYPE_GROUP:
        raise ValueError(f"{field.name} is a group or has a default value")
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    words = (LABELS[field.label] if label is None else label, kind, field.name, "=", str(field.number))
    return " ".join(filter(None, words)) + ";"


def _print_enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    yield from _print_reserved(enum.reserved_range, enum.reserved_name, past_end=0)
    yield from (f"  {value.name} = {value.number};" for value in enum.value)
    yield "}"


def _print_reserved(
    ranges: Iterable[DescriptorProto.ReservedRange | EnumDescriptorProto.EnumReservedRange],
    names: Iterable[str],
    *,
    past_end: int,
) -> Iterator[str]:
    """Yield the reserved numbers and names; `past_end` is 1 if the ranges do not include their end."""
    yield from (f"  reserved {reserved.start} to {reserved.end - past_end};" for reserved in ranges)
    yield from (f'  reserved "{name}";' for name in names)
