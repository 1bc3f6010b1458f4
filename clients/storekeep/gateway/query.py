"""Set the fields of a request from the query, from the path, and the update mask from the fields of a PATCH body.

A parameter that is unknown, repeated without being a list, or already given by the path or the body is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from storekeep.gateway.invalid_json import InvalidJson, explain_oneof, show
from storekeep.gateway.json_scalars import INTEGER, make_reader
from storekeep.gateway.json_writers import WRAPPERS, get_map_entry
from storekeep.gateway.well_known import read_duration, read_field_mask, read_timestamp

ReadText = Callable[[str], Any]
QuerySetter = Callable[[Message, Iterable[tuple[str, str]]], None]
TEXT_READERS: dict[str, Callable[[Any, str], None]] = {
    "google.protobuf.Duration": read_duration,
    "google.protobuf.FieldMask": read_field_mask,
    "google.protobuf.Timestamp": read_timestamp,
}
"""The messages that a parameter can set as a whole, with their readers; wrappers of scalars are the others."""
BOOLS = {"true": True, "false": False}
WHOLE_BODY = "*"
SHOWN_SEGMENTS_MAX = 20
UNCHANGEABLE = frozenset({field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER, field_behavior_pb2.IMMUTABLE})
NEVER_MASKED = frozenset({"name", "etag"})
"""Fields that say which resource to change, and which version of it."""


def build_query_setter(descriptor: Descriptor, bound: Collection[str] = ()) -> QuerySetter:
    """Return the function that sets the fields of a request from the decoded pairs of a query.

    It raises InvalidJson with the name of the parameter.

    Args:
        descriptor: the request's type.
        bound: the fields that the path and the body give, such as `product.name`; `*` if the body gives all.
    """

    def apply(message: Message, pairs: Iterable[tuple[str, str]]) -> None:
        done: set[str] = set()
        for name, text in pairs:
            fields = _find_fields(descriptor, name)
            path = ".".join(field.name for field in fields)
            _check_free(name, path, bound)
            if path in done and not fields[-1].is_repeated:
                raise InvalidJson(name, "the parameter appears more than once")
            done.add(path)
            try:
                _set_field(message, fields, text)
            except InvalidJson as error:
                raise error.prefix(name) from None

    return apply


def set_path_field(message: Message, path: str, text: str) -> None:
    """Set the field that a variable of the path gives, such as `product.name`.

    Raises: InvalidJson if the text is no value of the field, or the body has another value.
    """
    owner: Any = message
    fields = _find_fields(owner.DESCRIPTOR, path)
    for field in fields[:-1]:
        owner = getattr(owner, field.name)
    leaf = fields[-1]
    current = getattr(owner, leaf.name)
    try:
        value = _make_text_reader(leaf)(text)
    except InvalidJson as error:
        raise error.prefix(leaf.json_name) from None
    if current not in (leaf.default_value, value):
        problem = f"the body has {show(repr(current))}, but the path has {show(repr(value))}"
        raise InvalidJson(leaf.json_name, problem)
    setattr(owner, leaf.name, value)


def derive_update_mask(body: Any, descriptor: Descriptor) -> FieldMask:
    """Return the mask of the fields that a PATCH body names, `null` included, which clears a field (AIP-134).

    The server changes fields as a whole, so the mask has the resource's own fields and no paths below them. Fields that
    callers cannot change are left out: a resource can be sent back as it was read.

    Args:
        body: the parsed body, which was read as a message of this type.
        descriptor: the resource's type.
    """
    names = {spelling: field for field in descriptor.fields for spelling in (field.name, field.json_name)}
    changeable = (names[key] for key in body if key in names)
    return FieldMask(paths=[field.name for field in changeable if _is_changeable(field)])


def _is_changeable(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field.name not in NEVER_MASKED and UNCHANGEABLE.isdisjoint(behaviors)


def _find_fields(descriptor: Descriptor, name: str) -> list[FieldDescriptor]:
    """Return the fields along a dotted name, in either spelling.

    Raises: InvalidJson if there is no such field, or it is within a list or a map.
    """
    fields: list[FieldDescriptor] = []
    owner: Descriptor | None = descriptor
    for segment in name.split(".", SHOWN_SEGMENTS_MAX):
        field = None
        if owner is not None and not (fields and fields[-1].is_repeated):
            field = next((each for each in owner.fields if segment in (each.name, each.json_name)), None)
        if field is None:
            raise InvalidJson(show(name), "there is no such parameter")
        fields.append(field)
        owner = field.message_type
    return fields


def _check_free(name: str, path: str, bound: Collection[str]) -> None:
    for taken in bound:
        if taken == WHOLE_BODY:
            raise InvalidJson(name, "the field belongs into the body, not into the query")
        if path == taken or path.startswith(f"{taken}."):
            raise InvalidJson(name, "the field is given by the path or the body; leave it out of the query")


def _set_field(message: Message, fields: list[FieldDescriptor], text: str) -> None:
    owner: Any = message
    for field in fields[:-1]:
        _check_oneof(owner, field)
        owner = getattr(owner, field.name)
        owner.SetInParent()
    leaf = fields[-1]
    _check_oneof(owner, leaf)
    if leaf.message_type is None:
        value = _make_text_reader(leaf)(text)
        if leaf.is_repeated:
            getattr(owner, leaf.name).append(value)
        else:
            setattr(owner, leaf.name, value)
        return
    read = _make_message_reader(leaf)
    child = getattr(owner, leaf.name)
    if leaf.is_repeated:
        child = child.add()
    else:
        child.SetInParent()
    read(child, text)


def _check_oneof(owner: Message, field: FieldDescriptor) -> None:
    oneof = field.containing_oneof
    if oneof is None:
        return
    other = owner.WhichOneof(oneof.name)
    if other is not None and other != field.name:
        raise InvalidJson("", explain_oneof(owner, oneof.name, other))


def _make_message_reader(field: FieldDescriptor) -> Callable[[Any, str], None]:
    """Return the reader of a message that one parameter can set.

    Raises: InvalidJson if the field is a map or another message.
    """
    kind = field.message_type
    if kind is None or get_map_entry(field) is not None:
        raise InvalidJson("", "a map cannot be set by a parameter")
    if kind.full_name in WRAPPERS:
        read = _make_text_reader(kind.fields_by_name["value"])
        return lambda message, text: setattr(message, "value", read(text))
    if kind.full_name not in TEXT_READERS:
        raise InvalidJson("", f"a {kind.name} cannot be set by one parameter; set its fields")
    return TEXT_READERS[kind.full_name]


def _make_text_reader(field: FieldDescriptor) -> ReadText:
    """Return the reader of a scalar from a text; it raises InvalidJson."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _read_bool
    read = make_reader(field)
    if field.enum_type is None:
        return read
    return lambda text: read(int(text) if INTEGER.fullmatch(text) else text)


def _read_bool(text: str) -> bool:
    if text not in BOOLS:
        raise InvalidJson("", f"expected true or false, not {show(repr(text))}")
    return BOOLS[text]
