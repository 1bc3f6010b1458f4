"""The OpenAPI 3.1 description of the gateway's REST API, from the descriptors and comments of the contract.

Schemas are shared by requests and replies, so only requests say what is required; replies omit what is unset (AIP-149).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import yaml
from contract import Field, Message, Method, read_contract
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from docs.pages.openapi_rules import (
    BEHAVIORS,
    describe_bounds,
    describe_well_known,
    find_segment_pattern,
    restrict,
    to_camel,
)
from storekeep.gateway.routes import Route, build_routes

CONTRACT = read_contract()
ERROR = "#/components/responses/Error"
HEADERS = {
    "IdempotencyKey": (
        "Idempotency-Key",
        "Makes a retry safe: the same key has one effect and gets the same reply.",
        255,
    ),
    "IfMatch": ("If-Match", "The etag of the resource. If it has changed, the call is refused with 412.", 300),
    "IfNoneMatch": (
        "If-None-Match",
        "An etag that the caller has. If it is current, the reply is 304 without a body.",
        300,
    ),
    "RequestTimeout": ("X-Request-Timeout", "Deadline of the call in seconds, such as `2.5`.", 20),
    "AcceptLanguage": ("Accept-Language", "Languages of the texts in the reply (RFC 9110).", 1_000),
}
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


def build_openapi() -> dict[str, Any]:
    """Return the description as a JSON object."""
    methods = {method.name: method for method in CONTRACT.methods}
    builder = _Builder()
    paths: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for route in build_routes():
        path, parameters = _build_path(route)
        operation = builder.build_operation(route, methods[route.rpc.name], parameters)
        if operation["operationId"] in seen:
            operation["operationId"] += (
                f"By{to_camel(route.template.rpartition(':')[2] or route.segments[-2], upper=True)}"
            )
        seen.add(operation["operationId"])
        paths.setdefault(path, {})[route.http_method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Storekeep",
            "version": "v1",
            "description": "Products, stock, customers, orders, events and webhooks. The same contract as over gRPC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": service.name, "description": service.comment} for service in CONTRACT.services],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token from IssueToken, or an API key, which the gateway exchanges.",
                }
            },
            "parameters": {name: _build_header(*header) for name, header in HEADERS.items()},
            "responses": {"Error": _build_error_response()},
            "schemas": dict(sorted(builder.schemas.items())) | {"Error": _build_error_schema()},
        },
    }


def build_json() -> str:
    """Return the description as JSON, as the gateway serves it."""
    return json.dumps(_build_once(), ensure_ascii=False, separators=(",", ":")) + "\n"


def build_yaml() -> str:
    """Return the description as YAML."""
    return yaml.dump(_build_once(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


_build_once = cache(build_openapi)


class _Dumper(yaml.SafeDumper):
    """Writes no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


