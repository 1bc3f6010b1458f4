"""The layer that parses a request and holds it to the constraints of the contract, the cheapest of them first."""

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
Find = Callable[..., list[Violation]]


def validate_requests(*, message_size_max_bytes: int) -> Layer:
    """The layer. gRPC hands it the raw bytes, so that a refusal to parse them gets a reason like any other."""
    validator = protovalidate.Validator()

    def layer(method: Method, serve: Step) -> Step:
        find = Violations(method.request_type.DESCRIPTOR, validator).find
        check_bounds = WireBounds(method.request_type.DESCRIPTOR).check
        parse: Callable[[bytes], Message] = method.request_type.FromString
        updated = updated_field(method.request_type)

        def validated(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            if len(raw) > message_size_max_bytes:
                raise MessageTooLarge(len(raw), size_max_bytes=message_size_max_bytes)
            check_bounds(raw)
            try:
                request = parse(raw)
            except (DecodeError, UnicodeDecodeError):
                raise MalformedMessage from None
            if updated:
                violations = _of_update(request, updated, find, has_null=NULL in raw)
            else:
                violations = find(request, has_null=NULL in raw)
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


def _of_update(request: Any, updated: str, find: Find, *, has_null: bool) -> list[Violation]:
    """The violations that matter to an update: fields that it does not change need not be there.

    The name must be: the contract cannot require it, as a creation leaves it out.
    """
    resource = getattr(request, updated)
    paths = set(request.update_mask.paths) or {field.name for field, _ in resource.ListFields()}
    changed = {f"{updated}.{path.partition('.')[0]}" for path in [*paths, "name", "etag"]}

    def matters(field: str) -> bool:
        return not field.startswith(f"{updated}.") or "*" in paths or _top(field) in changed

    violations = find(request, has_null=has_null, matters=matters)
    if not resource.name:
        violations.append((f"{updated}.name", "an update needs the name of what it changes"))
    return violations


def _top(field: str) -> str:
    """The first two parts of a field path, without a subscript: `product.labels["a"]` -> `product.labels`."""
    return ".".join(re.split(r"[.\[]", field)[:2])
