"""Read masks (AIP-157): a read with a `read_mask` returns only the fields of its resources that the mask names.

A mask applies to each resource of a reply. Other fields of the reply, such as `next_page_token`, are always returned.
A call without a mask costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from storekeep.server.domain.errors import InvalidField
from storekeep.server.interceptors.chain import Step
from storekeep.server.transport.rpc import Method, Rpc

FIELD = "read_mask"
ALL = "*"
Mask = dict[str, "Mask"]
"""The fields to keep, each with the mask of its own fields. An empty mask keeps all."""


def apply_read_masks(method: Method, serve: Step) -> Step:
    """Return the layer of a method; the next step itself if its request has no mask."""
    if method.response_type is None or FIELD not in method.request_type.DESCRIPTOR.fields_by_name:
        return serve
    items, resource = find_resource(method.response_type.DESCRIPTOR)

    def read(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        if not request.HasField(FIELD):
            return serve(request, context, rpc)
        mask = parse_read_mask(request.read_mask.paths, resource)
        reply = method.parse_reply(serve(request, context, rpc))
        for message in getattr(reply, items) if items else (reply,):
            _keep(message, mask)
        return reply

    return read


def find_resource(response: Any) -> tuple[str, Any]:
    """Return the repeated field with the resources of a reply, and their type; no field if the reply is the resource.

    Raises: ValueError if a reply has several such fields or none.
    """
    if not response.name.endswith("Response"):
        return "", response
    (field,) = (field for field in response.fields if field.is_repeated and field.message_type)
    return field.name, field.message_type


def parse_read_mask(paths: Sequence[str], resource: Descriptor) -> Mask:
    """Parse the paths of a mask, such as `lines.sku` or `labels.color`. No paths, and `*`, keep all fields.

    Raises: InvalidField for the first path that the resource does not have.
    """
    mask: Mask = {}
    whole: list[Mask] = []
    for path in paths:
        if path == ALL:
            whole.append(mask)
            continue
        parent = mask
        for name in _split_path(path, resource):
            parent = parent.setdefault(name, {})
        whole.append(parent)
    for node in whole:  # last, because a path to a whole field may come before or after a path into it
        node.clear()
    return mask


def _split_path(path: str, resource: Descriptor) -> Iterable[str]:
    """Return the names in a path. The rest of the path after a map is one of its keys.

    Raises: InvalidField.
    """
    names: list[str] = []
    descriptor: Descriptor | None = resource
    rest = path
    while rest:
        name, _, rest = rest.partition(".")
        field = None if descriptor is None else descriptor.fields_by_name.get(name)
        if field is None or path.endswith("."):
            raise InvalidField(FIELD, f"{resource.name} has no field {path[:100]!r}")
        names.append(name)
        descriptor = field.message_type
        if _is_map(field) and rest:
            return [*names, rest]
    if not names:
        raise InvalidField(FIELD, "a path must not be empty")
    return names


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _keep(message: Message, mask: Mask) -> None:
    """Clear the fields of a message that a mask does not keep."""
    if not mask:
        return
    for field, value in message.ListFields():
        inner = mask.get(field.name)
        if inner is None:
            message.ClearField(field.name)
        elif inner and _is_map(field):
            for key in set(value) - inner.keys():
                del value[key]
        elif inner:
            for part in value if field.is_repeated else (value,):
                _keep(part, inner)
