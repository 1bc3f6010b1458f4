"""The errors layer: the only place that maps exceptions to gRPC statuses, using the error table.

Every status carries `ErrorInfo` and `RequestInfo` (google.rpc, AIP-193); invalid fields add `BadRequest`, retryable
errors add `RetryInfo`. The text of an unknown error never leaves the server. It also sends the trailing metadata of a
reply, which inner layers have collected.
"""

from __future__ import annotations

import logging
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.domain.errors import DomainError, FieldViolation
from storekeep.server.interceptors.chain import Step
from storekeep.server.interceptors.error_table import UNKNOWN, UNKNOWN_TEXT, Row, find_row
from storekeep.server.interceptors.forwarding import ForwardedError
from storekeep.server.transport.call_statuses import ERROR_DOMAIN, CallStatus, Metadata, get_status_number
from storekeep.server.transport.errors import InvalidFields, RateLimited
from storekeep.server.transport.rpc import DETAILS_KEY, Method, Rpc

RETRY_AFTER_MS = 1_000
"""Default retry delay of retryable errors."""
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata key that the retry policies of gRPC obey (gRFC A6): the delay, or -1 for no retry."""
TEXT_BYTES_MAX = 500
"""Maximum length of a status text. It is sent in the trailing metadata, where a byte may be encoded as three, and
HTTP/2 peers commonly reject header lists larger than 8 KiB."""
METADATA_BYTES_MAX = 1_800
"""Maximum size of an error's metadata, and of its violations. Both in base64 and the text fit into 8 KiB."""

log = logging.getLogger("storekeep.rpc")


def map_errors(_method: Method, serve: Step) -> Step:
    """Map exceptions of the inner layers to gRPC statuses, and send the trailing metadata of a reply."""

    def map_error(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        try:
            reply = serve(request, context, rpc)
        except ForwardedError as error:
            return relay_status(error, context)
        except Exception as error:  # noqa: BLE001 - every exception becomes a status
            return abort_call(error, context, rpc)
        if rpc.trailing_metadata:
            context.set_trailing_metadata(rpc.trailing_metadata)
        return reply

    return map_error


def relay_status(error: ForwardedError, context: grpc.ServicerContext) -> None:
    """End the call with the unchanged status of the leader; raises as `abort` does."""
    context.set_trailing_metadata(error.trailing_metadata)
    context.abort(error.code, error.text)


def abort_call(error: Exception, context: grpc.ServicerContext, rpc: Rpc) -> None:
    """End the call with the status of an error; raises as `abort` does."""
    row = find_row(error)
    rpc.code, rpc.reason, rpc.level = row.code, row.reason, row.level
    rpc.replayed = False  # no reply is returned
    text = shorten(str(error))
    if row is UNKNOWN:
        text = UNKNOWN_TEXT
        log.error("unexpected error", extra={"request_id": rpc.request_id, "method": rpc.method}, exc_info=error)
    details = build_status(error, row, text, rpc).SerializeToString()
    more = list_error_metadata(error, row)
    context.set_trailing_metadata((("x-request-id", rpc.request_id), (DETAILS_KEY, details), *more))
    context.abort(row.code, text)


def make_end_status(error: Exception, *, request_id: str, cursor: str) -> CallStatus:
    """Return the status that ends an open stream.

    Args:
        cursor: where to continue; the metadata of the error names it.
    """
    row = find_row(error)
    text = UNKNOWN_TEXT if row is UNKNOWN else shorten(str(error))
    status = build_status(error, row, text, Rpc("", request_id))
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    info.metadata["cursor"] = cursor
    status.details[0].Pack(info)
    metadata: Metadata = (("x-request-id", request_id), (DETAILS_KEY, status.SerializeToString()))
    return CallStatus(get_status_number(row.code), text.encode(), metadata + list_error_metadata(error, row))


def list_error_metadata(error: Exception, row: Row) -> Metadata:
    """Return the trailing metadata of an error beyond its details.

    Every RESOURCE_EXHAUSTED tells retry policies, which know only codes, whether and when to retry. UNAVAILABLE does
    not: policies retry it sooner than its retry delay, because another worker may answer.
    """
    metadata: Metadata = getattr(error, "trailing_metadata", ())
    if row.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        metadata += ((PUSHBACK_KEY, str(get_retry_delay_ms(error) if row.retryable else -1)),)
    return metadata


def get_retry_delay_ms(error: Exception) -> int:
    """Return the retry delay of a retryable error in milliseconds."""
    delay_ms: int = getattr(error, "retry_after_ms", RETRY_AFTER_MS)
    return delay_ms


def build_status(error: Exception, row: Row, text: str, rpc: Rpc) -> status_pb2.Status:
    """Return the `google.rpc.Status` of an error; trailing violations that do not fit are omitted."""
    info = error_details_pb2.ErrorInfo(reason=row.reason, domain=ERROR_DOMAIN, metadata=_build_metadata(error, row))
    details: list[Any] = [info, error_details_pb2.RequestInfo(request_id=rpc.request_id)]
    if row.retryable:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(get_retry_delay_ms(error))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    violations = _build_violations(error)
    if violations:
        details.append(violations)
    status = status_pb2.Status(code=row.code.value[0], message=text)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _build_metadata(error: Exception, row: Row) -> dict[str, str]:
    """Return the metadata of an error, shortened to fit; empty for an unknown error."""
    if row is UNKNOWN:
        return {}
    metadata: dict[str, str] = {}
    size = 0
    for name, value in _get_metadata(error).items():
        value = shorten(value)
        size += len(name) + len(value.encode())
        if size > METADATA_BYTES_MAX:
            break
        metadata[name] = value
    return metadata


def _get_metadata(error: Exception) -> dict[str, str]:
    return error.metadata if isinstance(error, DomainError | RateLimited) else {}


def _build_violations(error: Exception) -> error_details_pb2.BadRequest | None:
    if isinstance(error, InvalidFields):
        violations = error.violations
    elif isinstance(error, FieldViolation):
        violations = ((error.field, error.problem),)
    else:
        return None
    bad_request = error_details_pb2.BadRequest()
    for field, problem in violations:
        violation = error_details_pb2.BadRequest.FieldViolation(field=shorten(field), description=shorten(problem))
        if bad_request.ByteSize() + violation.ByteSize() > METADATA_BYTES_MAX:
            break
        bad_request.field_violations.append(violation)
    return bad_request


def shorten(text: str) -> str:
    """Return a text cut to `TEXT_BYTES_MAX`."""
    raw = text.encode()
    return text if len(raw) <= TEXT_BYTES_MAX else raw[: TEXT_BYTES_MAX - 3].decode(errors="ignore") + "..."
