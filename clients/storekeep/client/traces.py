"""Traces of the calls of a program that uses OpenTelemetry: a span for each attempt, which the server's span continues.

Spans hold the method, the address and the outcome, and nothing of a request or a credential. The SDK and its settings
are the program's. A program without OpenTelemetry imports nothing of it, and its calls cost nothing more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import grpc

API = "opentelemetry.trace"
"""The module that every program with OpenTelemetry has imported."""


def trace_calls(channel: grpc.Channel, *, address: str) -> grpc.Channel:
    """Return a channel whose unary calls are traced, if the program has imported OpenTelemetry; else the channel.

    Args:
        channel: the channel to the server.
        address: the address of the server.
    """
    if API not in sys.modules:
        return channel
    return grpc.intercept_channel(channel, _Tracing(address))


class _CallDetails(grpc.ClientCallDetails):
    """The details of a call with more metadata."""

    def __init__(self, details: grpc.ClientCallDetails, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = metadata
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class _Tracing(grpc.UnaryUnaryClientInterceptor):
    """Begins a span for each unary call and sends its `traceparent`."""

    def __init__(self, address: str) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._tracer = trace.get_tracer("storekeep.client")
        self._propagator = TraceContextTextMapPropagator()
        host, _, port = address.rpartition(":")
        self._attributes: dict[str, str | int] = {"rpc.system.name": "grpc", "server.address": host or address}
        if host and port.isdecimal():
            self._attributes["server.port"] = int(port)

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Send a call within a span."""
        method = client_call_details.method
        name = (method.decode() if isinstance(method, bytes) else method).removeprefix("/")
        attributes = {**self._attributes, "rpc.method": name}
        with self._tracer.start_as_current_span(name, kind=self._trace.SpanKind.CLIENT, attributes=attributes) as span:
            sent: dict[str, str] = {}
            self._propagator.inject(sent)
            metadata = (*(client_call_details.metadata or ()), *sent.items())
            call = continuation(_CallDetails(client_call_details, metadata), request)
            code = call.code()
            span.set_attribute("rpc.response.status_code", code.name)
            if code is not grpc.StatusCode.OK:
                span.set_attribute("error.type", code.name)
                span.set_status(self._trace.StatusCode.ERROR)
            return call
