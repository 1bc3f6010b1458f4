"""The layer that parses a request and validates it against the contract, cheapest checks first."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.violations import VIOLATIONS_MAX, Violation, Violations
from storekeep.server.interceptors.wire_bounds import WireBounds
from storekeep.server.transport.errors import InvalidFields, MalformedMessage, MessageTooLarge
from storekeep.server.transport.rpc import Method, Rpc

NULL = b"\0"
VALIDATOR = protovalidate.Validator()
"""Compiles the rules of a message type when it first validates one, and keeps them. Thread-safe."""
FindViolations = Callable[..., list[Violation]]
NO_NAME = "an update must name the resource"
STAND_IN = "x"
"""The value of required texts that an item of a batch does not change, and the id in names, while it is validated."""


def validate_requests(*, message_size_max_bytes: int) -> Layer:
    """Return the layer. It gets the raw bytes from gRPC, so that a parse error has an error reason like any other.

    Raises: on a call, MessageTooLarge, MalformedMessage, InvalidFields.
    """

    def layer(method: Method, serve: Step) -> Step:
        find = Violations(method.request_type.DESCRIPTOR, VALIDATOR).find
        check_bounds = WireBounds(method.request_type.DESCRIPTOR).check
        parse: Callable[[bytes], Message] = method.request_type.FromString
        updated_field = find_updated_field(method.request_type)
        batched_field = find_batched_field(method.request_type)
        updates = BatchUpdates(method.request_type, batched_field, VALIDATOR) if batched_field else None

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
            elif updates is not None:
                violations = updates.find(request, has_null=NULL in raw)
            else:
                violations = find(request, has_null=NULL in raw)
            if violations:
                raise InvalidFields(violations)
            return serve(request, context, rpc)

        return validate

    return layer


def find_updated_field(request_type: type[Message]) -> str:
    """Return the field that holds the resource of an update request (AIP-134); empty for other requests."""
    return _find_resource_field(request_type.DESCRIPTOR)


def _find_resource_field(descriptor: Any) -> str:
    names: list[str] = [field.name for field in descriptor.fields if field.message_type is not None]
    return next(name for name in names if name != "update_mask") if "update_mask" in names else ""


def find_batched_field(request_type: type[Message]) -> str:
    """Return the field that holds the resource of each item of a batch update (AIP-234); empty for other requests."""
    items = request_type.DESCRIPTOR.fields_by_name.get("requests")
    return "" if items is None or items.message_type is None else _find_resource_field(items.message_type)


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
        violations.append((f"{updated_field}.name", NO_NAME))
    return violations


def _make_stand_in(field: str, *, is_reference: bool) -> str:
    """Return a valid text for a required field. A field `product` is a reference to one of `products`."""
    collection = f"{field}s"
    return f"{collection}/{STAND_IN}" if is_reference else STAND_IN


class BatchUpdates:
    """Validates the items of a batch update (AIP-234) in the fields that they change; see `_check_update`.

    The validator makes an object for each violation. So it gets a copy without the fields that an item does not change:
    a thousand irrelevant violations would take half a second.

    Args:
        request_type: the type of the request.
        updated_field: the field of an item that holds its resource.
        validator: may be shared.
    """

    def __init__(self, request_type: type[Message], updated_field: str, validator: protovalidate.Validator) -> None:
        self._updated_field = updated_field
        items: Any = request_type.DESCRIPTOR.fields_by_name["requests"].message_type
        resource = GetMessageClass(items.fields_by_name[updated_field].message_type)()
        self._find = Violations(request_type.DESCRIPTOR, validator).find
        find = Violations(resource.DESCRIPTOR, validator).find
        required = [field for field, _ in find(resource, has_null=False)]
        for name in required:
            setattr(resource, name, STAND_IN)
        references = {field for field, _ in find(resource, has_null=False)}
        self._stand_ins = {name: _make_stand_in(name, is_reference=name in references) for name in required}

    def find(self, request: Any, *, has_null: bool) -> list[Violation]:
        """Return at most `VIOLATIONS_MAX` violations."""
        changes = type(request)()
        changes.CopyFrom(request)
        for item in changes.requests:
            if "*" not in item.update_mask.paths and item.HasField(self._updated_field):
                self._clear_unchanged(item)
        violations = self._find(changes, has_null=has_null)
        unnamed = (index for index, item in enumerate(request.requests) if not self._get_resource(item).name)
        violations += (
            (f"requests[{index}].{self._updated_field}.name", NO_NAME)
            for index in itertools.islice(unnamed, VIOLATIONS_MAX - len(violations))
        )
        return violations

    def _clear_unchanged(self, item: Any) -> None:
        """Clear the fields that an item does not change, and fill required texts."""
        resource = self._get_resource(item)
        changed = {path.partition(".")[0] for path in item.update_mask.paths}
        if changed:
            for field, _ in resource.ListFields():
                if field.name not in changed and field.name not in ("name", "etag"):
                    resource.ClearField(field.name)
        for name, text in self._stand_ins.items():
            if name not in changed and not getattr(resource, name):
                setattr(resource, name, text)

    def _get_resource(self, item: Any) -> Any:
        return getattr(item, self._updated_field)


def _strip_path(field: str) -> str:
    """Return the first two parts of a field path, without a subscript: `product.labels["a"]` -> `product.labels`."""
    return ".".join(re.split(r"[.\[]", field)[:2])
