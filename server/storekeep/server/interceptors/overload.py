"""Rejections of calls under overload: made at little cost, as there may be very many.

Each has its reason and the delay after which to retry, and while there are few, the id of the request. They are counted
one by one, and logged once a second in one line for each method: a line for each would take the time of calls that can
be served.
"""

from __future__ import annotations

import time
from functools import cache

import uuid_utils
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from storekeep.server.interceptors.error_table import row_of
from storekeep.server.interceptors.errors import DETAILS_KEY, status_of
from storekeep.server.interceptors.request_log import REQUEST_ID, WriteLine
from storekeep.server.store.errors import RETRY_AFTER_MS, Overloaded
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.rpc import Rpc
from storekeep.server.transport.unary import Metadata, Refusal, number_of

LINE_EVERY_S = 1.0
IDENTIFIED_MAX = 500
"""Rejections of a method in that time that name their request: most bursts have no more. Beyond it all get the same
prepared bytes, which take a fifth less of a core, and are asked to wait for longer."""
LONG_RETRY_AFTER_MS = 1_000
OVERLOADED = Overloaded(retry_after_ms=RETRY_AFTER_MS)
ROW = row_of(OVERLOADED)
CODE, CODE_NAME = number_of(ROW.code), ROW.code.name
TEXT = str(OVERLOADED).encode()


class OverloadRefusals:
    """Refuses calls, in any thread; what the log says of how many there are may miss a few.

    Args:
        write_line: writes a line of the log.
        counts: where the calls are counted.
    """

    def __init__(self, write_line: WriteLine, counts: CallCounts) -> None:
        self._write_line = write_line
        self._counts = counts
        self._prepared = prepare(Overloaded(retry_after_ms=LONG_RETRY_AFTER_MS))
        self._status = status_without_request_id(OVERLOADED)
        self._refused: dict[str, int] = {}
        self._told_s = 0.0

    def refuse(self, method: str, metadata: Metadata) -> Refusal:
        """What a call is answered.

        Args:
            method: its full name, such as `storekeep.v1.OrderService/PlaceOrder`.
            metadata: what came with it.
        """
        self._counts.refuse(method, CODE_NAME, ROW.reason)
        self._refused[method] = refused = self._refused.get(method, 0) + 1
        now_s = time.monotonic()
        if now_s - self._told_s > LINE_EVERY_S:
            self._told_s = now_s
            self._tell()
        if refused > IDENTIFIED_MAX:
            return self._prepared
        request_id = request_id_of(metadata)
        details = self._status + request_info_head(len(request_id)) + request_id.encode()
        return Refusal(CODE, TEXT, (("x-request-id", request_id), (DETAILS_KEY, details)))

    def _tell(self) -> None:
        refused, self._refused = self._refused, {}
        for method, calls in refused.items():
            fields = {"message": "calls refused", "method": method, "reason": ROW.reason, "calls": calls}
            self._write_line(fields, level=ROW.level)


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
    details = ((DETAILS_KEY, status_without_request_id(error)),)
    return Refusal(number_of(row_of(error).code), str(error).encode(), details)


@cache
def request_info_head(length: int) -> bytes:
    """All of the details with an id of so many bytes but the id, with which they end."""
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RequestInfo(request_id="-" * length))
    return bytes(status_pb2.Status(details=[packed]).SerializeToString()[:-length])
