"""Server streams in tests that call every RPC alike: the first response is the reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from storekeep.v1 import events_pb2

STREAMS = frozenset(
    f"/{service.full_name}/{method.name}"
    for service in events_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.server_streaming
)
"""The gRPC paths of the server streams of the contract."""


def open_method(channel: grpc.Channel, path: str, **serializers: Any) -> Callable[..., Any]:
    """Return a function that calls a method of any kind; of a stream it returns the first response and ends it."""
    if path not in STREAMS:
        return channel.unary_unary(path, **serializers)
    method = channel.unary_stream(path, **serializers)

    def call(request: Any, **options: Any) -> Any:
        stream = method(request, **options)
        try:
            return next(stream)
        finally:
            stream.cancel()

    return call
