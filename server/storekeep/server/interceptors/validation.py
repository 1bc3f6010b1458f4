"""The innermost layer: parses the request and holds it to the constraints that stand in the contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.rpc import Method, Rpc
from storekeep.server.interceptors.transport_errors import InvalidFields, MalformedMessage, MessageTooLarge

NULL = b"\0"
ASKED = frozenset({"currency_code", "etag", "filter", "order_by", "page_token", "query", "update_mask"})
"""Fields whose text is read and not kept: what they may be has errors of its own."""


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
            if NULL in raw:  # most have none; in others it may also be part of a number
                violations = _with_nulls(request, violations)
            if updated:
                violations = _of_update(request, updated, violations)
            if violations:
                raise InvalidFields(violations)
            return serve(request, context, rpc)

        return validated

    return layer


def _with_nulls(request: Message, violations: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The violations, and one for each text with U+0000 that has none: PostgreSQL cannot store it."""
    told = {field for field, _ in violations}
    found = [path for path in _texts_with_null(request, "") if path not in told]
    return [*violations, *((path, "text must not have the character U+0000") for path in found)]


def _texts_with_null(message: Message, path: str) -> Iterator[str]:
    """The paths of the texts in a message that have U+0000, be it in the key of a map."""
    for field, value in message.ListFields():
        if field.name in ASKED:
            continue
        here = f"{path}.{field.name}" if path else field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            parts = [(f'{here}["{key}"]', text) for key, one in value.items() for text in (key, one)]
        elif field.is_repeated:
            parts = [(f"{here}[{number}]", one) for number, one in enumerate(value)]
        else:
            parts = [(here, value)]
        for at, one in parts:
            if isinstance(one, Message):
                yield from _texts_with_null(one, at)
            elif isinstance(one, str) and "\0" in one:
                yield at.replace("\0", "\\0")


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
