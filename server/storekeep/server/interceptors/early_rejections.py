"""Early rejections: cheap statuses for calls that are rejected before they are served, of which there may be many.

While rejections of one kind are few, each names its request. Every rejection is counted. The log gets one line per
kind and second: a line per call would take time from calls that can be served.
"""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

import uuid_utils
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.interceptors.error_table import find_row
from storekeep.server.interceptors.errors import build_status, list_error_metadata
from storekeep.server.interceptors.request_log import REQUEST_ID, WriteLine
from storekeep.server.store.errors import RETRY_AFTER_MS, Overloaded, ShuttingDown
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.call_statuses import CallStatus, Metadata, get_status_number
from storekeep.server.transport.errors import MetadataTooLarge, RequestIncomplete, UnknownMethod
from storekeep.server.transport.rpc import DETAILS_KEY, Rpc

LINE_EVERY_S = 1.0
IDENTIFIED_MAX = 500
"""Rejections of one kind within `LINE_EVERY_S` that name their request; most bursts have fewer. Further ones get the
same prepared bytes, which cost a fifth less CPU, and a longer retry delay."""
LONG_RETRY_AFTER_MS = 1_000
KINDS_MAX = 1_000
"""Maximum number of kinds within `LINE_EVERY_S` that are separated by address."""
OVERLOADED = {is_read: Overloaded(retry_after_ms=RETRY_AFTER_MS, is_read=is_read) for is_read in (False, True)}
"""The error of calls that change something (False), and of reads."""
INCOMPLETE, TOO_LARGE, STOPPING, UNKNOWN = RequestIncomplete(), MetadataTooLarge(), ShuttingDown(), UnknownMethod()
UNKNOWN_METHOD = "unknown"
"""The name of all unknown methods in the log and the counts; their real names are untrusted input."""


class _Kind(NamedTuple):
    """Rejections that share one log line."""

    method: str
    reason: str
    level: int
    address: str


class _Count:
    """The recent rejections of one kind.

    Attributes:
        calls: Number of rejected calls.
        prepared: Rejection without a request id, shared by all of them.
    """

    __slots__ = ("calls", "prepared")

    def __init__(self, prepared: CallStatus) -> None:
        self.prepared = prepared
        self.calls = 0


