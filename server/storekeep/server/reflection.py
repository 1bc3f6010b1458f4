"""Reflection, v1alpha and v1: what tools such as grpcurl ask a server for its contract. Needs no token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"
"""The same messages under a new name; grpcio-reflection has only the old one."""


def add_reflection(server: grpc.Server, services: Iterable[str], *, pool: ThreadPoolExecutor) -> None:
    """Serve it.

    Args:
        services: full names of what can be asked for.
        pool: where it runs; a stream that a tool leaves open holds a thread, which must not be one for calls.
    """
    servicer = reflection.ReflectionServicer([*services, V1ALPHA, V1])

    def reflect(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from servicer.ServerReflectionInfo(requests, context)

    reflect.experimental_thread_pool = pool  # type: ignore[attr-defined]  # read by grpc
    handlers = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            reflect,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    generic = [grpc.method_handlers_generic_handler(name, handlers) for name in (V1ALPHA, V1)]
    server.add_generic_rpc_handlers(generic)
