"""The OpenAPI 3.1 description of the gateway's REST API, from the descriptors and comments of the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from contract import Method, read_contract
from google.protobuf.descriptor import Descriptor

from docs.pages.openapi_examples import add_example
from docs.pages.openapi_replies import HEADERS as REPLY_HEADERS
from docs.pages.openapi_replies import build_components, build_error_schema, build_responses
from docs.pages.openapi_rules import describe_bounds, describe_well_known, find_segment_pattern, to_camel
from docs.pages.openapi_schemas import Schemas, Use, is_field_required
from storekeep.gateway.headers import takes_etag
from storekeep.gateway.routes import Route, build_routes
from storekeep.gateway.streams import find_items

CONTRACT = read_contract()
HEADERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "IdempotencyKey": (
        "Idempotency-Key",
        "Makes a retry safe: the same key has one effect and gets the same reply. Send it or `requestId`.",
        {"minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    ),
    "IfMatch": (
        "If-Match",
        "The etag of the resource in quotes. If it has changed, the call is refused with 412. `*` is no condition.",
        {"pattern": '^("[!#-~]{1,192}"|[*])$'},
    ),
    "IfNoneMatch": (
        "If-None-Match",
        "Etags that the caller has. If one of them is current, the reply is 304 without a body.",
        {},
    ),
    "RequestTimeout": (
        "X-Request-Timeout",
        "Deadline of the call in seconds, such as `2.5`.",
        {"pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?s?$"},
    ),
    "LastEventId": (
        "Last-Event-ID",
        "The id of the last server-sent event: the stream continues after it. Browsers send it by themselves.",
        {"maxLength": 200},
    ),
    "AcceptLanguage": ("Accept-Language", "Languages of the texts in the reply (RFC 9110).", {}),
}
_STREAM = (
    "The items, one on each line, or as the data of server-sent events whose id is the cursor. In between, lines with "
    "a cursor only, or comments with an id, show that the stream is alive. An error after the first item is the last "
    "line, or an event `error`."
)
_HEARTBEAT: dict[str, Any] = {
    "type": "object",
    "description": "Where to continue.",
    "properties": {"cursor": {"type": "string"}},
    "required": ["cursor"],
    "additionalProperties": False,
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
            "headers": REPLY_HEADERS,
            "responses": build_components(),
            "schemas": dict(sorted(builder.schemas.items())) | {"Error": build_error_schema()},
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
    """Builds operations."""

    def __init__(self) -> None:
        self._schemas = Schemas()
        self.schemas = self._schemas.schemas

    def build_operation(self, route: Route, method: Method, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the operation of a route."""
        request, reply = route.rpc.input_type, route.rpc.output_type
        bound = {variable.field_path for variable in route.variables}
        operation: dict[str, Any] = {
            "operationId": route.rpc.name,
            "tags": [method.service],
            "summary": method.comment.partition(". ")[0].partition(" Errors:")[0].rstrip("."),
            "description": f"{method.comment}\n\nPermission: {method.permission}.",
            "parameters": [*parameters, *self._build_query(request, route, bound), *_list_headers(route)],
        }
        if method.permission == "public":
            operation["security"] = []
        if route.body:
            schema = self._build_body(request, route, bound)
            operation["requestBody"] = {
                "required": self._schemas.has_required(schema),
                "content": {"application/json": {"schema": schema}},
            }
        items = find_items(reply) if route.rpc.server_streaming else None
        if route.response_body:
            content = self._schemas.refer_field(reply.fields_by_name[route.response_body], Use.REPLY)
        else:
            content = self._schemas.refer(reply, Use.REPLY)
        if items is not None:
            content = {"oneOf": [self._schemas.refer(items.message_type, Use.REPLY), _HEARTBEAT]}
        operation["responses"] = build_responses(
            route,
            method,
            _build_content(route, content),
            description="The reply." if items is None else _STREAM,
            has_etag="etag" in reply.fields_by_name,
            takes_etag=takes_etag(route),
        )
        operation["x-error-reasons"] = list(method.reasons)
        add_example(operation, route)
        return operation

    def _build_body(self, request: Descriptor, route: Route, bound: set[str]) -> dict[str, Any]:
        """Return the schema of a body. A resource that is created has its required fields, one that is changed none."""
        if route.body == "*":
            fields = [field for field in request.fields if field.name not in bound]
            return self._schemas.refer_body(request, fields)
        is_changed = "update_mask" in request.fields_by_name
        message = request.fields_by_name[route.body].message_type
        return self._schemas.refer(message, Use.CHANGE if is_changed else Use.REQUEST)

    def _build_query(self, request: Descriptor, route: Route, bound: set[str]) -> Iterator[dict[str, Any]]:
        """Yield the parameters for the fields that are neither in the path nor in the body."""
        if route.body == "*":
            return
        for field in request.fields:
            if field.name in bound or field.name == route.body or not _has_text_form(field):
                continue
            source = CONTRACT.messages[request.full_name].get_field(field.name)
            if source is None:
                raise KeyError(field.full_name)
            yield {
                "name": field.json_name,
                "in": "query",
                "required": is_field_required(source, field),
                "description": " ".join(filter(None, (source.comment, describe_bounds(source)))),
                "schema": _make_textual(self._schemas.refer_field(field, Use.REQUEST)),
            }


def _has_text_form(field: Any) -> bool:
    """Return whether a query parameter can set a field."""
    return field.message_type is None or describe_well_known(field.message_type.full_name) is not None


def _make_textual(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: an integer is one, without the text that a body may have for it."""
    if isinstance(schema.get("type"), list):
        return {key: value for key, value in schema.items() if key != "pattern"} | {"type": "integer"}
    return schema


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


def _list_headers(route: Route) -> list[dict[str, Any]]:
    names = ["LastEventId" if route.rpc.server_streaming else "RequestTimeout"]
    if "request_id" in route.rpc.input_type.fields_by_name:
        names.append("IdempotencyKey")
    if route.http_method == "GET" and "etag" in route.rpc.output_type.fields_by_name:
        names.append("IfNoneMatch")
    if takes_etag(route):
        names.append("IfMatch")
    if _is_translated(route.rpc.output_type):
        names.append("AcceptLanguage")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _is_translated(reply: Descriptor) -> bool:
    """Return whether a reply has texts in several languages: it is a translated resource, or a page of them."""
    nested = [field.message_type for field in reply.fields if field.message_type is not None]
    return any("translations" in message.fields_by_name for message in (reply, *nested))


def _build_content(route: Route, schema: dict[str, Any]) -> dict[str, Any]:
    if route.rpc.server_streaming:
        return {"application/x-ndjson": {"schema": schema}, "text/event-stream": {"schema": schema}}
    return {"application/json": {"schema": schema}}


def _build_header(name: str, text: str, rules: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string", **rules}}
