"""What a request says about the call itself: who, by which id, only to try, until when."""

from __future__ import annotations

import hashlib
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from storekeep.server.domain.calls import Call
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.transport.rpc import CURRENT


class Listing(Protocol):
    """A request of a List method; `parent` and `show_deleted` are there only with some."""

    page_size: int
    page_token: str
    filter: str
    order_by: str


M = TypeVar("M", bound=Message)


def call_of(request: Message) -> Call:
    """The call that this thread serves, with what the request adds to it."""
    rpc = CURRENT.get()
    request_id: str = request.request_id  # type: ignore[attr-defined]  # mutations have both fields
    validate_only: bool = request.validate_only  # type: ignore[attr-defined]
    return Call(
        caller=rpc.caller,
        method=rpc.method,
        request_id=request_id,
        fingerprint=fingerprint_of(request, validate_only=validate_only) if request_id else b"",
        validate_only=validate_only,
        deadline=rpc.deadline,
    )


def trial_call() -> Call:
    """The call that this thread serves, where it only asks what a change would be."""
    rpc = CURRENT.get()
    return Call(caller=rpc.caller, method=rpc.method, validate_only=True, deadline=rpc.deadline)


def fingerprint_of(request: M, *, validate_only: bool) -> bytes:
    """SHA-256 of what is asked for; a trial has the fingerprint of the real thing."""
    if validate_only:
        real = type(request)()
        real.CopyFrom(request)
        real.validate_only = False  # type: ignore[attr-defined]
        request = real
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def list_request_of(request: Listing, *, parent: str = "") -> ListRequest:
    """What a List request asks for."""
    return ListRequest(
        page_size=request.page_size,
        page_token=request.page_token,
        filter=request.filter,
        order_by=request.order_by,
        show_deleted=getattr(request, "show_deleted", False),
        parent=parent,
    )
