"""Errors as HTTP replies: `{"error": {"code", "status", "message", "details"}}` (AIP-193).

What the gateway itself refuses looks like an error of the server: it has a reason of the contract's `ErrorReason`, and
the request id. Nothing else of the gateway writes an error.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import msgspec
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from storekeep.gateway.error_texts import rephrase
from storekeep.gateway.invalid_json import InvalidJson
from storekeep.gateway.routes import Route

DOMAIN = "storekeep"
DETAILS_KEY = "grpc-status-details-bin"
RETRY_AFTER_S = 1
"""Retry delay in seconds of a reply 503 without one, such as while the server restarts."""

Header = tuple[bytes, bytes]

HTTP_STATUSES: dict[str, int] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
"""The HTTP status of each gRPC code, as in `google/rpc/code.proto`."""
REASON_STATUSES: dict[str, int] = {"MESSAGE_TOO_LARGE": 413}
"""The HTTP status of reasons for which HTTP has a more precise one."""


class Refused(Exception):
    """A request that the gateway or the server refused.

    Attributes:
        http_status: HTTP status of the reply.
        status: code, message and details of the error.
        headers: further headers of the reply.
    """

    def __init__(self, http_status: int, status: status_pb2.Status, headers: Sequence[Header] = ()) -> None:
        super().__init__(status.message)
        self.http_status = http_status
        self.status = status
        self.headers = list(headers)

    @property
    def reason(self) -> str:
        """The reason of the error; empty if it has none."""
        return str(_find_detail(self.status, error_details_pb2.ErrorInfo()).reason)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A kind of refusal of the gateway: its HTTP status, gRPC code and reason."""

    http_status: int
    code: grpc.StatusCode
    reason: str

    def make(
        self, message: str, *, headers: Sequence[Header] = (), field: str = "", problem: str = "", retry_s: int = 0
    ) -> Refused:
        """Return the error.

        Args:
            message: text for the caller.
            headers: further headers of the reply.
            field: the field that is invalid; empty for none.
            problem: what is wrong with the field (default: the message).
            retry_s: retry delay in seconds; 0 for none.
        """
        status = status_pb2.Status(code=self.code.value[0], message=message)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN))
        if field:
            violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=problem or message)
            status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        if retry_s:
            delay = error_details_pb2.RetryInfo()
            delay.retry_delay.seconds = retry_s
            status.details.add().Pack(delay)
        return Refused(self.http_status, status, headers)


_Code = grpc.StatusCode
UNKNOWN_PATH = Refusal(404, _Code.NOT_FOUND, "UNKNOWN_METHOD")
METHOD_NOT_ALLOWED = Refusal(405, _Code.UNIMPLEMENTED, "UNKNOWN_METHOD")
NOT_SERVED = Refusal(501, _Code.UNIMPLEMENTED, "UNKNOWN_METHOD")
MALFORMED = Refusal(400, _Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
INVALID_FIELD = Refusal(400, _Code.INVALID_ARGUMENT, "INVALID_FIELD")
UNSUPPORTED_TYPE = Refusal(415, _Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
TOO_LARGE = Refusal(413, _Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
URL_TOO_LONG = Refusal(414, _Code.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")
HEADERS_TOO_LARGE = Refusal(431, _Code.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")
TOO_SLOW = Refusal(408, _Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
UNAUTHENTICATED = Refusal(401, _Code.UNAUTHENTICATED, "UNAUTHENTICATED")
RATE_LIMITED = Refusal(429, _Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
OVERLOADED = Refusal(503, _Code.RESOURCE_EXHAUSTED, "OVERLOADED")
SERVER_AWAY = Refusal(503, _Code.UNAVAILABLE, "STORAGE_UNAVAILABLE")
DEADLINE = Refusal(504, _Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
INTERNAL = Refusal(500, _Code.INTERNAL, "INTERNAL")
"""What the gateway itself refuses. Another kind is another line here."""


def from_invalid_json(error: InvalidJson, *, place: str = "field") -> Refused:
    """Return the error of a body, query or path that is no request message.

    Args:
        place: what the caller has written wrong, `field` or `parameter`.
    """
    if error.path:
        return INVALID_FIELD.make(f"{place} {error}", field=error.path, problem=error.problem)
    return MALFORMED.make(str(error))


def from_rpc_error(error: grpc.aio.AioRpcError, route: Route | None = None) -> Refused:
    """Return the error of a failed call. One without a status of the server means that the server is away.

    Args:
        route: the route that was called; None leaves the texts as they are.
    """
    code = error.code()
    trailers = dict(error.trailing_metadata() or ())
    raw = trailers.get(DETAILS_KEY)
    if raw is None:
        return _without_details(code, error.details() or "")
    status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode())
    if route is not None:
        rephrase(status, route)
    refused = Refused(HTTP_STATUSES.get(code.name, 500), status)
    refused.http_status = REASON_STATUSES.get(refused.reason, refused.http_status)
    return refused


def _without_details(code: grpc.StatusCode, text: str) -> Refused:
    if code is _Code.UNAVAILABLE:
        return SERVER_AWAY.make("the server is unreachable; retry", retry_s=RETRY_AFTER_S)
    if code is _Code.CANCELLED:  # by the server: a call that the gateway cancels raises no error of gRPC
        text = "the server stopped before it answered; retry, a mutation with the same requestId"
        return SERVER_AWAY.make(text, retry_s=RETRY_AFTER_S)
    if code is _Code.DEADLINE_EXCEEDED:
        return DEADLINE.make("the server did not answer before the deadline")
    if code is _Code.RESOURCE_EXHAUSTED:
        return TOO_LARGE.make("the request or its reply is larger than the server allows")
    if code is _Code.UNIMPLEMENTED:
        return NOT_SERVED.make("the server does not have this method; it may be older than the gateway")
    return Refusal(HTTP_STATUSES.get(code.name, 500), code, INTERNAL.reason).make(text)


def build_error_reply(refused: Refused, *, request_id: str) -> tuple[bytes, list[Header]]:
    """Return the body and the headers of an error.

    Args:
        refused: the error.
        request_id: added to the details unless they have one.
    """
    status = refused.status
    if not any(detail.Is(error_details_pb2.RequestInfo.DESCRIPTOR) for detail in status.details):
        status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    error = {
        "code": refused.http_status,
        "status": _NAMES.get(status.code, "UNKNOWN"),
        "message": status.message,
        "details": [_write_detail(detail) for detail in status.details],
    }
    headers = list(refused.headers)
    delay = _find_detail(status, error_details_pb2.RetryInfo()).retry_delay
    if delay.seconds or delay.nanos:
        headers.append((b"retry-after", str(delay.seconds + (delay.nanos > 0)).encode()))
    if refused.http_status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="storekeep"'))
    return msgspec.json.encode({"error": error}), headers


_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def _find_detail(status: status_pb2.Status, detail: Any) -> Any:
    """Fill `detail` from the first detail of its type, and return it."""
    for packed in status.details:
        if packed.Unpack(detail):
            break
    return detail


def _write_detail(detail: Any) -> Any:
    try:
        return json_format.MessageToDict(detail)
    except (TypeError, ValueError):  # a newer server may send a type that this gateway does not know
        return {"@type": detail.type_url, "value": base64.b64encode(detail.value).decode()}
