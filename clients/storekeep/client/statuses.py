"""Builds the exceptions of the client from the statuses of gRPC: `google.rpc.Status` with its details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from storekeep.client.error_details import FieldProblem
from storekeep.client.error_families import CallTimedOut, Refused, ServerUnreachable, StorekeepError, UnexpectedStatus
from storekeep.client.errors import REASONS, MessageTooLarge

DOMAIN = "storekeep"
TOO_LARGE_TEXT = "message larger than max"
"""Text of gRPC's own error for a message of more than twice the size that the server accepts."""
UNREACHABLE_HINTS = {
    "WRONG_VERSION_NUMBER": "the server at this address does not use TLS",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by a trusted authority; set the CA file",
    "Connection refused": "nothing listens there; start the server, or use another address",
}
"""Explanations of failed connections, by a part of gRPC's text, which follows in parentheses."""
STATUS_DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"

DetailT = TypeVar("DetailT", bound=Message)


def from_rpc_error(error: grpc.RpcError) -> StorekeepError:
    """Return the exception for a failed gRPC call."""
    trailers = {entry.key: entry.value for entry in error.trailing_metadata() or ()}
    status = _parse_status(trailers.get(STATUS_DETAILS_KEY))
    info = _unpack_detail(status, ErrorInfo)
    request_id = _get_request_id(status, trailers)
    if info is None or info.domain != DOMAIN:
        return _to_error_without_reason(error, request_id)
    return _build_refused(status, info, text=error.details() or "", request_id=request_id)


def from_status(status: Status) -> Refused:
    """Return the exception for the status of an item of a batch."""
    info = _unpack_detail(status, ErrorInfo) or ErrorInfo()
    return _build_refused(status, info, text="", request_id=_get_request_id(status, {}))


def _build_refused(status: Status, info: ErrorInfo, *, text: str, request_id: str) -> Refused:
    return REASONS.get(info.reason, Refused)(
        status.message or text,
        request_id=request_id,
        reason=info.reason,
        metadata=info.metadata,
        fields=_to_field_problems(_unpack_detail(status, BadRequest)),
        retry_delay_s=_get_retry_delay_s(_unpack_detail(status, RetryInfo)),
    )


def _to_error_without_reason(error: grpc.RpcError, request_id: str) -> StorekeepError:
    code, details = error.code(), error.details() or "no details"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE_TEXT in details:
        return MessageTooLarge(details, request_id=request_id)
    if code is grpc.StatusCode.UNAVAILABLE:
        cause = next((f"{hint} ({details})" for sign, hint in UNREACHABLE_HINTS.items() if sign in details), details)
        return ServerUnreachable(f"the server cannot be reached: {cause}", request_id=request_id)
    if code is grpc.StatusCode.CANCELLED:  # by the server, as callers cannot cancel these calls
        stopped = ServerUnreachable("the server stopped before it answered", request_id=request_id)
        stopped.was_connected = True
        return stopped
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CallTimedOut("the server did not answer before the deadline", request_id=request_id)
    return UnexpectedStatus(f"the server answered {code.name}: {details}", request_id=request_id, code=code)


def _parse_status(packed: str | bytes | None) -> Status:
    status = Status()
    if isinstance(packed, bytes):
        try:
            status.ParseFromString(packed)
        except DecodeError:
            return Status()
    return status


def _unpack_detail(status: Status, kind: type[DetailT]) -> DetailT | None:
    detail = kind()
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR) and packed.Unpack(detail):
            return detail
    return None


def _get_request_id(status: Status, trailers: Mapping[str, str | bytes]) -> str:
    info = _unpack_detail(status, RequestInfo)
    if info is not None and info.request_id:
        return str(info.request_id)
    request_id = trailers.get(REQUEST_ID_KEY, "")
    return request_id if isinstance(request_id, str) else ""


def _to_field_problems(bad_request: BadRequest | None) -> tuple[FieldProblem, ...]:
    if bad_request is None:
        return ()
    return tuple(FieldProblem(violation.field, violation.description) for violation in bad_request.field_violations)


def _get_retry_delay_s(retry: RetryInfo | None) -> float | None:
    return None if retry is None else retry.retry_delay.ToTimedelta().total_seconds()
