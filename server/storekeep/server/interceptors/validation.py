"""The innermost layer: parses the request and holds it to the constraints that stand in the contract."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.rpc import Method, Rpc
from storekeep.server.interceptors.transport_errors import InvalidFields, MalformedMessage, MessageTooLarge


def validate_requests(*, message_size_max_bytes: int) -> Layer:
    """The layer. gRPC hands it the raw bytes, so that a refusal to parse them gets a reason like any other."""
    validator = protovalidate.Validator()

    def layer(method: Method, serve: Step) -> Step:
        parse: Callable[[bytes], Message] = method.request_type.FromString
        updated = updated_field(method.request_type)

        def validated(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            if len(raw) > message_size_max_bytes:
                raise MessageTooLarge(len(raw), size_max_bytes=message_size_max_bytes)
            try:
                request = parse(raw)
            except (DecodeError, UnicodeDecodeError):
                raise MalformedMessage from None
            violations = [_describe(violation) for violation in validator.collect_violations(request)]
            if updated:
                violations = _of_update(request, updated, violations)
            if violations:
                raise InvalidFields(violations)
            return serve(request, context, rpc)

        return validated

    return layer


def updated_field(request_type: type[Message]) -> str:
    """The field that holds the resource, in the request of an update (AIP-134); empty for other requests."""
    fields = request_type.DESCRIPTOR.fields
    if all(field.name != "update_mask" for field in fields):
        return ""
    return next(field.name for field in fields if field.message_type and field.name != "update_mask")


def _of_update(request: Any, updated: str, violations: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The violations that matter to an update: fields that it does not change need not be there.

    The name must be: the contract cannot require it, as a creation leaves it out.
    """
    resource = getattr(request, updated)
    paths = set(request.update_mask.paths) or {field.name for field, _ in resource.ListFields()}
    changed = {f"{updated}.{path.partition('.')[0]}" for path in [*paths, "name", "etag"]}
    if not resource.name:
        violations = [*violations, (f"{updated}.name", "an update needs the name of what it changes")]
    return [
        (field, problem)
        for field, problem in violations
        if not field.startswith(f"{updated}.") or "*" in paths or _top(field) in changed
    ]


def _top(field: str) -> str:
    """The first two parts of a field path, without a subscript: `product.labels["a"]` -> `product.labels`."""
    return ".".join(re.split(r"[.\[]", field)[:2])


def _describe(violation: protovalidate.Violation) -> tuple[str, str]:
    """(field path as `lines[0].sku`, what is wrong) of one violation."""
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{subscript.value}]"
    return path, violation.proto.message or violation.proto.rule_id
