"""The layer that parses a request and validates it against the contract, cheapest checks first."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.violations import Violation, Violations
from storekeep.server.interceptors.wire_bounds import WireBounds
from storekeep.server.transport.errors import InvalidFields, MalformedMessage, MessageTooLarge
from storekeep.server.transport.rpc import Method, Rpc

NULL = b"\0"
FindViolations = Callable[..., list[Violation]]


def validate_requests(*, message_size_max_bytes: int) -> Layer:
    """Return the layer. It gets the raw bytes from gRPC, so that a parse error has an error reason like any other.

    Raises: on a call, MessageTooLarge, MalformedMessage, InvalidFields.
    """
    validator = protovalidate.Validator()

    def layer(method: Method, serve: Step) -> Step:
        find = Violations(method.request_type.DESCRIPTOR, validator).find
        check_bounds = WireBounds(method.request_type.DESCRIPTOR).check
        parse: Callable[[bytes], Message] = method.request_type.FromString
        updated_field = find_updated_field(method.request_type)

        def validate(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            if len(raw) > message_size_max_bytes:
                raise MessageTooLarge(len(raw), size_max_bytes=message_size_max_bytes)
            check_bounds(raw)
            try:
                request = parse(raw)
            except (DecodeError, UnicodeDecodeError):
                raise MalformedMessage from None
            if updated_field:
                violations = _check_update(request, updated_field, find, has_null=NULL in raw)
            else:
                violations = find(request, has_null=NULL in raw)
            if violations:
                raise InvalidFields(violations)
            return serve(request, context, rpc)

        return validate

    return layer


def find_updated_field(request_type: type[Message]) -> str:
    """Return the field that holds the resource of an update request (AIP-134); empty for other requests."""
    fields = request_type.DESCRIPTOR.fields
    if all(field.name != "update_mask" for field in fields):
        return ""
    return next(field.name for field in fields if field.message_type and field.name != "update_mask")


def _check_update(request: Any, updated_field: str, find: FindViolations, *, has_null: bool) -> list[Violation]:
    """Return the violations in the fields that an update changes; its other fields may be absent.

    The name is required here: the contract cannot require it, because a create request omits it.
    """
    resource = getattr(request, updated_field)
    paths = set(request.update_mask.paths) or {field.name for field, _ in resource.ListFields()}
    changed = {f"{updated_field}.{path.partition('.')[0]}" for path in [*paths, "name", "etag"]}

    def is_relevant(field: str) -> bool:
        return not field.startswith(f"{updated_field}.") or "*" in paths or _strip_path(field) in changed

    violations = find(request, has_null=has_null, is_relevant=is_relevant)
    if not resource.name:
        violations.append((f"{updated_field}.name", "an update must name the resource"))
    return violations


def _strip_path(field: str) -> str:
    """Return the first two parts of a field path, without a subscript: `product.labels["a"]` -> `product.labels`."""
    return ".".join(re.split(r"[.\[]", field)[:2])
