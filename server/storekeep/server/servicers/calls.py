"""Builds the domain's `Call` and `ListRequest` from the current RPC and its request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from storekeep.server.domain.calls import Call
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.domain.standard.pages import Page
from storekeep.server.domain.standard.searches import SearchRequest
from storekeep.server.servicers.converters import Fields
from storekeep.server.transport.rpc import CURRENT


class ListMessage(Protocol):
    """A request of a List method; only some have `parent`, `filter`, `order_by` and `show_deleted`."""

    page_size: int
    page_token: str
    include_total_size: bool

    @property
    def read_mask(self) -> FieldMask:
        """The fields to return."""

    def HasField(self, field_name: Any) -> bool:
        """Return whether a field is set."""


class Searching(Protocol):
    """A request of a Search method."""

    query: str
    page_size: int
    page_token: str


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
        on_record=rpc.mark_recorded,
    )


def build_own_call() -> Call:
    """Build the `Call` of the current RPC, for a method without `request_id`."""
    rpc = CURRENT.get()
    return Call(caller=rpc.caller, method=rpc.method, deadline=rpc.deadline)


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


def build_list_request(request: ListMessage, *, parent: str = "", hidden: frozenset[str] = frozenset()) -> ListRequest:
    """Build the `ListRequest` of a List method's request.

    Args:
        hidden: the fields that the caller may not filter or sort by, beside personal data that it may not read.
    """
    return ListRequest(
        page_size=request.page_size,
        page_token=request.page_token,
        filter=getattr(request, "filter", ""),
        order_by=getattr(request, "order_by", ""),
        show_deleted=getattr(request, "show_deleted", False),
        parent=parent,
        include_total_size=request.include_total_size,
        fields=_list_masked_fields(request.read_mask.paths) if request.HasField("read_mask") else frozenset(),
        hidden=hidden | CURRENT.get().hidden_fields,
    )


def build_search_request(request: Searching, *, show_all: bool = False, show_drafts: bool = False) -> SearchRequest:
    """Build the `SearchRequest` of the current RPC, a Search method."""
    return SearchRequest(
        method=CURRENT.get().method,
        query=request.query,
        page_size=request.page_size,
        page_token=request.page_token,
        show_all=show_all,
        show_drafts=show_drafts,
    )


def has_permission(permission: str) -> bool:
    """Return whether the caller of the current RPC has a permission, for replies that depend on it."""
    return permission in CURRENT.get().caller.permissions


def _list_masked_fields(paths: Sequence[str]) -> frozenset[str]:
    """Return the fields that a read mask keeps, without their parts; empty for all."""
    return frozenset() if "*" in paths else frozenset(path.partition(".")[0] for path in paths)


def build_page_fields(page: Page[Any]) -> Fields:
    """Build the fields that the replies of all List methods share, to pass with the page's items."""
    fields: Fields = {"next_page_token": page.next_page_token}
    if page.total_size is not None:
        fields["total_size"] = page.total_size
        fields["total_size_is_lower_bound"] = page.total_size_is_lower_bound
    return fields