class EarlyRejections:
    """Builds, counts and logs rejections. Thread-safe; the numbers in the log may miss a few calls.

    Args:
        write_line: Writes a line of the log.
        counts: Counts the rejected calls.
        changes: Paths of the methods that change something.
    """

    def __init__(self, write_line: WriteLine, counts: CallCounts, *, changes: frozenset[str]) -> None:
        self._changes = changes
        self._write_line = write_line
        self._counts = counts
        self._statuses: dict[Exception, bytes] = {
            error: serialize_shared_status(error) for error in (*OVERLOADED.values(), UNKNOWN)
        }
        self._prepared: dict[Exception, CallStatus] = {
            **{
                error: prepare_rejection(Overloaded(retry_after_ms=LONG_RETRY_AFTER_MS, is_read=is_read))
                for is_read, error in OVERLOADED.items()
            },
            **{error: prepare_rejection(error) for error in (INCOMPLETE, TOO_LARGE, STOPPING, UNKNOWN)},
        }
        self._rejected: dict[_Kind, _Count] = {}
        self._reported_s = 0.0

    def reject(self, method: str, error: Exception, metadata: Metadata, *, address: str = "") -> CallStatus:
        """Return the rejection of a call, and count it.

        Args:
            method: Full name of the method, such as `storekeep.v1.OrderService/PlaceOrder`.
            error: Reason of the rejection.
            metadata: Metadata of the call.
            address: Address of the caller, if the rejection is due to its address; empty otherwise.
        """
        count = self._count(method, error, address)
        if count.calls > IDENTIFIED_MAX:
            return count.prepared
        request_id = read_request_id(metadata)
        status = self._statuses.get(error) or serialize_shared_status(error)
        details = status + build_request_info_prefix(len(request_id)) + request_id.encode()
        row = find_row(error)
        more = list_error_metadata(error, row)
        trailing_metadata: Metadata = (("x-request-id", request_id), (DETAILS_KEY, details), *more)
        return CallStatus(get_status_number(row.code), str(error).encode(), trailing_metadata)

    def reject_overload(self, method: str, metadata: Metadata) -> CallStatus:
        """Reject a call because the server is overloaded."""
        return self.reject(method, self._get_overload(f"/{method}"), metadata)

    def _get_overload(self, path: str) -> Overloaded:
        return OVERLOADED[path not in self._changes]

    def unknown(self, metadata: Metadata) -> CallStatus:
        """Reject a call of an unknown method."""
        return self.reject(UNKNOWN_METHOD, UNKNOWN, metadata)

    def late(self, path: str) -> CallStatus:
        """Reject a call whose request did not arrive in time."""
        return self._reject_tersely(path, INCOMPLETE)

    def crowded_out(self, path: str) -> CallStatus:
        """Reject a call or a stream of the address that holds the most, because the budget is used up."""
        return self._reject_tersely(path, self._get_overload(path))

    def metadata_too_large(self, path: str) -> CallStatus:
        """Reject a call whose metadata is too large."""
        return self._reject_tersely(path, TOO_LARGE)

    def stopping(self, path: str) -> CallStatus:
        """Reject a call whose request has not arrived when the server stops."""
        return self._reject_tersely(path, STOPPING)

    def _reject_tersely(self, path: str, error: Exception) -> CallStatus:
        return self._count(path.removeprefix("/") or UNKNOWN_METHOD, error, "").prepared

    def _count(self, method: str, error: Exception, address: str) -> _Count:
        """Count a rejection; return the recent rejections of its kind."""
        row = find_row(error)
        self._counts.reject(method, row.code.name, row.reason)
        kind = _Kind(method, row.reason, row.level, address if len(self._rejected) < KINDS_MAX else "")
        count = self._rejected.get(kind)
        if count is None:
            count = self._rejected[kind] = _Count(self._prepared.get(error) or prepare_rejection(error))
        count.calls += 1
        now_s = time.monotonic()
        if now_s - self._reported_s > LINE_EVERY_S:
            self._reported_s = now_s
            self._report()
        return count

    def _report(self) -> None:
        rejected, self._rejected = self._rejected, {}
        for kind, count in list(rejected.items()):
            fields = {"message": "calls rejected", "method": kind.method, "reason": kind.reason, "calls": count.calls}
            if kind.address:
                fields["address"] = kind.address
            self._write_line(fields, level=kind.level)


def read_request_id(metadata: Metadata) -> str:
    """Return the request id that the client sent, or a new one."""
    for key, value in metadata:
        if key == "x-request-id" and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    return str(uuid_utils.uuid7())


def serialize_shared_status(error: Exception) -> bytes:
    """Return the serialized status of an error without `RequestInfo`.

    The details of a call may be appended to it: protobuf parses concatenated messages as one.
    """
    status = build_status(error, find_row(error), str(error), Rpc("", ""))
    request_info = error_details_pb2.RequestInfo.DESCRIPTOR
    details = [detail for detail in status.details if not detail.Is(request_info)]
    shared_status = status_pb2.Status(code=status.code, message=status.message, details=details)
    return bytes(shared_status.SerializeToString())


def prepare_rejection(error: Exception) -> CallStatus:
    """Return the rejection for an error without a request id, to be shared by many calls."""
    row = find_row(error)
    details: Metadata = ((DETAILS_KEY, serialize_shared_status(error)), *list_error_metadata(error, row))
    return CallStatus(get_status_number(row.code), str(error).encode(), details)


@cache
def build_request_info_prefix(length: int) -> bytes:
    """Return the serialized `RequestInfo` detail for a request id of this many bytes, without the id at its end."""
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RequestInfo(request_id="-" * length))
    return bytes(status_pb2.Status(details=[packed]).SerializeToString()[:-length])
