"""The outermost layer: makes the `Rpc`; counts it and writes one log line when it is over, however it ends.

A call that is checked in one thread and served in another is one call: it is over when either has ended it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import msgspec
import uuid_utils

from storekeep.server.interceptors.chain import Step
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.telemetry.logs import Line
from storekeep.server.transport.rpc import CURRENT, Checked, Method, Rpc

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TRACEPARENT = re.compile(
    r"(?!ff|00.{53}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""W3C Trace Context: version 00 has four fields, a later one begins with them; `ff` and ids of zeros are none."""
PEER = "x-storekeep-peer"
"""The metadata by which a worker says whose call it forwards."""
KNOWN_METADATA = frozenset({"authorization", "x-request-id", PEER, "traceparent"})
"""All that is read of what comes with a call."""
DEADLINE_MAX_S = 86_400.0
"""A caller that waits longer waits for ever, as far as deadlines go."""
OK = grpc.StatusCode.OK


class WriteLine(Protocol):
    """Writes one line; must not block, nor raise."""

    def __call__(self, fields: dict[str, Any], *, level: int) -> None:
        """Write the fields as one line of this level."""


class WriteCallLine(Protocol):
    """Writes the line of one call; must not block, nor raise."""

    def __call__(self, line: Line, *, level: int) -> None:
        """Write it at this level."""


class CallLine(Line, kw_only=True):
    """What the log says of a call that is over. Nothing of the request's content, and never a credential."""

    message: str = "rpc"
    method: str
    code: str
    reason: str
    duration_us: int
    caller: str
    api_key: str
    lookup_id: str | msgspec.UnsetType
    session_id: str | msgspec.UnsetType
    peer: str
    request_id: str
    trace_id: str
    deadline_left_ms: int | None


class RequestLog:
    """The layer.

    Args:
        write_line: writes a line.
        counts: where calls are counted.
        trusts_sockets: whether whoever calls over a Unix socket may say whose call it is, as workers of one server do.
    """

    def __init__(self, write_line: WriteCallLine, counts: CallCounts, *, trusts_sockets: bool) -> None:
        self._write_line = write_line
        self._counts = counts
        self._trusts_sockets = trusts_sockets

    def __call__(self, method: Method, serve: Step) -> Callable[[Any, grpc.ServicerContext], Any]:
        """Wrap the whole of a call, or its checks: what they give for a call that goes on is a `Checked`."""
        counts, trusts_sockets = self._counts, self._trusts_sockets

        def logged(request: Any, context: grpc.ServicerContext) -> Any:
            started_ns = time.perf_counter_ns()
            counts.begin()
            rpc = receive(method, context, trusts_sockets=trusts_sockets)
            rpc.started_ns = started_ns
            token = CURRENT.set(rpc)
            goes_on = False
            try:
                reply = serve(request, context, rpc)
                goes_on = type(reply) is Checked
                return reply
            finally:
                CURRENT.reset(token)
                if not goes_on:
                    self._end(rpc)

        return logged

    def resume(self, serve: Step) -> Callable[[Checked, grpc.ServicerContext], Any]:
        """Wrap what is done with a call after its checks."""

        def logged(checked: Checked, context: grpc.ServicerContext) -> Any:
            request, rpc = checked
            token = CURRENT.set(rpc)
            try:
                return serve(request, context, rpc)
            finally:
                CURRENT.reset(token)
                self._end(rpc)

        return logged

    def _end(self, rpc: Rpc) -> None:
        if rpc.answered_by_leader:
            self._counts.forward()
            return
        duration_us = (time.perf_counter_ns() - rpc.started_ns) // 1000
        code = "OK" if rpc.code is OK else rpc.code.name
        self._counts.end(rpc.method, code, rpc.reason, duration_us)
        self._write_line(line_of(rpc, code=code, duration_us=duration_us), level=rpc.level)


def request_log(
    write_line: WriteCallLine, counts: CallCounts | None = None, *, trusts_sockets: bool = False
) -> RequestLog:
    """The layer, given what writes a line, and where calls are counted; see `RequestLog`."""
    return RequestLog(write_line, counts or CallCounts(), trusts_sockets=trusts_sockets)


def receive(method: Method, context: grpc.ServicerContext, *, trusts_sockets: bool = False) -> Rpc:
    """What the call's metadata and deadline say about it."""
    rpc = Rpc(method.name, "", peer=context.peer())
    from_worker = trusts_sockets and rpc.peer.startswith("unix:")  # nobody but other workers reaches its socket
    for key, value in context.invocation_metadata():
        if key not in KNOWN_METADATA or isinstance(value, bytes):
            continue
        if key == "authorization":  # two of them become one list, as RFC 9110, 5.3 has it, and no token has a comma
            rpc.authorization = value if rpc.authorization is None else f"{rpc.authorization}, {value}"
        elif key == "x-request-id" and REQUEST_ID.fullmatch(value):
            rpc.request_id = value
        elif key == PEER and from_worker:
            rpc.peer, rpc.forwarded = value, True
        elif key == "traceparent" and (match := TRACEPARENT.fullmatch(value)):
            rpc.trace_id = match[1]
    if not rpc.request_id:
        rpc.request_id = str(uuid_utils.uuid7())
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s < DEADLINE_MAX_S:
        rpc.deadline_s = remaining_s
        rpc.deadline = time.monotonic() + remaining_s
    return rpc


def line_of(rpc: Rpc, *, code: str, duration_us: int) -> CallLine:
    """Return what the log says of a call that is over; `code` is the name of its status."""
    return CallLine(
        method=rpc.method,
        code=code,
        reason=rpc.reason,
        duration_us=duration_us,
        caller=rpc.caller.subject,
        api_key=rpc.caller.api_key,
        lookup_id=rpc.lookup_id or msgspec.UNSET,
        session_id=rpc.session_id or msgspec.UNSET,
        peer=rpc.peer,
        request_id=rpc.request_id,
        trace_id=rpc.trace_id,
        deadline_left_ms=None if rpc.deadline is None else round((rpc.deadline - time.monotonic()) * 1000),
    )
