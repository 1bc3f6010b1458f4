"""Server reflection, v1alpha and v1, which tools such as grpcurl use to read the contract. Needs no authentication.

Requests are answered in the polling thread, from a cache of responses. A stream that a tool leaves open occupies no
thread and little memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from storekeep.server.transport.call_statuses import MALFORMED, TOO_LARGE
from storekeep.server.transport.streams import StreamCall

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"
"""The same messages under a new name; grpcio-reflection only has v1alpha."""
METHOD = "ServerReflectionInfo"
PATHS = tuple(f"/{service}/{METHOD}" for service in (V1ALPHA, V1))
RESPONSES_MAX = 256
"""Most cached responses, of up to 40 KiB each. The contract has about as many symbols that tools request."""
REQUEST_BYTES_MAX = 4096
"""Largest request. A symbol has about 60 bytes; a response repeats its request."""


class Reflection(reflection.ReflectionServicer):  # type: ignore[misc]  # grpc_reflection comes without types
    """Answers reflection requests of all streams; a `StreamService`.

    Args:
        services: full names of the services to describe.
    """

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__([*services, V1ALPHA, V1])
        self._respond = lru_cache(RESPONSES_MAX)(self._make_response)

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        """Return the file of a symbol. Python's pool does not find methods, so their service is looked up instead."""
        response = super()._file_containing_symbol(request, fully_qualified_name)
        service, dot, name = fully_qualified_name.rpartition(".")
        if not dot or not response.HasField("error_response"):
            return response
        try:
            method = self._pool.FindServiceByName(service).FindMethodByName(name)
        except KeyError:
            return response
        return response if method is None else super()._file_containing_symbol(request, service)

    def _make_response(self, raw_request: bytes) -> bytes:
        request = reflection_pb2.ServerReflectionRequest.FromString(raw_request)
        (response,) = self.ServerReflectionInfo(iter([request]), None)
        return bytes(response.SerializeToString())

    # -- as a StreamService

    def on_message(self, call: StreamCall, message: bytes | None) -> None:
        """Answer a request, or end the stream after the last one."""
        if message is None:
            call.end()
        elif len(message) > REQUEST_BYTES_MAX:
            call.end(TOO_LARGE)
        else:
            try:
                call.send(self._respond(message))
            except DecodeError:
                call.end(MALFORMED)

    def on_sent(self, call: StreamCall) -> None:
        """Request the next message, only after the response was sent."""
        call.request_message()

    def on_end(self, call: StreamCall) -> None:
        """Do nothing: streams have no state."""


def add_reflection(server: grpc.Server, servicer: Reflection) -> None:
    """Register the servicer with gRPC. These handlers serve streams only if `polling` does not support grpcio."""

    def reflect(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from servicer.ServerReflectionInfo(requests, context)

    handlers = {
        METHOD: grpc.stream_stream_rpc_method_handler(
            reflect,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    for name in (V1ALPHA, V1):
        server.add_registered_method_handlers(name, handlers)
