"""The outermost layer: creates the `Rpc`, counts the call and writes one log line when it ends.

A call that is checked in one thread and served in another is one call with one line.
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
from storekeep.server.telemetry.traces import CallSpan, Tracer, Value
from storekeep.server.transport.rpc import CURRENT, CheckedCall, Method, Rpc

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TRACEPARENT = re.compile(
    r"(?!ff|00.{53}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""W3C Trace Context: version 00 has four fields, later versions start with them; `ff` and all-zero ids are invalid."""
PEER = "x-storekeep-peer"
"""Metadata key of the original peer of a forwarded call."""
TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})
KNOWN_METADATA = TRACE_CONTEXT | {"authorization", "x-request-id", PEER, "accept-language"}
"""The metadata keys that the server reads."""
DEADLINE_MAX_S = 86_400.0
"""Longer deadlines count as no deadline."""
OK = grpc.StatusCode.OK


class WriteLine(Protocol):
    """Writes one log line; must not block or raise."""

    def __call__(self, fields: dict[str, Any], *, level: int) -> None:
        """Write the fields as one line at this level."""


class WriteCallLine(Protocol):
    """Writes the log line of one call; must not block or raise."""

    def __call__(self, line: Line, *, level: int) -> None:
        """Write the line at this level."""


class CallLine(Line, kw_only=True):
    """The log line of a call. It contains nothing of the request and no credential."""

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
    replayed: bool | msgspec.UnsetType


class RequestLog:
    """The layer that logs and counts calls.

    Args:
        write_line: Writes a log line.
        counts: Counts the calls.
        trusts_sockets: Whether peers on a Unix socket are workers of this server, which may set the `PEER` metadata.
        tracer: Traces the calls; None if they are not traced.
    """

    def __init__(
        self, write_line: WriteCallLine, counts: CallCounts, *, trusts_sockets: bool, tracer: Tracer | None
    ) -> None:
        self._tracer = tracer
        self._write_line = write_line
        self._counts = counts
        self._trusts_sockets = trusts_sockets

    def __call__(self, method: Method, serve: Step) -> Callable[[Any, grpc.ServicerContext], Any]:
        """Wrap a whole call, or its checks only: they return a `CheckedCall` if another thread continues the call."""
        counts, trusts_sockets, tracer = self._counts, self._trusts_sockets, self._tracer

        def log_call(request: Any, context: grpc.ServicerContext) -> Any:
            started_ns = time.perf_counter_ns()
            counts.begin()
            rpc = receive_call(method, context, trusts_sockets=trusts_sockets)
            rpc.started_ns = started_ns
            if tracer is not None:
                _start_span(rpc, tracer)
            token = CURRENT.set(rpc)
            continues = False
            try:
                reply = serve(request, context, rpc)
                continues = type(reply) is CheckedCall
                return reply
            finally:
                CURRENT.reset(token)
                if not continues:
                    self._end(rpc)

        return log_call

    def resume(self, serve: Step) -> Callable[[CheckedCall, grpc.ServicerContext], Any]:
        """Wrap the part of a call after its checks."""

        def log_call(checked: CheckedCall, context: grpc.ServicerContext) -> Any:
            request, rpc = checked
            token = CURRENT.set(rpc)
            try:
                return serve(request, context, rpc)
            finally:
                CURRENT.reset(token)
                self._end(rpc)

        return log_call

    def _end(self, rpc: Rpc) -> None:
        duration_us = (time.perf_counter_ns() - rpc.started_ns) // 1000
        code = "OK" if rpc.code is OK else rpc.code.name
        if rpc.answered_by_leader:
            self._counts.forward()
        else:
            self._counts.end(rpc.method, code, rpc.reason, duration_us)
        if rpc.span is not None and self._tracer is not None:  # after the count: an exemplar is sent with counted calls
            _end_span(rpc, rpc.span, self._tracer, code=code, duration_us=duration_us)
        if rpc.answered_by_leader:
            return
        if rpc.replayed:
            self._counts.replay()
        self._write_line(build_call_line(rpc, code=code, duration_us=duration_us), level=rpc.level)


def request_log(
    write_line: WriteCallLine,
    counts: CallCounts | None = None,
    *,
    trusts_sockets: bool = False,
    tracer: Tracer | None = None,
) -> RequestLog:
    """Return the layer; see `RequestLog`."""
    return RequestLog(write_line, counts or CallCounts(), trusts_sockets=trusts_sockets, tracer=tracer)


def _read_trace_context(rpc: Rpc, key: str, value: str) -> None:
    if key == "tracestate":
        if value.isascii() and value.isprintable():  # a forwarded call cannot carry anything else
            rpc.tracestate = f"{rpc.tracestate},{value}" if rpc.tracestate else value
    elif match := TRACEPARENT.fullmatch(value):
        rpc.traceparent, rpc.trace_id = value, match[1]


def _start_span(rpc: Rpc, tracer: Tracer) -> None:
    rpc.span = tracer.start(rpc.traceparent, rpc.tracestate, is_forwarded=rpc.forwarded)
    if rpc.span is not None:
        rpc.trace_id = rpc.span.trace_id


def _end_span(rpc: Rpc, span: CallSpan, tracer: Tracer, *, code: str, duration_us: int) -> None:
    """End the span of a call; if it was forwarded, only the leader's has an exemplar, as it counts the call."""
    attributes: dict[str, Value] = {"storekeep.request_id": rpc.request_id}
    if rpc.answered_by_leader:
        attributes["storekeep.forwarded"] = True
    if rpc.replayed:
        attributes["storekeep.replayed"] = True
    tracer.end(span, method=rpc.method, code=code, reason=rpc.reason, duration_us=duration_us, attributes=attributes)


def receive_call(method: Method, context: grpc.ServicerContext, *, trusts_sockets: bool = False) -> Rpc:
    """Create the `Rpc` of a call from its metadata and deadline."""
    rpc = Rpc(method.name, "", peer=context.peer())
    from_worker = trusts_sockets and rpc.peer.startswith("unix:")  # only other workers can reach the socket
    for key, value in context.invocation_metadata():
        if key not in KNOWN_METADATA or isinstance(value, bytes):
            continue
        if key == "authorization":  # joined as RFC 9110, 5.3 defines; no token contains a comma
            rpc.authorization = value if rpc.authorization is None else f"{rpc.authorization}, {value}"
        elif key == "x-request-id" and REQUEST_ID.fullmatch(value):
            rpc.request_id = value
        elif key == PEER and from_worker:
            rpc.peer, rpc.forwarded = value, True
        elif key in TRACE_CONTEXT:
            _read_trace_context(rpc, key, value)
        elif key == "accept-language":
            rpc.accept_language = f"{rpc.accept_language},{value}" if rpc.accept_language else value
    if not rpc.request_id:
        rpc.request_id = str(uuid_utils.uuid7())
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s < DEADLINE_MAX_S:
        rpc.deadline_s = remaining_s
        rpc.deadline = time.monotonic() + remaining_s
    return rpc


def build_call_line(rpc: Rpc, *, code: str, duration_us: int) -> CallLine:
    """Return the log line of a call; `code` is the name of its status code."""
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
        replayed=rpc.replayed or msgspec.UNSET,
    )
