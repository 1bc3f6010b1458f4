"""Builds the domain's `Call` and `ListRequest` from the current RPC and its request."""

from __future__ import annotations

import hashlib
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from storekeep.server.domain.calls import Call
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.transport.rpc import CURRENT


class ListMessage(Protocol):
    """A request of a List method; only some have `parent` and `show_deleted`."""

    page_size: int
    page_token: str
    filter: str
    order_by: str


M = TypeVar("M", bound=Message)


def build_call(request: Message) -> Call:
    """Build the `Call` of the current RPC, with the `request_id` and `validate_only` of its request."""
    rpc = CURRENT.get()
    request_id: str = request.request_id  # type: ignore[attr-defined]  # all mutations have both fields
    validate_only: bool = request.validate_only  # type: ignore[attr-defined]
    return Call(
        caller=rpc.caller,
        method=rpc.method,
        request_id=request_id,
        fingerprint=compute_fingerprint(request, validate_only=validate_only) if request_id else b"",
        validate_only=validate_only,
        deadline=rpc.deadline,
        on_replay=rpc.mark_replayed,
    )


def build_dry_run_call() -> Call:
    """Build the `Call` of the current RPC as a dry run (`validate_only`)."""
    rpc = CURRENT.get()
    return Call(caller=rpc.caller, method=rpc.method, validate_only=True, deadline=rpc.deadline)


def compute_fingerprint(request: M, *, validate_only: bool) -> bytes:
    """Compute the SHA-256 of a request without `validate_only`: a dry run has the same fingerprint as the real call."""
    if validate_only:
        real_request = type(request)()
        real_request.CopyFrom(request)
        real_request.validate_only = False  # type: ignore[attr-defined]
        request = real_request
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def build_list_request(request: ListMessage, *, parent: str = "") -> ListRequest:
    """Build the `ListRequest` of a List method's request."""
    return ListRequest(
        page_size=request.page_size,
        page_token=request.page_token,
        filter=request.filter,
        order_by=request.order_by,
        show_deleted=getattr(request, "show_deleted", False),
        parent=parent,
    )