class _Builder:
    """Builds operations, and collects the schemas that they use."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}

    def build_operation(self, route: Route, method: Method, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the operation of a route."""
        request = route.rpc.input_type
        bound = {variable.field_path for variable in route.variables}
        operation: dict[str, Any] = {
            "operationId": route.rpc.name,
            "tags": [method.service],
            "summary": method.comment.partition(". ")[0].partition(" Errors:")[0].rstrip("."),
            "description": f"{method.comment}\n\nPermission: {method.permission}.",
            "parameters": [*parameters, *self._build_query(request, route, bound), *_list_headers(route, method)],
        }
        if method.permission == "public":
            operation["security"] = []
        if route.body:
            schema = self._build_body(request, route.body, bound)
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        reply = route.rpc.output_type
        if route.response_body:
            content = self.refer_field(reply.fields_by_name[route.response_body])
        else:
            content = self.refer(reply)
        operation["responses"] = {
            "200": {"description": "The reply.", "content": _build_content(route, content)},
            "default": {"$ref": ERROR},
        }
        if route.http_method == "GET" and "etag" in reply.fields_by_name:
            operation["responses"]["304"] = {"description": "The resource has the etag of If-None-Match."}
        operation["x-error-reasons"] = list(method.reasons)
        return operation

    def _build_body(self, request: Descriptor, body: str, bound: set[str]) -> dict[str, Any]:
        """Return the schema of a body. A resource that is created has its required fields, one that is changed none."""
        message: Any = request if body == "*" else request.fields_by_name[body].message_type
        if body != "*" and not request.name.startswith("Create"):
            return self.refer(message)
        name = _get_name(request)
        if name not in self.schemas:
            self.schemas[name] = {}
            fields = [field for field in message.fields if body != "*" or field.name not in bound]
            self.schemas[name] = self._build_object(message, fields, is_request=True)
        return {"$ref": f"#/components/schemas/{name}"}

    def _build_query(self, request: Descriptor, route: Route, bound: set[str]) -> Iterator[dict[str, Any]]:
        """Yield the parameters for the fields that are neither in the path nor in the body."""
        if route.body == "*":
            return
        for field in request.fields:
            if field.name in bound or field.name == route.body:
                continue
            schema = self.refer_field(field)
            if not _has_text_form(field):
                continue
            source = _find_field(field)
            yield {
                "name": to_camel(field.name),
                "in": "query",
                "required": _is_required(source),
                "description": source.comment,
                "schema": schema,
            }

    def refer(self, message: Any) -> dict[str, Any]:
        """Return the schema of a message: a reference, or the text form of a well-known type."""
        known = describe_well_known(message.full_name)
        if known is not None:
            return known
        name = _get_name(message)
        if name not in self.schemas:
            self.schemas[name] = {}
            self.schemas[name] = self._build_object(message, message.fields, is_request=False)
        return {"$ref": f"#/components/schemas/{name}"}

    def refer_field(self, field: Any) -> dict[str, Any]:
        """Return the schema of a field, without its comment."""
        rules = _find_field(field).rules if _find_message(field.containing_type) else None
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            entry: dict[str, Any] = {"type": "object", "additionalProperties": self._refer_value(value)}
            return restrict(entry, rules, kind="map") if rules else entry
        if field.is_repeated:
            inner = restrict(self._refer_value(field), rules.repeated.items if rules else None, kind=_get_kind(field))
            array: dict[str, Any] = {"type": "array", "items": inner}
            return restrict(array, rules, kind="repeated") if rules else array
        return restrict(self._refer_value(field), rules, kind=_get_kind(field))

    def _refer_value(self, field: Any) -> dict[str, Any]:
        if field.message_type is not None:
            return self.refer(field.message_type)
        if field.enum_type is not None:
            return self._refer_enum(field)
        return dict(SCALARS[field.type])

    def _refer_enum(self, field: Any) -> dict[str, Any]:
        name = field.enum_type.name
        if name not in self.schemas:
            enum = CONTRACT.enums[field.enum_type.full_name]
            lines = [f"- `{value.name}`: {value.comment}" for value in enum.values if value.comment]
            self.schemas[name] = {
                "type": "string",
                "enum": [value.name for value in enum.values],
                "description": "\n".join([enum.comment, "", *lines]),
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _build_object(
        self, message: Descriptor, fields: Iterable[FieldDescriptor], *, is_request: bool
    ) -> dict[str, Any]:
        source = _find_message(message)
        properties, required = {}, []
        for field in fields:
            schema = self.refer_field(field)
            found = source.get_field(field.name) if source else None
            if found:
                schema = _annotate(schema, found)
                if is_request and _is_required(found):
                    required.append(to_camel(field.name))
            properties[to_camel(field.name)] = schema
        built: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if source and source.comment:
            built["description"] = source.comment
        if required:
            built["required"] = required
        return built


def _has_text_form(field: Any) -> bool:
    """Return whether a query parameter can set a field."""
    return field.message_type is None or describe_well_known(field.message_type.full_name) is not None


def _annotate(schema: dict[str, Any], field: Field) -> dict[str, Any]:
    """Return the schema with the comment, the bounds in words and the behaviours of its field."""
    text = " ".join(filter(None, (field.comment, describe_bounds(field))))
    return {**schema, **({"description": text} if text else {}), **BEHAVIORS.get(_get_behavior(field), {})}


def _get_behavior(field: Field) -> str:
    return next((name for name in ("OUTPUT_ONLY", "INPUT_ONLY", "IMMUTABLE") if name in field.behaviors), "")


def _is_required(field: Field) -> bool:
    return "REQUIRED" in field.behaviors


def _find_message(message: Descriptor) -> Message | None:
    return CONTRACT.messages.get(message.full_name)


def _find_field(field: Any) -> Field:
    found = CONTRACT.messages[field.containing_type.full_name].get_field(field.name)
    if found is None:
        raise KeyError(field.full_name)
    return found


def _get_name(message: Descriptor) -> str:
    return message.full_name.removeprefix("storekeep.v1.").replace(".", "_")


def _get_kind(field: Any) -> str:
    """Return the name of the rules of a field's type in `buf.validate`."""
    if field.enum_type is not None:
        return "enum"
    kinds = {
        FieldDescriptor.TYPE_INT32: "int32",
        FieldDescriptor.TYPE_INT64: "int64",
        FieldDescriptor.TYPE_STRING: "string",
    }
    return kinds.get(field.type, "")


def _build_path(route: Route) -> tuple[str, list[dict[str, Any]]]:
    """Return the path with one parameter for each `*`, and these parameters."""
    names: dict[int, str] = {}
    parameters = []
    for variable in route.variables:
        field = route.rpc.input_type.fields_by_name.get(variable.field_path.partition(".")[0])
        end = variable.end if variable.end is not None else len(route.segments)
        for index in range(variable.start, end):
            if route.segments[index] not in ("*", "**"):
                continue
            noun = route.segments[index - 1] if index else "name"
            names[index] = _make_singular(noun, taken=set(names.values()))
            pattern = find_segment_pattern(
                field, CONTRACT, variable.field_path, index - variable.start, end - variable.start
            )
            parameters.append(
                {
                    "name": names[index],
                    "in": "path",
                    "required": True,
                    "description": f"The id in `{variable.field_path}`.",
                    "schema": {"type": "string", "pattern": pattern},
                }
            )
    segments = [f"{{{names[index]}}}" if index in names else segment for index, segment in enumerate(route.segments)]
    return "/" + "/".join(segments) + (f":{route.verb}" if route.verb else ""), parameters


def _make_singular(noun: str, *, taken: set[str]) -> str:
    """Return the name of a path parameter: `category` for `categories`."""
    name = re.sub("ies$", "y", noun) if noun.endswith("ies") else noun.removesuffix("s")
    while name in taken:
        name += "Id"
    return name


def _list_headers(route: Route, method: Method) -> list[dict[str, Any]]:
    names = ["RequestTimeout"]
    if "request_id" in route.rpc.input_type.fields_by_name:
        names.append("IdempotencyKey")
    if route.http_method == "GET" and "etag" in route.rpc.output_type.fields_by_name:
        names.append("IfNoneMatch")
    if _takes_etag(route):
        names.append("IfMatch")
    if _is_translated(route.rpc.output_type):
        names.append("AcceptLanguage")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _is_translated(reply: Descriptor) -> bool:
    """Return whether a reply has texts in several languages: it is a translated resource, or a page of them."""
    nested = [field.message_type for field in reply.fields if field.message_type is not None]
    return any("translations" in message.fields_by_name for message in (reply, *nested))


def _takes_etag(route: Route) -> bool:
    request = route.rpc.input_type
    body = request.fields_by_name.get(route.body)
    inner = body.message_type if body is not None else None
    return "etag" in request.fields_by_name or (
        route.http_method == "PATCH" and inner is not None and "etag" in inner.fields_by_name
    )


def _build_content(route: Route, schema: dict[str, Any]) -> dict[str, Any]:
    if route.rpc.server_streaming:
        return {"application/x-ndjson": {"schema": schema}, "text/event-stream": {"schema": schema}}
    return {"application/json": {"schema": schema}}


def _build_header(name: str, text: str, length_max: int) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string", "maxLength": length_max}}


def _build_error_response() -> dict[str, Any]:
    return {
        "description": "The call failed (AIP-193). The HTTP status follows from the gRPC code.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _build_error_schema() -> dict[str, Any]:
    detail = {
        "type": "object",
        "properties": {
            "@type": {"type": "string"},
            "reason": {"type": "string", "enum": sorted(reason.name for reason in CONTRACT.reasons)},
            "domain": {"type": "string"},
        },
        "required": ["@type"],
    }
    error = {
        "type": "object",
        "properties": {
            "code": {"type": "integer", "description": "The HTTP status."},
            "status": {"type": "string", "description": "The name of the gRPC code, such as `NOT_FOUND`."},
            "message": {"type": "string"},
            "details": {"type": "array", "items": detail},
        },
        "required": ["code", "status", "message"],
    }
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
