"""Errors of the server in the words of HTTP: fields as JSON has them, and headers instead of metadata.

The server names fields as the contract does, from the top of the request message. A caller over HTTP has sent them in
the path, the query or the body. What a caller has written is left alone, and so are filters and sort orders, whose
language has the names of the contract.
"""

from __future__ import annotations

import re
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2, status_pb2

from storekeep.gateway.routes import Route, list_services

KEYS = re.compile(r"(\[[^\]]*\])")
"""The key of a map in a path of fields."""
HEAD = re.compile(r"[a-z0-9_]+(?=[:,] )")
"""The field that a text starts with."""
QUOTED = re.compile(r"('[^']*'|\"[^\"]*\")")
SNAKE = re.compile(r"(?<![\w/-])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w/-])")
AFTER_UNDERSCORE = re.compile(r"_([a-z0-9])")
MASKS = ("read_mask", "update_mask")
"""Parameters whose values are names of fields. The server has got them in its own spelling."""
OWN_LANGUAGE = frozenset({"INVALID_FILTER", "INVALID_ORDER_BY"})
"""Reasons whose texts have names that are valid in this spelling only."""
FIELD_KEYS = ("allowed", "field", "path")
"""Metadata of an error that names fields."""
WORDS = (
    ("the metadata `authorization: Bearer TOKEN`", "the header `Authorization: Bearer TOKEN`"),
    ("the authorization metadata", "the header Authorization"),
    ("the metadata of the call", "the headers of the request"),
    ("the call has", "the request has"),
    ("with a token from IssueToken", "with an API key or an access token"),
)


def to_json_name(name: str) -> str:
    """Return the name of a field in JSON: `displayName` for `display_name`."""
    return AFTER_UNDERSCORE.sub(lambda match: match[1].upper(), name)


def to_json_path(path: str) -> str:
    """Return a path of fields with the names of JSON. Keys of maps stay as they are."""
    return "".join(part if KEYS.fullmatch(part) else to_json_name(part) for part in KEYS.split(path))


def find_place(path: str, route: Route) -> tuple[str, str]:
    """Return what a caller of the route has written a field as: what it is, and its name.

    Args:
        path: the field in the contract, such as `product.labels["a"]`.
        route: the route that was called.
    """
    name = to_json_path(path)
    if any(path == variable.field_path for variable in route.variables):
        return "path", name.rpartition(".")[2]
    if route.body == "*":
        return "field", name
    rest = path.removeprefix(route.body) if route.body else path
    if rest != path and rest[:1] in (".", "[", ""):
        return "field", to_json_path(rest.removeprefix(".")) or name
    return "parameter", name


def rephrase(status: status_pb2.Status, route: Route) -> None:
    """Write the texts and details of a status for a caller of the route."""
    reason, head = "", HEAD.match(status.message)
    if head and head[0] in route.rpc.input_type.fields_by_name:
        status.message = " ".join(find_place(head[0], route)) + status.message[head.end() :]
    for packed in status.details:
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if packed.Unpack(info):
            reason = info.reason
            _rephrase_info(info)
            packed.Pack(info)
        elif packed.Unpack(request):
            _rephrase_violations(status, request, route)
            packed.Pack(request)
    if reason not in OWN_LANGUAGE:
        status.message = _rename_fields(status.message, whole=reason == "INVALID_UPDATE_MASK")
    for theirs, ours in WORDS:
        status.message = status.message.replace(theirs, ours)


def _rephrase_info(info: error_details_pb2.ErrorInfo) -> None:
    for key in FIELD_KEYS:
        if key in info.metadata:
            info.metadata[key] = SNAKE.sub(_to_json, info.metadata[key])
    if "problem" in info.metadata and info.reason not in OWN_LANGUAGE:
        info.metadata["problem"] = _rename_fields(info.metadata["problem"], whole=False)


def _rephrase_violations(status: status_pb2.Status, request: error_details_pb2.BadRequest, route: Route) -> None:
    for violation in request.field_violations:
        place, name = find_place(violation.field, route)
        before, found, after = f"; {status.message}".partition(f"; {violation.field}: ")
        if found:
            status.message = f"{before}; {place} {name}: {after}".removeprefix("; ")
        violation.description = _rename_fields(violation.description, whole=violation.field in MASKS)
        violation.field = name


def _rename_fields(text: str, *, whole: bool) -> str:
    """Return a text with the fields of the contract as JSON has them.

    Args:
        whole: also in quotes, because they have names of fields and no text of the caller.
    """
    parts = [text] if whole else QUOTED.split(text)
    return "".join(part if part[:1] in "'\"" and not whole else SNAKE.sub(_to_json, part) for part in parts)


def _to_json(match: re.Match[str]) -> str:
    return to_json_name(match[0]) if match[0] in _list_names() else match[0]


@cache
def _list_names() -> frozenset[str]:
    """Return the names of all fields that a request or reply of the contract can have."""
    names, seen = set(), set()
    waiting: list[Descriptor] = [
        kind for service in list_services() for rpc in service.methods for kind in (rpc.input_type, rpc.output_type)
    ]
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        names |= {field.name for field in message.fields}
        waiting += [field.message_type for field in message.fields if field.message_type is not None]
    return frozenset(names)
