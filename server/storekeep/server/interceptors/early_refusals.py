"""Refusals of calls before they are served, made at little cost, as there may be very many.

While there are few of a kind, they name their request. They are counted one by one, and logged once a second in one
line for all of a kind: a line for each would take the time of calls that can be served.
"""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

import uuid_utils
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.interceptors.error_table import row_of
from storekeep.server.interceptors.errors import status_of
from storekeep.server.interceptors.request_log import REQUEST_ID, WriteLine
from storekeep.server.store.errors import RETRY_AFTER_MS, Overloaded, ShuttingDown
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.errors import MetadataTooLarge, RequestIncomplete, UnknownMethod
from storekeep.server.transport.rpc import DETAILS_KEY, Rpc
from storekeep.server.transport.unary import Metadata, Refusal, number_of

LINE_EVERY_S = 1.0
IDENTIFIED_MAX = 500
"""Rejections of a kind in that time that name their request: most bursts have no more. Beyond it all get the same
prepared bytes, which take a fifth less of a core, and are asked to wait for longer."""
LONG_RETRY_AFTER_MS = 1_000
KINDS_MAX = 1_000
"""Kinds that are told apart in that time; beyond it addresses are not."""
OVERLOADED = Overloaded(retry_after_ms=RETRY_AFTER_MS)
INCOMPLETE, TOO_LARGE, STOPPING, UNKNOWN = RequestIncomplete(), MetadataTooLarge(), ShuttingDown(), UnknownMethod()
UNKNOWN_METHOD = "unknown"
"""What all methods that do not exist are called in the log and in the counts: their names are the caller's."""


class _Kind(NamedTuple):
    """Refusals that are logged in one line."""

    method: str
    reason: str
    level: int
    address: str


class _Count:
    """How many calls of a kind were refused lately.

    Attributes:
        prepared: what they are told without an id: the same bytes for all of them.
    """

    __slots__ = ("calls", "prepared")

    def __init__(self, prepared: Refusal) -> None:
        self.prepared = prepared
        self.calls = 0


class EarlyRefusals:
    """Refuses calls, in any thread; what the log says of how many there are may miss a few.

    Args:
        write_line: writes a line of the log.
        counts: where the calls are counted.
    """

    def __init__(self, write_line: WriteLine, counts: CallCounts) -> None:
        self._write_line = write_line
        self._counts = counts
        self._statuses: dict[Exception, bytes] = {
            error: status_without_request_id(error) for error in (OVERLOADED, UNKNOWN)
        }
        self._prepared: dict[Exception, Refusal] = {
            OVERLOADED: prepare(Overloaded(retry_after_ms=LONG_RETRY_AFTER_MS)),
            **{error: prepare(error) for error in (INCOMPLETE, TOO_LARGE, STOPPING, UNKNOWN)},
        }
        self._refused: dict[_Kind, _Count] = {}
        self._reported_s = 0.0

    def refuse(self, method: str, error: Exception, metadata: Metadata, *, address: str = "") -> Refusal:
        """Refuse a call.

        Args:
            method: its full name, such as `storekeep.v1.OrderService/PlaceOrder`.
            error: why.
            metadata: what came with it.
            address: whose call it is, where it is refused for what its address did.
        """
        counted = self._count(method, error, address)
        if counted.calls > IDENTIFIED_MAX:
            return counted.prepared
        request_id = request_id_of(metadata)
        status = self._statuses.get(error) or status_without_request_id(error)
        details = status + request_info_head(len(request_id)) + request_id.encode()
        more: Metadata = getattr(error, "trailing_metadata", ())
        trailing_metadata: Metadata = (("x-request-id", request_id), (DETAILS_KEY, details), *more)
        return Refusal(number_of(row_of(error).code), str(error).encode(), trailing_metadata)

    def overloaded(self, method: str, metadata: Metadata) -> Refusal:
        """Refuse a call for which too much waits already."""
        return self.refuse(method, OVERLOADED, metadata)

    def unknown(self, metadata: Metadata) -> Refusal:
        """Refuse a call of a method that does not exist."""
        return self.refuse(UNKNOWN_METHOD, UNKNOWN, metadata)

    def late(self, path: str) -> Refusal:
        """Refuse a call whose request did not arrive in time."""
        return self._refuse_tersely(path, INCOMPLETE)

    def crowded_out(self, path: str) -> Refusal:
        """Refuse a call or a stream of the address that holds most, as the budget is used up."""
        return self._refuse_tersely(path, OVERLOADED)

    def metadata_too_large(self, path: str) -> Refusal:
        """Refuse a call whose metadata have too many bytes."""
        return self._refuse_tersely(path, TOO_LARGE)

    def stopping(self, path: str) -> Refusal:
        """Refuse a call whose request is not there yet when the server stops."""
        return self._refuse_tersely(path, STOPPING)

    def _refuse_tersely(self, path: str, error: Exception) -> Refusal:
        return self._count(path.removeprefix("/") or UNKNOWN_METHOD, error, "").prepared

    def _count(self, method: str, error: Exception, address: str) -> _Count:
        """Count a refusal; return how many of its kind there were lately, and what they are told without an id."""
        row = row_of(error)
        self._counts.refuse(method, row.code.name, row.reason)
        kind = _Kind(method, row.reason, row.level, address if len(self._refused) < KINDS_MAX else "")
        counted = self._refused.get(kind)
        if counted is None:
            counted = self._refused[kind] = _Count(self._prepared.get(error) or prepare(error))
        counted.calls += 1
        now_s = time.monotonic()
        if now_s - self._reported_s > LINE_EVERY_S:
            self._reported_s = now_s
            self._report()
        return counted

    def _report(self) -> None:
        refused, self._refused = self._refused, {}
        for kind, counted in list(refused.items()):
            fields = {"message": "calls refused", "method": kind.method, "reason": kind.reason, "calls": counted.calls}
            if kind.address:
                fields["address"] = kind.address
            self._write_line(fields, level=kind.level)


def request_id_of(metadata: Metadata) -> str:
    """Return the id that the caller gave its call, or a new one."""
    for key, value in metadata:
        if key == "x-request-id" and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return value
    return str(uuid_utils.uuid7())


def status_without_request_id(error: Exception) -> bytes:
    """Return an error's status; those of a call's own details are appended: protobuf reads both as one message."""
    status = status_of(error, row_of(error), str(error), Rpc("", ""))
    request_info = error_details_pb2.RequestInfo.DESCRIPTOR
    kept = [detail for detail in status.details if not detail.Is(request_info)]
    kept_status = status_pb2.Status(code=status.code, message=status.message, details=kept)
    return bytes(kept_status.SerializeToString())


def prepare(error: Exception) -> Refusal:
    """Return what calls are told that end with this error, without an id: the same bytes for all of them."""
    more: Metadata = getattr(error, "trailing_metadata", ())
    details: Metadata = ((DETAILS_KEY, status_without_request_id(error)), *more)
    return Refusal(number_of(row_of(error).code), str(error).encode(), details)


@cache
def request_info_head(length: int) -> bytes:
    """All of the details with an id of so many bytes but the id, with which they end."""
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RequestInfo(request_id="-" * length))
    return bytes(status_pb2.Status(details=[packed]).SerializeToString()[:-length])
