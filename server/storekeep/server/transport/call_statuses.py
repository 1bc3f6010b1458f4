"""Statuses of calls that are not served, prepared as bytes because there may be many of them.

Each carries its reason in `ErrorInfo`, if gRPC can still send it. Those that name their request are made in
`interceptors.early_rejections`.
"""

from __future__ import annotations

from typing import NamedTuple

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.transport.errors import MalformedMessage
from storekeep.server.transport.rpc import DETAILS_KEY

ERROR_DOMAIN = "storekeep"
"""The domain of the reasons in `ErrorInfo`."""

Metadata = tuple[tuple[str, str | bytes], ...]


class CallStatus(NamedTuple):
    """The status of a call that is not served.

    Attributes:
        code: the numeric gRPC status code.
        text: the status message.
        trailing_metadata: the trailing metadata, with the error details.
    """

    code: int
    text: bytes
    trailing_metadata: Metadata


def get_status_number(code: grpc.StatusCode) -> int:
    """Return the numeric code of a gRPC status."""
    number: int = code.value[0]
    return number


def make_call_status(code: grpc.StatusCode, reason: str, text: str) -> CallStatus:
    """Return a status with its reason in `ErrorInfo`.

    Args:
        reason: the name of an `ErrorReason` that has this code, without its prefix.
    """
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN))
    status = status_pb2.Status(code=get_status_number(code), message=text, details=[packed])
    return CallStatus(status.code, text.encode(), ((DETAILS_KEY, status.SerializeToString()),))


NO_REQUEST = make_call_status(
    grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE", "the call ended without a request message"
)
MALFORMED = make_call_status(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE", str(MalformedMessage()))
TOO_LARGE = make_call_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", "the request is too large")
UNREAD_REPLY = CallStatus(
    get_status_number(grpc.StatusCode.DEADLINE_EXCEEDED),
    b"the reply was not read in time; the request may have been executed",
    (),
)
"""Status of a call whose reply is not read in time. The call was counted and logged when it was answered. It has no
details: gRPC has begun to send the reply and its own status, so the call can only be cancelled."""
UNEXPLAINED = make_call_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", "the request has not arrived")
"""Status of a call that ends before it is served, if nothing makes and counts the statuses of such calls."""
