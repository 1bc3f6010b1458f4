"""Personal data: callers without the permission `customers.personal.read` get masked values, and send none.

They cannot filter or sort by personal fields, cannot write a masked value back, and do not learn from a dry run whether
they guessed a value: its reply has no etag. What other callers get is counted, so that the audit log can record those
who get much.
"""

from __future__ import annotations

from typing import Any

import grpc

from storekeep.server.domain.errors import InvalidField
from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.read_masks import ALL, find_resource
from storekeep.server.interceptors.read_masks import FIELD as READ_MASK
from storekeep.server.telemetry.personal_reads import PersonalReader, PersonalReads
from storekeep.server.transport.personal_data import (
    MASK,
    RESOURCES,
    clear_versions,
    count_personal,
    find_masked_path,
    has_personal_data,
    is_recorded,
    list_personal_paths,
    mask_message,
)
from storekeep.server.transport.rpc import Method, Rpc


def mask_personal_data(reads: PersonalReads) -> Layer:
    """Return the layer.

    Args:
        reads: Counts what callers with the permission get in bulk.
    """

    def layer(method: Method, serve: Step) -> Step:
        if method.is_stream:  # its replies are masked and counted where they are made, once for all watchers
            return serve
        return _mask_replies(method, _count_resources(method, serve, reads))

    return layer


def _count_resources(method: Method, serve: Step, reads: PersonalReads) -> Step:
    """Return a step that counts the resources in a reply; the next step itself if a reply never has any.

    A resource that the call changed does not count: it is in the audit log already. One that a dry run, a retry or a
    change to what it was returns has no entry, and counts.
    """
    if method.response_type is None or not has_personal_data(method.response_type.DESCRIPTOR):
        return serve
    always_one = issubclass(method.response_type, RESOURCES)
    masked = _list_masked_fields(method)

    def count(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        reply = serve(request, context, rpc)
        caller = rpc.caller
        if caller.reads_personal_data and (not masked or _asks_for(request, masked)):
            if always_one and (not rpc.recorded or is_recorded(reply, rpc.recorded)):  # its bytes need not be parsed
                resources = 0 if rpc.recorded else 1
            else:
                resources = count_personal(method.parse_reply(reply), recorded=rpc.recorded)
            if resources:
                reads.add(PersonalReader(caller.subject, caller.api_key, caller.session_id, method.name), resources)
        return reply

    return count


def _list_masked_fields(method: Method) -> frozenset[str]:
    """Return the paths in read masks of a method that ask for personal data; empty if its requests have no mask."""
    if method.response_type is None or READ_MASK not in method.request_type.DESCRIPTOR.fields_by_name:
        return frozenset()
    _, resource = find_resource(method.response_type.DESCRIPTOR)
    return frozenset({path.partition(".")[0] for path in list_personal_paths(resource)} | {ALL})


def _asks_for(request: Any, fields: frozenset[str]) -> bool:
    """Return whether the read mask of a request names one of the fields, or none."""
    paths = request.read_mask.paths
    return not paths or any(path.partition(".")[0] in fields for path in paths)


def _mask_replies(method: Method, serve: Step) -> Step:
    """Return the step that masks; the next step itself if neither the request nor the reply has personal data."""
    if method.response_type is None or method.is_public:
        return serve
    request_type, response_type = method.request_type.DESCRIPTOR, method.response_type.DESCRIPTOR
    replies = has_personal_data(response_type)
    if not replies and not has_personal_data(request_type):
        return serve
    hidden = _list_hidden_fields(response_type)
    can_be_dry = "validate_only" in request_type.fields_by_name and has_personal_data(request_type)

    def mask(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        if rpc.caller.reads_personal_data:
            return serve(request, context, rpc)
        path = find_masked_path(request)
        if path:
            raise InvalidField(path, f"must not be {MASK}, which replaces a value that you may not read")
        rpc.hidden_fields = hidden
        reply = serve(request, context, rpc)
        if replies:
            reply = method.parse_reply(reply)
            mask_message(reply)
            if can_be_dry and request.validate_only:
                clear_versions(reply)
        return reply

    return mask


def _list_hidden_fields(response: Any) -> frozenset[str]:
    """Return the personal fields of the resources in a reply, by their paths in filters."""
    return frozenset(
        path
        for field in response.fields
        if field.is_repeated and field.message_type is not None
        for path in list_personal_paths(field.message_type)
    )
