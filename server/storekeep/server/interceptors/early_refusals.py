"""Refusals of calls that end before they are served: their request does not come, or there is no such method.

Whoever sends these has shown no token, and there may be very many. So they are counted one by one, but logged once a
second in one line for all of a kind, and only the first of a second name their request.
"""

from __future__ import annotations

import time

from storekeep.server.interceptors.error_table import row_of
from storekeep.server.interceptors.errors import DETAILS_KEY
from storekeep.server.interceptors.overload import (
    IDENTIFIED_MAX,
    LINE_EVERY_S,
    OVERLOADED,
    prepare,
    request_id_of,
    request_info_head,
    status_without_request_id,
)
from storekeep.server.interceptors.request_log import WriteLine
from storekeep.server.store.errors import ShuttingDown
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.errors import MetadataTooLarge, RequestIncomplete, UnknownMethod
from storekeep.server.transport.unary import Metadata, Refusal

INCOMPLETE, TOO_LARGE, STOPPING, UNKNOWN = RequestIncomplete(), MetadataTooLarge(), ShuttingDown(), UnknownMethod()
PREPARED: dict[Exception, Refusal] = {
    error: prepare(error) for error in (INCOMPLETE, OVERLOADED, TOO_LARGE, STOPPING, UNKNOWN)
}
UNKNOWN_METHOD = "unknown"
"""What all methods that do not exist are called in the log and in the counts: their names are the caller's."""


class EarlyRefusals:
    """Refuses such calls, in the polling thread alone.

    Args:
        write_line: writes a line of the log.
        counts: where the calls are counted.
    """

    def __init__(self, write_line: WriteLine, counts: CallCounts) -> None:
        self._write_line = write_line
        self._counts = counts
        self._unknown_status = status_without_request_id(UNKNOWN)
        self._refused: dict[tuple[str, str, int], int] = {}
        self._told_s = 0.0

    def late(self, path: str) -> Refusal:
        """Refuse a call whose request did not arrive in time."""
        return self._refuse(path, INCOMPLETE)

    def crowded_out(self, path: str) -> Refusal:
        """Refuse a call or a stream of the address that holds most, as the budget is used up."""
        return self._refuse(path, OVERLOADED)

    def metadata_too_large(self, path: str) -> Refusal:
        """Refuse a call whose metadata have too many bytes."""
        return self._refuse(path, TOO_LARGE)

    def stopping(self, path: str) -> Refusal:
        """Refuse a call whose request is not there yet when the server stops."""
        return self._refuse(path, STOPPING)

    def unknown(self, metadata: Metadata) -> Refusal:
        """Refuse a call of a method that does not exist."""
        refusal, refused = self._count(UNKNOWN_METHOD, UNKNOWN)
        if refused > IDENTIFIED_MAX:
            return refusal
        request_id = request_id_of(metadata)
        details = self._unknown_status + request_info_head(len(request_id)) + request_id.encode()
        return Refusal(refusal.code, refusal.text, (("x-request-id", request_id), (DETAILS_KEY, details)))

    def _refuse(self, path: str, error: Exception) -> Refusal:
        return self._count(path.removeprefix("/") or UNKNOWN_METHOD, error)[0]

    def _count(self, method: str, error: Exception) -> tuple[Refusal, int]:
        """Count a refusal; return what the call is told without an id, and how many of this kind there were lately."""
        row = row_of(error)
        self._counts.refuse(method, row.code.name, row.reason)
        kind = (method, row.reason, row.level)
        self._refused[kind] = refused = self._refused.get(kind, 0) + 1
        now_s = time.monotonic()
        if now_s - self._told_s > LINE_EVERY_S:
            self._told_s = now_s
            self._tell()
        return PREPARED[error], refused

    def _tell(self) -> None:
        told, self._refused = self._refused, {}
        for (method, reason, level), calls in told.items():
            fields = {"message": "calls refused", "method": method, "reason": reason, "calls": calls}
            self._write_line(fields, level=level)
