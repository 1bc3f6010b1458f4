"""Reflection, v1alpha and v1: what tools such as grpcurl ask a server for its contract. Needs no token.

Each question is answered in the polling thread, from answers that are made once: a stream that a tool leaves open holds
neither a thread nor anything but itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from storekeep.server.transport.streams import StreamCall
from storekeep.server.transport.unary import Refusal, number_of

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"
"""The same messages under a new name; grpcio-reflection has only the old one."""
METHOD = "ServerReflectionInfo"
PATHS = tuple(f"/{service}/{METHOD}" for service in (V1ALPHA, V1))
ANSWERS_MAX = 256
"""Answers that are kept, of some 40 KiB each at most: the contract has about as many symbols that tools ask for."""
QUESTION_BYTES_MAX = 4096
"""Of one question: a symbol has some 60 bytes, and an answer repeats the question."""
MALFORMED = Refusal(number_of(grpc.StatusCode.INVALID_ARGUMENT), b"the request does not parse", ())
TOO_LARGE = Refusal(number_of(grpc.StatusCode.RESOURCE_EXHAUSTED), b"the request is too large", ())


class Reflection(reflection.ReflectionServicer):  # type: ignore[misc]  # grpc_reflection comes without types
    """Answers the questions of all streams; a `StreamService`.

    Args:
        services: full names of what can be asked for.
    """

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__([*services, V1ALPHA, V1])
        self._answer = lru_cache(ANSWERS_MAX)(self._make_answer)

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        """The file of a symbol; of a method it is that of its service, which Python's descriptors do not find."""
        answer = super()._file_containing_symbol(request, fully_qualified_name)
        service, dot, method = fully_qualified_name.rpartition(".")
        if not dot or not answer.HasField("error_response"):
            return answer
        try:
            found = self._pool.FindServiceByName(service).FindMethodByName(method)
        except KeyError:
            return answer
        return answer if found is None else super()._file_containing_symbol(request, service)

    def _make_answer(self, question: bytes) -> bytes:
        request = reflection_pb2.ServerReflectionRequest.FromString(question)
        (answer,) = self.ServerReflectionInfo(iter([request]), None)
        return bytes(answer.SerializeToString())

    # -- as a StreamService

    def receive(self, call: StreamCall, message: bytes | None) -> None:
        """Answer a question, or end the stream where there are no more."""
        if message is None:
            call.end()
        elif len(message) > QUESTION_BYTES_MAX:
            call.end(TOO_LARGE)
        else:
            try:
                call.send(self._answer(message))
            except DecodeError:
                call.end(MALFORMED)

    def sent(self, call: StreamCall) -> None:
        """Ask for the next question; before its answer is sent nobody is asked for more."""
        call.ask()

    def ended(self, call: StreamCall) -> None:
        """Nothing is kept of a stream."""


def add_reflection(server: grpc.Server, servicer: Reflection) -> None:
    """Have gRPC know of it; where `polling` knows grpcio, it serves the streams instead of these handlers."""

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
