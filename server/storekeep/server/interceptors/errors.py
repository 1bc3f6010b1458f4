"""The errors layer: the one place where what was raised becomes a gRPC status, by the error table.

Every status carries `ErrorInfo` and `RequestInfo` (google.rpc, AIP-193); fields also `BadRequest`, and what
can be retried `RetryInfo`. An unknown error's text never leaves the server.
"""

from __future__ import annotations

import logging
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.domain.errors import FieldViolation
from storekeep.server.interceptors.chain import Step
from storekeep.server.interceptors.error_table import UNKNOWN, UNKNOWN_TEXT, Row, row_of
from storekeep.server.interceptors.forwarding import ForwardedRefusal
from storekeep.server.transport.errors import InvalidFields
from storekeep.server.transport.rpc import DETAILS_KEY, Method, Rpc

ERROR_DOMAIN = "storekeep"
RETRY_AFTER_MS = 1_000
"""What a caller is told to wait where the error does not know better."""
TEXT_BYTES_MAX = 500
"""Of the text of a status. It travels with the details in the trailing metadata, where a byte may take three, and
HTTP/2 peers commonly refuse header lists beyond 8 KiB."""
FACTS_BYTES_MAX = 1_800
"""Of the particulars of an error, and of its violations: with them in base64 and the text, below those 8 KiB."""

log = logging.getLogger("storekeep.rpc")


def map_errors(_method: Method, serve: Step) -> Step:
    """The layer."""

    def mapped(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        try:
            return serve(request, context, rpc)
        except ForwardedRefusal as answer:
            return relay(answer, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            return refuse(error, context, rpc)

    return mapped


def relay(answer: ForwardedRefusal, context: grpc.ServicerContext) -> None:
    """End the call with the status that another worker gave it, as it is; raises, as `abort` does."""
    context.set_trailing_metadata(answer.trailing_metadata)
    context.abort(answer.code, answer.text)


def refuse(error: Exception, context: grpc.ServicerContext, rpc: Rpc) -> None:
    """End the call with the error's status; raises, as `abort` does."""
    row = row_of(error)
    rpc.code, rpc.reason, rpc.level = row.code, row.reason, row.level
    text = shortened(str(error))
    if row is UNKNOWN:
        text = UNKNOWN_TEXT
        log.error("unexpected error", extra={"request_id": rpc.request_id, "method": rpc.method}, exc_info=error)
    details = status_of(error, row, text, rpc).SerializeToString()
    more: tuple[tuple[str, str | bytes], ...] = getattr(error, "trailing_metadata", ())
    context.set_trailing_metadata((("x-request-id", rpc.request_id), (DETAILS_KEY, details), *more))
    context.abort(row.code, text)


def status_of(error: Exception, row: Row, text: str, rpc: Rpc) -> status_pb2.Status:
    """The `google.rpc.Status` of an error. Violations that would not fit are left out, from the last."""
    info = error_details_pb2.ErrorInfo(reason=row.reason, domain=ERROR_DOMAIN, metadata=_metadata(error, row))
    details: list[Any] = [info, error_details_pb2.RequestInfo(request_id=rpc.request_id)]
    if row.retryable:
        retry_after_ms = getattr(error, "retry_after_ms", RETRY_AFTER_MS)
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    violations = _violations(error)
    if violations:
        details.append(violations)
    status = status_pb2.Status(code=row.code.value[0], message=text)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _metadata(error: Exception, row: Row) -> dict[str, str]:
    """The error's particulars, shortened and as far as they fit; of an unknown error, none."""
    if row is UNKNOWN:
        return {}
    facts: dict[str, str] = {}
    size = 0
    for name, value in getattr(error, "metadata", {}).items():
        value = shortened(value)
        size += len(name) + len(value.encode())
        if size > FACTS_BYTES_MAX:
            break
        facts[name] = value
    return facts


def _violations(error: Exception) -> error_details_pb2.BadRequest | None:
    if isinstance(error, InvalidFields):
        violations = error.violations
    elif isinstance(error, FieldViolation):
        violations = ((error.field, error.problem),)
    else:
        return None
    bad_request = error_details_pb2.BadRequest()
    for field, problem in violations:
        told = error_details_pb2.BadRequest.FieldViolation(field=shortened(field), description=shortened(problem))
        if bad_request.ByteSize() + told.ByteSize() > FACTS_BYTES_MAX:
            break
        bad_request.field_violations.append(told)
    return bad_request


def shortened(text: str) -> str:
    """As much of a text as a status has room for."""
    raw = text.encode()
    return text if len(raw) <= TEXT_BYTES_MAX else raw[: TEXT_BYTES_MAX - 3].decode(errors="ignore") + "..."
