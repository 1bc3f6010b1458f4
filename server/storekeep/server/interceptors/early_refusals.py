"""Refusals of calls before they are served, made at little cost, as there may be very many.

While there are few of a kind, they have all that any refusal has for the caller. They are counted one by one, and
logged once a second in one line for all of a kind: a line for each would take the time of calls that can be served.
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
DETAILED_MAX = 500
"""How many refusals of a kind in that time have all details: most bursts have no more. Others hear their reason in a
text alone, which leaves more time for calls that are served."""
KINDS_MAX = 1_000
"""Kinds that are told apart in that time; beyond it addresses are not."""
OVERLOADED = Overloaded(retry_after_ms=RETRY_AFTER_MS)
UNKNOWN_METHOD = "unknown"
"""What all methods that do not exist are called in the log and in the counts: their names are the caller's."""


class _Kind(NamedTuple):
    """Refusals that are logged in one line."""

    method: str
    reason: str
    level: int
    address: str


class EarlyRefusals:
    """Refuses calls, in any thread; what the log says of how many there are may miss a few.

    Args:
        write_line: writes a line of the log.
        counts: where the calls are counted.
    """

    def __init__(self, write_line: WriteLine, counts: CallCounts) -> None:
        self._write_line = write_line
        self._counts = counts
        self._unknown = UnknownMethod()
        self._statuses: dict[Exception, bytes] = {
            error: status_without_request_id(error) for error in (OVERLOADED, self._unknown)
        }
        self._refused: dict[_Kind, int] = {}
        self._reported_s = 0.0

    def refuse(self, method: str, error: Exception, metadata: Metadata, *, address: str = "") -> Refusal:
        """Refuse a call.

        Args:
            method: its full name, such as `storekeep.v1.OrderService/PlaceOrder`.
            error: why.
            metadata: what came with it.
            address: whose call it is, where it is refused for what its address did.
        """
        refusal, refused = self._count(method, error, address)
        if refused > DETAILED_MAX:
            return refusal
        request_id = request_id_of(metadata)
        status = self._statuses.get(error) or status_without_request_id(error)
        details = status + request_info_head(len(request_id)) + request_id.encode()
        more: Metadata = getattr(error, "trailing_metadata", ())
        trailing_metadata: Metadata = (("x-request-id", request_id), (DETAILS_KEY, details), *more)
        return Refusal(refusal.code, str(error).encode(), trailing_metadata)

    def overloaded(self, method: str, metadata: Metadata) -> Refusal:
        """Refuse a call for which too much waits already."""
        return self.refuse(method, OVERLOADED, metadata)

    def unknown(self, metadata: Metadata) -> Refusal:
        """Refuse a call of a method that does not exist."""
        return self.refuse(UNKNOWN_METHOD, self._unknown, metadata)

    def late(self, path: str) -> Refusal:
        """Refuse a call whose request did not arrive in time."""
        return self._refuse_tersely(path, RequestIncomplete())

    def crowded_out(self, path: str) -> Refusal:
        """Refuse a call or a stream of the address that holds most, as the budget is used up."""
        return self._refuse_tersely(path, OVERLOADED)

    def metadata_too_large(self, path: str) -> Refusal:
        """Refuse a call whose metadata have too many bytes."""
        return self._refuse_tersely(path, MetadataTooLarge())

    def stopping(self, path: str) -> Refusal:
        """Refuse a call whose request is not there yet when the server stops."""
        return self._refuse_tersely(path, ShuttingDown())

    def _refuse_tersely(self, path: str, error: Exception) -> Refusal:
        return self._count(path.removeprefix("/") or UNKNOWN_METHOD, error, "")[0]

    def _count(self, method: str, error: Exception, address: str) -> tuple[Refusal, int]:
        """Count a refusal: what the call is told without details, and how many of this kind there were lately."""
        row = row_of(error)
        self._counts.refuse(method, row.code.name, row.reason)
        refused = self._refused
        kind = _Kind(method, row.reason, row.level, address if len(refused) < KINDS_MAX else "")
        refused[kind] = count = refused.get(kind, 0) + 1
        now_s = time.monotonic()
        if now_s - self._reported_s > LINE_EVERY_S:
            self._reported_s = now_s
            self._report()
        return Refusal(number_of(row.code), f"{error} [{row.reason}]".encode(), ()), count

    def _report(self) -> None:
        refused, self._refused = self._refused, {}
        for kind, calls in list(refused.items()):
            fields = {"message": "calls refused", "method": kind.method, "reason": kind.reason, "calls": calls}
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


@cache
def request_info_head(length: int) -> bytes:
    """All of the details with an id of so many bytes but the id, with which they end."""
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RequestInfo(request_id="-" * length))
    return bytes(status_pb2.Status(details=[packed]).SerializeToString()[:-length])
