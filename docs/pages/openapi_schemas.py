"""The schemas of messages: one for replies, as the gateway writes them, and one for requests, with all that it accepts.

Replies omit what is unset (AIP-149), so only requests say what is required. A request may have null for a field that is
not required, a number for an enum, and a number or its text for an integer, as proto3 JSON says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from enum import Enum
from typing import Any

from buf.validate import validate_pb2
from contract import Field, Message, read_contract
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from docs.pages.openapi_rules import BEHAVIORS, describe_bounds, describe_well_known, restrict

CONTRACT = read_contract()
NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
"""The text of an integer in a request. The gateway reads `"7.0"` and `"7e0"` too."""
SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"},
}
ACCEPTED: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_INT32: {"type": ["integer", "string"], "format": "int32", "pattern": NUMBER},
    FieldDescriptor.TYPE_INT64: {"type": ["string", "integer"], "format": "int64", "pattern": NUMBER},
}
"""The scalars of requests that differ from those of replies."""
KINDS = {
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
}
IGNORED = "Ignored: only the server sets it."


class Use(Enum):
    """What a message is used for, with the suffix of its schema."""

    REPLY = ""
    REQUEST = "Input"
    CHANGE = "Patch"
    """A resource of which a request changes some fields, so none is required."""


class Schemas:
    """Collects the schemas that operations use.

    Attributes:
        schemas: the schemas by name.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}

    def refer(self, message: Any, use: Use) -> dict[str, Any]:
        """Return the schema of a message: a reference, or the text form of a well-known type."""
        known = describe_well_known(message.full_name)
        if known is not None:
            return known
        return self._refer_object(_get_name(message, use), message, message.fields, use)

    def refer_body(self, message: Any, fields: Iterable[Any]) -> dict[str, Any]:
        """Return a reference to the schema of a request as a body, without the fields that its path has."""
        return self._refer_object(message.name, message, fields, Use.REQUEST)

    def _refer_object(self, name: str, message: Any, fields: Iterable[Any], use: Use) -> dict[str, Any]:
        if name not in self.schemas:
            self.schemas[name] = {}
            self.schemas[name] = self._build_object(message, fields, use)
        return {"$ref": f"#/components/schemas/{name}"}

    def has_required(self, reference: dict[str, Any]) -> bool:
        """Return whether the schema of a reference has required properties."""
        return "required" in self.schemas[reference["$ref"].rpartition("/")[2]]

    def refer_field(self, field: Any, use: Use) -> dict[str, Any]:
        """Return the schema of a field, without its comment."""
        rules = _find_field(field).rules if _find_message(field.containing_type) else None
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            inner = self._refer_value(value, use)
            entry: dict[str, Any] = {"type": "object", "additionalProperties": inner}
            if rules is not None and use is not Use.REPLY:
                entry["additionalProperties"] = restrict(inner, rules.map.values, kind=_get_kind(value))
                keys = restrict({}, rules.map.keys, kind="string")
                entry |= {"propertyNames": keys} if keys else {}
            return restrict(entry, rules, kind="map") if rules else entry
        if field.is_repeated:
            inner = restrict(
                self._refer_value(field, use), rules.repeated.items if rules else None, kind=_get_kind(field)
            )
            array: dict[str, Any] = {"type": "array", "items": inner}
            return restrict(array, rules, kind="repeated") if rules else array
        return restrict(self._refer_value(field, use), rules, kind=_get_kind(field))

    def _refer_value(self, field: Any, use: Use) -> dict[str, Any]:
        if field.message_type is not None:
            is_changed = use is not Use.REPLY and "update_mask" in field.containing_type.fields_by_name
            inner = Use.REQUEST if use is Use.CHANGE else use
            return self.refer(field.message_type, Use.CHANGE if is_changed else inner)
        if field.enum_type is not None:
            return self._refer_enum(field, use)
        return dict(SCALARS[field.type] if use is Use.REPLY else ACCEPTED.get(field.type, SCALARS[field.type]))

    def _refer_enum(self, field: Any, use: Use) -> dict[str, Any]:
        is_reply = use is Use.REPLY
        name = field.enum_type.name + ("" if is_reply else Use.REQUEST.value)
        if name not in self.schemas:
            enum = CONTRACT.enums[field.enum_type.full_name]
            lines = [f"- `{value.name}`: {value.comment}" for value in enum.values if value.comment]
            names: list[Any] = [value.name for value in enum.values]
            numbers = [] if is_reply else [value.number for value in field.enum_type.values]
            self.schemas[name] = {
                "type": "string" if is_reply else ["string", "integer"],
                "enum": names + numbers,
                "description": "\n".join([enum.comment, "", *lines]),
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _build_object(self, message: Descriptor, fields: Iterable[Any], use: Use) -> dict[str, Any]:
        source = _find_message(message)
        properties, required = {}, []
        for field in fields:
            schema = self.refer_field(field, use)
            found = source.get_field(field.name) if source else None
            is_required = use is Use.REQUEST and found is not None and is_field_required(found, field)
            if is_required:
                required.append(field.json_name)
            elif use is not Use.REPLY:
                schema = _allow_null(schema)
            properties[field.json_name] = schema if found is None else _annotate(schema, found, use)
        built: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if source and source.comment:
            built["description"] = source.comment
        if required:
            built["required"] = required
        if use is not Use.REPLY and (pairs := list(_forbid_pairs(message))):
            built["not"] = {"anyOf": pairs}
        return built


def is_field_required(field: Field, descriptor: Any) -> bool:
    """Return whether a request must have a field: it is declared so, or its rules exclude that it is empty."""
    rules = field.rules
    if "OUTPUT_ONLY" in field.behaviors:
        return False
    if "REQUIRED" in field.behaviors or rules.required:
        return True
    if descriptor.has_presence or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        return False
    return bool(rules.string.min_len or rules.repeated.min_items)


def _allow_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field that may be null, which means that it is absent."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, "null"]}


def _forbid_pairs(message: Any) -> Iterable[dict[str, Any]]:
    """Yield a schema of the objects that have two fields of a oneof."""
    for oneof in message.oneofs:
        names = [field.json_name for field in oneof.fields]
        for pair in itertools.combinations(names, 2):
            yield {"required": list(pair), "properties": {name: {"not": {"type": "null"}} for name in pair}}


def _annotate(schema: dict[str, Any], field: Field, use: Use) -> dict[str, Any]:
    """Return the schema with the comment, the bounds in words and the behaviours of its field."""
    behavior = next((name for name in ("OUTPUT_ONLY", "INPUT_ONLY", "IMMUTABLE") if name in field.behaviors), "")
    if use is not Use.REPLY and behavior == "OUTPUT_ONLY":
        return {**schema, "description": f"{IGNORED} {field.comment}".rstrip()}
    text = " ".join(filter(None, (field.comment, describe_bounds(field))))
    marks = BEHAVIORS.get(behavior, {}) if use is Use.REPLY else {}
    return {**schema, **({"description": text} if text else {}), **marks}


def _find_message(message: Descriptor) -> Message | None:
    return CONTRACT.messages.get(message.full_name)


def _find_field(field: Any) -> Field:
    found = CONTRACT.messages[field.containing_type.full_name].get_field(field.name)
    if found is None:
        raise KeyError(field.full_name)
    return found


def _get_name(message: Descriptor, use: Use) -> str:
    """Return the name of a schema. A request in a batch has all of its fields, unlike the body of the same request."""
    name = message.full_name.removeprefix("storekeep.v1.").replace(".", "_")
    return f"{name}Item" if name.endswith("Request") else name + use.value


def _get_kind(field: Any) -> str:
    """Return the name of the rules of a field's type in `buf.validate`."""
    return "enum" if field.enum_type is not None else KINDS.get(field.type, "")
