"""The contract as data, with its comments, for the reference pages and the house tests.

It is read from the descriptor image, because the generated stubs have no comments.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from buf.validate import validate_pb2
from compilation import write_image
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto

from storekeep.v1 import errors_pb2, options_pb2

PACKAGE = "storekeep.v1"
FIELD_KINDS: dict[int, str] = {
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
}


@dataclass(frozen=True)
class Field:
    """One field of a message. `kind` is a scalar's name, or the full name of a message or enum."""

    name: str
    kind: str
    comment: str
    rules: validate_pb2.FieldRules
    behaviors: frozenset[str]
    is_message: bool
    repeated: bool
    optional: bool
    personal: options_pb2.Personal


@dataclass(frozen=True)
class Message:
    """One message, or the entry type of a map."""

    name: str
    comment: str
    fields: tuple[Field, ...]
    is_map_entry: bool

    def get_field(self, name: str) -> Field | None:
        """Return the field with this name, or None."""
        return next((field for field in self.fields if field.name == name), None)


@dataclass(frozen=True)
class Value:
    """One value of an enum."""

    name: str
    number: int
    comment: str


@dataclass(frozen=True)
class Enum:
    """One enum."""

    name: str
    comment: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Method:
    """One RPC with its options.

    `routes` are pairs of HTTP verb and path. `reasons` and `executor` have no enum prefix.
    """

    name: str
    service: str
    comment: str
    request: str
    response: str
    routes: tuple[tuple[str, str], ...]
    permission: str
    executor: str
    reasons: tuple[str, ...]
    mutation: bool


@dataclass(frozen=True)
class Service:
    """One service. `noun` is the name of its file, in the contract and in every package."""

    name: str
    noun: str
    comment: str
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Contract:
    """The package `storekeep.v1`, with messages and enums by full name."""

    services: tuple[Service, ...]
    messages: dict[str, Message]
    enums: dict[str, Enum]

    @property
    def methods(self) -> Iterator[Method]:
        """The RPCs of all services."""
        return (method for service in self.services for method in service.methods)

    @property
    def reasons(self) -> tuple[Value, ...]:
        """The error reasons, without their prefix and without UNSPECIFIED."""
        values = self.enums[f"{PACKAGE}.ErrorReason"].values[1:]
        return tuple(Value(format_reason(value.number), value.number, value.comment) for value in values)


def format_reason(number: int) -> str:
    """Return the reason as it is sent on the wire: the name of the enum value without its prefix."""
    return errors_pb2.ErrorReason.Name(errors_pb2.ErrorReason.ValueType(number)).removeprefix("ERROR_REASON_")


Comments = dict[tuple[int, ...], str]


def read_comments(file: descriptor_pb2.FileDescriptorProto) -> Comments:
    """Return the leading comments of a file by the path of the element that they precede."""
    return {
        tuple(location.path): " ".join(location.leading_comments.split()) for location in file.source_code_info.location
    }


def read_field(proto: FieldDescriptorProto, *, comment: str) -> Field:
    """Return the field that a descriptor describes."""
    behaviors = proto.options.Extensions[field_behavior_pb2.field_behavior]
    return Field(
        name=proto.name,
        kind=FIELD_KINDS.get(proto.type) or proto.type_name.lstrip("."),
        comment=comment,
        rules=proto.options.Extensions[validate_pb2.field],
        behaviors=frozenset(field_behavior_pb2.FieldBehavior.Name(behavior) for behavior in behaviors),
        is_message=proto.type == FieldDescriptorProto.TYPE_MESSAGE,
        repeated=proto.label == FieldDescriptorProto.LABEL_REPEATED,
        optional=proto.proto3_optional,
        personal=proto.options.Extensions[options_pb2.personal],
    )


def read_messages(
    protos: Sequence[DescriptorProto], *, scope: str, comments: Comments, path: tuple[int, ...]
) -> Iterator[tuple[str, Message]]:
    """Yield the messages of one scope and their nested messages, each with its full name."""
    for index, proto in enumerate(protos):
        name, own_path = f"{scope}.{proto.name}", (*path, index)
        fields = tuple(
            read_field(field, comment=comments.get((*own_path, DescriptorProto.FIELD_FIELD_NUMBER, number), ""))
            for number, field in enumerate(proto.field)
        )
        yield name, Message(proto.name, comments.get(own_path, ""), fields, proto.options.map_entry)
        nested_path = (*own_path, DescriptorProto.NESTED_TYPE_FIELD_NUMBER)
        yield from read_messages(proto.nested_type, scope=name, comments=comments, path=nested_path)


def read_routes(options: descriptor_pb2.MethodOptions) -> tuple[tuple[str, str], ...]:
    """Return the HTTP verbs and paths of a method; empty if it has none."""
    rule = options.Extensions[annotations_pb2.http]
    pairs = ((binding.WhichOneof("pattern"), binding) for binding in (rule, *rule.additional_bindings))
    return tuple((str(verb).upper(), str(getattr(binding, verb))) for verb, binding in pairs if verb)


def read_method(proto: descriptor_pb2.MethodDescriptorProto, *, service: str, comment: str) -> Method:
    """Return the RPC that a descriptor describes."""
    options = proto.options
    return Method(
        name=proto.name,
        service=service,
        comment=comment,
        request=proto.input_type.lstrip("."),
        response=proto.output_type.lstrip("."),
        routes=read_routes(options),
        permission=options.Extensions[options_pb2.permission],
        executor=options_pb2.Executor.Name(options.Extensions[options_pb2.executor]).removeprefix("EXECUTOR_"),
        reasons=tuple(format_reason(number) for number in options.Extensions[options_pb2.errors].reasons),
        mutation=options.Extensions[options_pb2.mutation],
    )


def read_services(file: descriptor_pb2.FileDescriptorProto, *, comments: Comments) -> Iterator[Service]:
    """Yield the services of a file."""
    root = descriptor_pb2.FileDescriptorProto.SERVICE_FIELD_NUMBER
    for index, proto in enumerate(file.service):
        path = (root, index, descriptor_pb2.ServiceDescriptorProto.METHOD_FIELD_NUMBER)
        methods = tuple(
            read_method(method, service=proto.name, comment=comments.get((*path, number), ""))
            for number, method in enumerate(proto.method)
        )
        yield Service(proto.name, Path(file.name).stem, comments.get((root, index), ""), methods)


def read_enums(file: descriptor_pb2.FileDescriptorProto, *, comments: Comments) -> Iterator[tuple[str, Enum]]:
    """Yield the enums of a file, each with its full name."""
    root = descriptor_pb2.FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER
    for index, proto in enumerate(file.enum_type):
        path = (root, index, EnumDescriptorProto.VALUE_FIELD_NUMBER)
        values = tuple(
            Value(value.name, value.number, comments.get((*path, number), ""))
            for number, value in enumerate(proto.value)
        )
        yield f"{PACKAGE}.{proto.name}", Enum(proto.name, comments.get((root, index), ""), values)


def read_files() -> tuple[descriptor_pb2.FileDescriptorProto, ...]:
    """Compile the contract's current sources and return its own files."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "contract.binpb")
        write_image(image)
        files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file
    return tuple(file for file in files if file.package == PACKAGE)


@cache
def read_contract() -> Contract:
    """Return the contract, compiled from its current sources."""
    services: list[Service] = []
    messages: dict[str, Message] = {}
    enums: dict[str, Enum] = {}
    for file in read_files():
        comments = read_comments(file)
        services += read_services(file, comments=comments)
        path = (descriptor_pb2.FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,)
        messages.update(read_messages(file.message_type, scope=PACKAGE, comments=comments, path=path))
        enums.update(read_enums(file, comments=comments))
    return Contract(tuple(services), messages, enums)
